"""This project's own system on the thesis' folds, and what its parts bring.

  python -m ser_jax.reproduce --table=configs/tables/dat_best.py \
      --corpus=emodb --raw=DIR --seeds=5 --set=steps_per_execution=8

Either normalisation, by the training part and by speaker (transductive), has
its own rows: `best` is tested against the linear SVM on IS13's functionals that
is normalised as it is, and what lacks a part of it against `best`.
"""

from configs import dat
from configs.tables import rows

SVM = "is13_functionals"
PANELS = ("training part", "by speaker")
LABELS = {
  "no_copies,no_course": "without either",
  "no_course": "without the course",
  "no_copies": "without copies",
  "": "best",
}


def get_table(corpus: str) -> dict:
  """Four rows for either normalisation; corpora emodb and ravdess."""
  cells = [
    _row(without, by_speaker, corpus)
    for by_speaker in (False, True)
    for without in LABELS
  ]
  # Of shards without copies, which the baselines have no use for.
  plain = dat.get_config(f"best,no_copies,{corpus}")
  yardsticks = rows.baselines(plain, (SVM,), by_speaker=True)
  for row in yardsticks[1:]:
    row["panel"] = PANELS["normalize" in row]
  return {
    "title": "Functionals and courses on the folds of Leow 2021",
    "paper_corpus": corpus,
    "metric": "uar",
    "rows": [*yardsticks, *cells],
    "x": "system",
  }


def _row(without: str, by_speaker: bool, corpus: str) -> dict:
  normalize = "by_speaker" if by_speaker else ""
  words = ("best", without, normalize, corpus)
  config = dat.get_config(",".join(filter(None, words)))
  label = LABELS[without] + (", by speaker" if by_speaker else "")
  svm = f"svm-{SVM}" + ("-by_speaker" if by_speaker else "")
  best = "best" + ("-by_speaker" if by_speaker else "")
  return {
    "name": config.variant,
    "label": label,
    "config": config,
    "paper": None,
    "against": best if without else svm,
    "curve": PANELS[by_speaker],
    "x": LABELS[without],
  }
