"""What the thesis' code trains, which is not what its text says (Leow 2021).

  python -m ser_jax.reproduce --table=configs/tables/dat_legacy.py \
      --corpus=emodb --raw=DIR --seeds=3

Its code has no reversal: all parameters minimise J_e - lambda J_s, so that the
speaker head maximises its own loss, and a softmax stands before the one of the
cross-entropy, without an adversary as well. Table 1's figures at depth 1 are of
that code: they stand beside these rows, too. The other rows are Table 1's.
"""

from configs import dat
from configs.tables import rows


def get_table(corpus: str) -> dict:
  """Depth 1 on MFCC by both losses; corpora emodb and ravdess."""
  cells = [_row(adversary, corpus, legacy=False) for adversary in dat.GAMMAS]
  cells += [_row(adversary, corpus, legacy=True) for adversary in dat.GAMMAS]
  return {
    "title": "Leow 2021, Table 1: the loss of the text and that of the code",
    "paper_corpus": corpus,
    "metric": "wa",
    "rows": [*rows.baselines(cells[0]["config"]), *cells],
    "x": "gamma",
    "note": rows.AT_48_KHZ if corpus == "ravdess" else "",
  }


def _row(adversary: str, corpus: str, *, legacy: bool) -> dict:
  curve = "the code's loss" if legacy else "the text's loss"
  row = rows.dat_row("mfcc", "depth1", adversary, corpus, curve)
  if not legacy:
    return row
  config = dat.get_config(f"mfcc,depth1,{adversary},{corpus},legacy")
  against = row["against"]
  return row | {
    "name": config.variant,
    "config": config,
    "against": f"{against}-legacy" if against else None,
  }
