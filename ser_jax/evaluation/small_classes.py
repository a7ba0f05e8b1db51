"""Classes that a fold has next to nothing of: what one utterance is worth.

The recall of a class counts as much as any other's, however few utterances it
is of, and the mean over folds as much of each fold.
"""

from collections.abc import Iterable

import numpy as np

# Utterances of a class under which a fold's recall is noise.
TEST, VALIDATION = 10, 5
NOTE = (
  "Smallest class of a fold: {parts}. One utterance more or less moves more "
  "than many a difference: quote pooled figures."
)


def find(reports: Iterable[dict]) -> dict:
  """The smallest classes of a table's rows.

  Args:
    reports: with their `counts`, see `pooled.with_counts`, and
      `validation_classes`, see `reporting.describe_data`.

  Returns:
    `test` and `validation`, where they are known: of the smallest class that a
    fold has, its `count`, `name` and `fold`, the number of `classes` that this
    fold has, and that of all `folds`.
  """
  found = {"test": [], "validation": []}
  for report in reports:
    tested = {
      fold: sum(speakers.values()).sum(axis=1).tolist()
      for (fold, _), speakers in report.get("counts", {}).items()
    }
    if tested:
      found["test"].append(_smallest(tested, report["classes"]))
    validation = report.get("validation_classes")
    if validation and report["epochs"]:
      found["validation"].append(_smallest(validation, report["classes"]))
  return {
    side: min(each, key=lambda one: one["count"])
    for side, each in found.items()
    if each
  }


def _smallest(by_fold: dict[str, list[int]], names: list[str]) -> dict:
  """Of the utterances of each class by fold, classes without any left out."""
  found = []
  for fold, counts in by_fold.items():
    present = np.flatnonzero(counts)
    least = min(present, key=lambda number: counts[number])
    found.append(
      {
        "count": counts[least],
        "name": names[least],
        "fold": fold,
        "classes": len(present),
        "folds": len(by_fold),
      }
    )
  return min(found, key=lambda one: one["count"])


def render(found: dict | None) -> str:
  """A note; empty where no class is small, or nothing is known of any."""
  parts = []
  test, validation = ((found or {}).get(n) for n in ("test", "validation"))
  if test and test["count"] < TEST:
    parts.append(
      f"{_told(test)} to test on, each worth {_worth(test):.1f} points of the "
      f"fold's UAR and {_worth(test) / test['folds']:.1f} of the mean of folds"
    )
  if validation and validation["count"] < VALIDATION:
    parts.append(
      f"{_told(validation)} to choose an epoch by, each worth "
      f"{_worth(validation):.1f} points of that fold's validation UAR"
    )
  return NOTE.format(parts="; ".join(parts)) if parts else ""


def _told(one: dict) -> str:
  return f"{one['count']} of {one['name']} in {one['fold']}"


def _worth(one: dict) -> float:
  """Points of UAR that an utterance of the class is worth."""
  return 100 / one["count"] / one["classes"]
