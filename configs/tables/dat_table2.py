"""Table 2 of the thesis (Leow 2021): accuracy on log-mel spectra.

  python -m ser_jax.reproduce --table=configs/tables/dat_table2.py \
      --corpus=emodb --raw=DIR --seeds=5

Four depths of the CNN, each without the adversary and with three gammas.
"""

from configs.tables import rows


def get_table(corpus: str) -> dict:
  """Sixteen cells; corpora emodb and ravdess."""
  return rows.dat_cells("Leow 2021, Table 2: log-mel spectra", "lms", corpus)
