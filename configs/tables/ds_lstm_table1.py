"""Table 1 of Wang et al. 2020 (DS-LSTM): eight rows, then the cell's ablations.

  python -m ser_jax.reproduce --table=configs/tables/ds_lstm_table1.py \
      --corpus=emodb --raw=DIR --seeds=3

Two differences are the paper's claims: the dual-sequence cell against two LSTMs
on the same spectrograms (Base 4), and the dual-level model against the average
of three LSTMs on the same inputs (Base 5). Ablations, which the paper does not
have, are of the dual-sequence network alone.

Speakers of the test part are out of training here, as they are not in the
paper: --set=protocol.name=random has them on both sides.
"""

from configs import ds_lstm
from configs.tables import rows

NOTE = (
  "The paper's figures are of five folds with the same speakers in training "
  "and test, which is easier."
)
AGAINST = {"ds_lstm": "base4", "dual": "base5"}


def get_table(corpus: str) -> dict:
  """Twelve rows; every corpus that configs/ds_lstm.py knows."""
  cells = [_row(name, corpus) for name in ds_lstm.PAPER]
  for words in ds_lstm.ABLATIONS.values():
    cells += [_row(f"ds_lstm,{word}", corpus) for word in words]
  return {
    "title": "Wang et al. 2020, Table 1",
    "paper_corpus": "iemocap",
    "metric": "uar",
    "rows": [*rows.baselines(cells[0]["config"], ("egemaps",)), *cells],
    "x": "row",
    "note": NOTE,
    "extra": ("paper_wa",),
  }


def _row(words: str, corpus: str) -> dict:
  config = ds_lstm.get_config(f"{words},{corpus}")
  name, *ablations = words.split(",")
  return {
    "name": config.variant,
    "label": config.variant,
    "config": config,
    "paper": None if ablations else (config.paper.uar, config.paper.uar_std),
    "paper_wa": None if ablations else (config.paper.wa, config.paper.wa_std),
    "against": "ds_lstm" if ablations else AGAINST.get(name),
    "curve": "ablations" if ablations else "Table 1",
    "x": ablations[0] if ablations else name,
  }
