"""Table 1 of the thesis (Leow 2021): accuracy on MFCC.

  python -m ser_jax.reproduce --table=configs/tables/dat_table1.py \
      --corpus=emodb --raw=DIR --seeds=5

Four depths of the CNN, each without the adversary and with three gammas.
"""

from configs.tables import rows


def get_table(corpus: str) -> dict:
  """Sixteen cells; corpora emodb and ravdess."""
  return rows.dat_cells("Leow 2021, Table 1: MFCC", "mfcc", corpus)
