"""Table I of Huang et al. (DCaEN): nine rows, each against DCaEN.

  python -m ser_jax.reproduce --table=configs/tables/dcaen_table1.py \
      --corpus=emodb --raw=DIR --seeds=3

Functionals are normalised speaker by speaker, test speakers included, as in the
paper: transductive, and so labelled in the reports.
"""

from configs import dcaen
from configs.tables import rows


def get_table(corpus: str) -> dict:
  """Nine rows; every corpus."""
  cells = [
    {
      "name": config.variant,
      "label": config.variant,
      "config": config,
      "paper": (config.paper.uar, None),
      "against": None if config.variant == "dcaen" else "dcaen",
      "curve": "Table I",
      "x": config.variant,
    }
    for config in (dcaen.get_config(f"{row},{corpus}") for row in dcaen.PAPER)
  ]
  return {
    "title": "Huang et al., Table I",
    "paper_corpus": "iemocap",
    "metric": "uar",
    # Of the row on functionals, whose shards are quickly built.
    "rows": [*rows.baselines(cells[1]["config"], ("egemaps",)), *cells],
    "x": "row",
  }
