"""Table 3 of the thesis (Leow 2021): its encoder and two others, with DAT.

  python -m ser_jax.reproduce --table=configs/tables/dat_table3.py \
      --corpus=emodb --raw=DIR --seeds=5

The thesis does not say which gamma the other encoders had; every one is run,
and none. Their sizes are this project's.
"""

from configs import dat
from configs.tables import rows

ENCODERS = {
  "tdnn_bilstm": ("mfcc", "MFCC, TDNN with BiLSTM"),
  "cnn_gru": ("logmfb_pitch", "filter bank and pitch, 1D CNN with GRU"),
  "depth1": ("mfcc", "MFCC, 2D CNN with biGRU"),
}


def get_table(corpus: str) -> dict:
  """Twelve rows; corpora emodb and ravdess."""
  cells = [
    rows.dat_row(features, encoder, adversary, corpus, label)
    for encoder, (features, label) in ENCODERS.items()
    for adversary in dat.GAMMAS
  ]
  return {
    "title": "Leow 2021, Table 3: encoders",
    "paper_corpus": corpus,
    "metric": "wa",
    "rows": [*rows.baselines(cells[0]["config"]), *cells],
    "x": "gamma of the reversal",
    "note": rows.AT_48_KHZ if corpus == "ravdess" else "",
  }
