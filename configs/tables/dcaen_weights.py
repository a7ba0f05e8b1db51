"""DCaEN's weight of the cosine, to be chosen on validation speakers.

  python -m ser_jax.reproduce --table=configs/tables/dcaen_weights.py \
      --corpus=emodb --raw=DIR --seeds=3

The paper takes 0.6, and does not say from which; the column `validation` is
what a choice may look at. A weight of 0 is the row e_nc of Table I.
"""

from configs import dcaen
from configs.tables import rows

WEIGHTS = (0.0, 0.2, 0.4, 0.6, 0.8)


def get_table(corpus: str) -> dict:
  """Five weights; every corpus."""
  cells = [_row(weight, corpus) for weight in WEIGHTS]
  svms = rows.baselines(cells[0]["config"], ("egemaps",), by_speaker=True)
  return {
    "title": "DCaEN's weight of the cosine",
    "paper_corpus": "iemocap",
    "metric": "uar",
    "rows": [*svms, *cells],
    "extra": ("validation",),
    "x": "w",
  }


def _row(weight: float, corpus: str) -> dict:
  config = dcaen.get_config(f"{'dcaen' if weight else 'e_nc'},{corpus}")
  config.task.weight = weight
  config.variant = f"w{weight}"
  published = weight in (0.0, 0.6)
  return {
    "name": config.variant,
    "label": f"w = {weight}",
    "config": config,
    "paper": (config.paper.uar, None) if published else None,
    "against": "w0.0" if weight else None,
    "curve": "DCaEN",
    "x": str(weight),
  }
