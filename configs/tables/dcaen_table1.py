"""Table I of Huang et al. (DCaEN): nine rows, each against DCaEN.

  python -m ser_jax.reproduce --table=configs/tables/dcaen_table1.py \
      --corpus=emodb --raw=DIR --seeds=3

Functionals are normalised speaker by speaker, test speakers included, as in the
paper: transductive, and so labelled in the reports. The SVM is measured so too,
and by the training part.
"""

from configs import dcaen
from configs.tables import rows

CLASSES = ("sad", "happy", "angry", "neutral")  # as the paper has them


def get_table(corpus: str) -> dict:
  """Nine rows; every corpus."""
  cells = [_row(name, corpus) for name in dcaen.PAPER]
  # Of the row on functionals, whose shards are quickly built.
  svms = rows.baselines(cells[1]["config"], ("egemaps",), by_speaker=True)
  return {
    "title": "Huang et al., Table I",
    "paper_corpus": "iemocap",
    "metric": "uar",
    "rows": [*svms, *cells],
    "x": "row",
  }


def _row(name: str, corpus: str) -> dict:
  config = dcaen.get_config(f"{name},{corpus}")
  *recalls, uar = dcaen.PAPER[name]
  return {
    "name": name,
    "label": name,
    "config": config,
    "paper": (uar, None),
    "recalls": dict(zip(CLASSES, recalls, strict=True)),
    "against": None if name == "dcaen" else "dcaen",
    "curve": "Table I",
    "x": name,
  }
