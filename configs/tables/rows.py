"""Rows that several tables have: the thesis' cells, and baselines.

A row is a dict: `name` (its folder), `label`, `config`, `paper` (mean and
deviation in per cent; None where there is none), `against` (the row that it is
tested against), `curve` and `x` (its place in the figure; None for a level
line), and `baseline` where no network is trained: `majority`, or a feature set
of functionals for a linear SVM on the config's labels and folds. A baseline's
`panel` is the curve that its line is drawn beside; None for all. With
`normalize` as `speaker` its functionals are normalised by speaker, as those of
the networks are (transductive); else by the training part alone.
"""

from configs import dat

# Of the thesis' tables on RAVDESS, whose recordings are at 48 kHz.
AT_48_KHZ = (
  "The thesis' features of RAVDESS are not ours, going by its snippets: they "
  "load at 48 kHz and take spectra and mel bands as if it were 16 kHz; ours "
  "are of audio at 16 kHz."
)
# openSMILE's sets of functionals.
SVMS = ("egemaps", "is10_functionals", "is13_functionals")


def baselines(
  config, names=SVMS, prefix: str = "", *, by_speaker: bool = False
) -> list[dict]:
  """The majority class, and linear SVMs.

  Args:
    config: whose corpus, labels and protocol are used.
    names: feature sets of functionals.
    prefix: of row names and labels, where a table has several targets.
    by_speaker: whether to have each SVM normalised by speaker too.

  Returns:
    The rows.
  """
  common = {"config": config, "paper": None, "against": None}
  common |= {"curve": None, "x": None, "panel": prefix or None}
  space = f"{prefix}, " if prefix else ""
  dash = f"{prefix}-" if prefix else ""
  return [
    {
      "name": f"{dash}majority",
      "label": f"{space}majority class",
      "baseline": "majority",
      **common,
    },
    *(
      {
        "name": f"{dash}svm-{name}",
        "label": f"{space}linear SVM, {name}",
        "baseline": name,
        **common,
      }
      for name in names
    ),
    *(
      {
        "name": f"{dash}svm-{name}-by_speaker",
        "label": f"{space}linear SVM, {name} by speaker",
        "baseline": name,
        "normalize": "speaker",
        **common,
      }
      for name in (names if by_speaker else ())
    ),
  ]


def dat_cells(title: str, features: str, corpus: str) -> dict:
  """Every depth with every gamma, each against none at that depth.

  Args:
    title: of the table.
    features: `mfcc` or `lms`.
    corpus: `emodb` or `ravdess`.

  Returns:
    The table as `ser_jax.reproduce` reads it.
  """
  rows = [
    dat_row(features, depth, adversary, corpus, f"depth {layers}")
    for depth, layers in dat.DEPTHS.items()
    for adversary in dat.GAMMAS
  ]
  return {
    "title": title,
    "paper_corpus": corpus,
    "metric": "wa",
    "rows": [*baselines(rows[0]["config"]), *rows],
    "x": "gamma of the reversal",
    "note": AT_48_KHZ if corpus == "ravdess" else "",
  }


def dat_row(
  features: str, encoder: str, adversary: str, corpus: str, curve: str
) -> dict:
  """One cell of the thesis' tables, against the one without the adversary."""
  config = dat.get_config(f"{features},{encoder},{adversary},{corpus}")
  gamma = dat.GAMMAS[adversary]
  return {
    "name": config.variant,
    "label": f"{curve}, " + (f"gamma {gamma}" if gamma else "no adversary"),
    "config": config,
    "paper": dat.paper(corpus, features, encoder, adversary),
    "against": f"{features}-{encoder}-plain" if gamma else None,
    "curve": curve,
    "x": str(gamma or "none"),
  }
