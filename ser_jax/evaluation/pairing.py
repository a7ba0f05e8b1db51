"""Rows of a table against each other: what all kinds of tables share."""

from collections.abc import Callable, Iterable
from typing import TypeVar

import numpy as np

from ser_jax.evaluation import conditions, statistics
from ser_jax.evaluation.markdown import folds

NOTES = """\
p: paired permutation test over folds, of the difference of means. Seeds of a
fold test the same speakers, so each fold counts once, by its mean. With a
single fold the test is over seeds and says nothing of other speakers. With n
pairs it is at least 2 / 2^n: .25 for three, .0625 for five. Then Holm's for all
tests above.
"""
Run = tuple[str, int]  # fold and seed
# A figure by fold and seed.
Values = dict[Run, float]
Part = TypeVar("Part")


def measured(row: dict, report: dict | None) -> dict:
  """What a table tells of a row, whatever its figures.

  Args:
    row: see `configs/tables/rows.py`.
    report: see `conditions.read`; None if there is none yet.

  Returns:
    The row's name, label and place, and of the report its size, its seconds,
    its command and its conditions.
  """
  entry = {
    key: row[key] for key in ("name", "label", "paper", "against", "curve", "x")
  }
  if report is None:
    return entry
  return (
    entry
    | conditions.told(row, report)
    | {
      "folds": report["folds"],
      "seeds": report["seeds"],
      "size": f"{folds(report)} × {report['seeds']}"
      + (f" less {len(lost)}" if (lost := report.get("diverged")) else ""),
      "seconds": sum(run["seconds"] for run in report["runs"]),
      "command": report["command"],
    }
  )


def against(ours: dict, theirs: dict, values: Callable[[dict], Values]) -> dict:
  """A row against another, if both were measured under the same conditions.

  Args:
    ours: see `conditions.read`.
    theirs: of the row that it is tested against.
    values: from such a report to its figures.

  Returns:
    See `paired`; further `runs_of_both`, how many runs both rows have, where
    these are not all that each of them has; if conditions differ, in what they
    `differ` alone.
  """
  differ = conditions.differ(ours, theirs)
  if differ:
    return {"differ": differ}
  mine, others = values(ours), values(theirs)
  fixed = not theirs["epochs"]
  pairs = both(mine, others, fixed=fixed)
  found = paired(
    {run: value for run, (value, _) in pairs.items()},
    {run: value for run, (_, value) in pairs.items()},
  )
  lacking = _parts(pairs, fixed) != _parts(others, fixed)
  if pairs and (lacking or len(pairs) < len(mine)):
    found["runs_of_both"] = len(pairs)
  return found


def _parts(runs: Iterable[Run], fixed: bool) -> set:
  """What tells runs apart: of a row that seeds do not change, folds alone."""
  return {fold if fixed else (fold, seed) for fold, seed in runs}


def both(
  ours: dict[Run, Part], theirs: dict[Run, Part], *, fixed: bool
) -> dict[Run, tuple[Part, Part]]:
  """What two rows have of the runs that both have.

  Args:
    ours: by fold and seed.
    theirs: the same.
    fixed: whether theirs is a baseline: what it says, it says whatever the
      seed.

  Returns:
    By run, ours and theirs.
  """
  if fixed:
    of_fold = {fold: part for (fold, _), part in theirs.items()}
    theirs = {(f, seed): of_fold[f] for f, seed in ours if f in of_fold}
  return {
    run: (ours[run], theirs[run]) for run in sorted(ours.keys() & theirs.keys())
  }


def paired(ours: Values, theirs: Values) -> dict:
  """The difference over the runs that both have, if there are at least two.

  The seeds of a fold test the same speakers, and are not independent: each fold
  counts once, by its mean over seeds. A single fold leaves but its seeds.

  Args:
    ours: of the row.
    theirs: of the row that it is tested against.

  Returns:
    `pairs`, the folds (or seeds of the one fold) of a paired permutation test,
    its `p`, and the mean `difference`; or nothing.
  """
  by_fold = {}
  for fold, seed in sorted(ours.keys() & theirs.keys()):
    difference = ours[fold, seed] - theirs[fold, seed]
    by_fold.setdefault(fold, []).append(difference)
  differences = list(by_fold.values())
  if len(differences) == 1:
    differences = differences[0]
  else:
    differences = [np.mean(of_fold) for of_fold in differences]
  if len(differences) < 2:
    return {}
  return {
    "pairs": len(differences),
    "difference": float(np.mean(differences)),
    "p": statistics.paired_permutation(np.array(differences)),
  }


def correct(entries: list[dict]) -> None:
  """Adds `p_holm` to every row with a `p`: Holm's, for all tests of a table."""
  tested = [entry for entry in entries if "p" in entry]
  corrected = statistics.holm(np.array([entry["p"] for entry in tested]))
  for entry, p in zip(tested, corrected, strict=True):
    entry["p_holm"] = float(p)
