"""An LSTM under many optimizers, each at several learning rates.

  python -m ser_jax.reproduce --table=configs/tables/optimizers_lstm.py \
      --corpus=emodb --raw=DIR

Base 1 of DS-LSTM, two layers of 200 units over the frames of MFCC_E_D_A: what
an optimizer makes of a recurrence, under the optimizers, rates and clipping of
configs/tables/optimizers.py.
"""

from configs import ds_lstm
from configs.tables import optimizers


def get_table(corpus: str) -> dict:
  """One row an optimizer; every corpus that configs/ds_lstm.py knows."""
  return optimizers.table(
    "Optimizers: two LSTM layers on MFCC",
    lambda: ds_lstm.get_config(f"base1,{corpus}"),
  )
