"""Table 1 of Parthasarathy et al. 2019: five rows, attribute by attribute.

  python -m ser_jax.reproduce --table=configs/tables/aae_table1.py \
      --corpus=emodb --raw=DIR --seeds=10

On corpora without ratings the classes are the quadrants of the emotion
categories, and dominance is left out. Adversarial rows are tested against the
plain classifier on the same features. On a CPU --set=selection.patience=5 ends
runs that get no better.
"""

from configs import aae
from configs.tables import rows


def get_table(corpus: str) -> dict:
  """Five rows an attribute; every corpus that configs/aae.py knows."""
  attributes = aae.ATTRIBUTES if corpus in aae.RATED else aae.ATTRIBUTES[:2]
  found = []
  for attribute in attributes:
    cells = [_row(name, attribute, corpus) for name in aae.PAPER]
    found += rows.baselines(
      cells[0]["config"], ("is13_functionals",), attribute
    )
    found += cells
  return {
    "title": "Parthasarathy et al. 2019, Table 1",
    "paper_corpus": "iemocap",
    "metric": "uar",
    "rows": found,
    "by": "seed",
    # Of which the paper does not say whether it is the mean recall.
    "published": "unweighted accuracy",
    "x": "row",
  }


def _row(name: str, attribute: str, corpus: str) -> dict:
  config = aae.get_config(f"{name},{attribute},{corpus}")
  base = f"{name.split('_')[0]}_base"
  return {
    "name": config.variant,
    "label": f"{attribute}, {name}",
    "config": config,
    "paper": (config.paper.uar, config.paper.uar_std),
    "against": None if name == base else f"{base}-{attribute}",
    "curve": attribute,
    "x": name,
  }
