"""Rows of a table against each other: what all kinds of tables share."""

import numpy as np

from ser_jax.evaluation import statistics

# A figure by fold and seed.
Values = dict[tuple[str, int], float]


def measured(row: dict, report: dict | None) -> dict:
  """What a table tells of a row, whatever its figures.

  Args:
    row: see `configs/tables/rows.py`.
    report: the content of its `report.json`; None if there is none yet.

  Returns:
    The row's name, label and place, and of the report its size, its seconds
    and its command.
  """
  entry = {k: row[k] for k in ("name", "label", "paper", "curve", "x")}
  if report is None:
    return entry
  return entry | {
    "folds": report["folds"],
    "seeds": report["seeds"],
    "seconds": sum(run["seconds"] for run in report["runs"]),
    "command": report["command"],
  }


def paired(ours: Values, theirs: Values) -> dict:
  """The difference over the runs that both have, if there are at least two.

  Args:
    ours: of the row.
    theirs: of the row that it is tested against.

  Returns:
    `pairs`, `difference` and `p` of a paired permutation test, or nothing.
  """
  shared = sorted(ours.keys() & theirs.keys())
  if len(shared) < 2:
    return {}
  pairs = np.array([[ours[key], theirs[key]] for key in shared])
  return {
    "pairs": len(shared),
    "difference": float((pairs[:, 0] - pairs[:, 1]).mean()),
    "p": statistics.paired_permutation(pairs[:, 0], pairs[:, 1]),
  }


def correct(entries: list[dict]) -> None:
  """Adds `p_holm` to every row with a `p`: Holm's, for all tests of a table."""
  tested = [entry for entry in entries if "p" in entry]
  corrected = statistics.holm(np.array([entry["p"] for entry in tested]))
  for entry, p in zip(tested, corrected, strict=True):
    entry["p_holm"] = float(p)
