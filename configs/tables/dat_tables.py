"""Rows of the thesis' Tables 1 and 2, shared by their two files."""

from configs import dat

# Functionals by openSMILE with a linear SVM, and the most frequent class.
YARDSTICKS = ("majority", "egemaps", "is10_functionals", "is13_functionals")


def cells(title: str, features: str, corpus: str) -> dict:
  """Every depth with every gamma, each against none at that depth.

  Args:
    title: of the table.
    features: `mfcc` or `lms`.
    corpus: `emodb` or `ravdess`.

  Returns:
    The table as `ser_jax.reproduce` reads it.
  """
  rows = []
  for depth, layers in dat.DEPTHS.items():
    for adversary, gamma in dat.GAMMAS.items():
      config = dat.get_config(f"{features},{depth},{adversary},{corpus}")
      rows.append(
        {
          "name": config.variant,
          "label": f"depth {layers}, "
          + (f"gamma {gamma}" if gamma else "no adversary"),
          "config": config,
          "paper": dat.paper(corpus, features, depth, adversary),
          "against": None if gamma is None else f"{features}-{depth}-plain",
          "curve": f"depth {layers}",
          "x": f"{gamma}" if gamma else "none",
        }
      )
  return {
    "title": title,
    "metric": "wa",
    "rows": rows,
    "yardsticks": YARDSTICKS,
    "x": "gamma of the reversal",
  }
