"""Table II of Huang et al. (DCaEN): thresholds of the cosine.

  python -m ser_jax.reproduce --table=configs/tables/dcaen_table2.py \
      --corpus=emodb --raw=DIR --seeds=3

The row without a threshold is the paper's "learnable": the cosine goes as low
as it gets.
"""

from configs import dcaen
from configs.tables import rows


def get_table(corpus: str) -> dict:
  """Four thresholds and none; every corpus."""
  cells = []
  for threshold in (None, *dcaen.THRESHOLDS):
    config = dcaen.get_config(",".join(filter(None, [threshold, corpus])))
    value = dcaen.THRESHOLDS[threshold][0] if threshold else "none"
    cells.append(
      {
        "name": config.variant,
        "label": f"threshold {value}",
        "config": config,
        "paper": (config.paper.uar, None),
        "against": "dcaen" if threshold else None,
        "curve": "Table II",
        "x": str(value),
      }
    )
  svms = rows.baselines(cells[0]["config"], ("egemaps",), by_speaker=True)
  return {
    "title": "Huang et al., Table II",
    "paper_corpus": "iemocap",
    "metric": "uar",
    "rows": [*svms, *cells],
    "x": "threshold",
  }
