"""Table 3 of the thesis (Leow 2021): its encoder and two others, with DAT.

  python -m ser_jax.reproduce --table=configs/tables/dat_table3.py \
      --corpus=emodb --raw=DIR --seeds=5

The thesis does not say which gamma the other encoders had; every one is run,
and none. Their sizes are this project's.
"""

from configs import dat
from configs.tables import dat_tables

LABELS = {
  "tdnn_bilstm": "MFCC, TDNN with BiLSTM",
  "cnn_gru": "log-mel filter bank, energy, pitch; 1D CNN with GRU",
  "depth1": "MFCC, 2D CNN with biGRU",
}


def get_table(corpus: str) -> dict:
  """Twelve rows; corpora emodb and ravdess."""
  rows = []
  for encoder, label in LABELS.items():
    for adversary, gamma in dat.GAMMAS.items():
      config = dat.get_config(f"{encoder},{adversary},{corpus}")
      features = config.data.features.removeprefix("dat_")
      rows.append(
        {
          "name": config.variant,
          "label": f"{label}, "
          + (f"gamma {gamma}" if gamma else "no adversary"),
          "config": config,
          "paper": dat.paper(corpus, features, encoder, adversary),
          "against": f"{features}-{encoder}-plain" if gamma else None,
          "curve": label,
          "x": f"{gamma}" if gamma else "none",
        }
      )
  return {
    "title": "Leow 2021, Table 3: encoders",
    "metric": "wa",
    "rows": rows,
    "yardsticks": dat_tables.YARDSTICKS,
    "x": "gamma of the reversal",
  }
