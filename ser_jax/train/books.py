"""How long runs are trained, and what is kept of each on the way."""

import dataclasses
import math
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True)
class Settings:
  """How long to train and what to keep.

  Attributes:
    stage: the stage's name, for logs.
    number: of the stage within its experiment.
    epochs: passes over the training part.
    steps: steps in an epoch.
    metric: what validation is judged by; ties go to the lower loss.
    patience: epochs without a new best before a run stops; 0 for never.
    checkpoint_epochs: epochs between checkpoints.
  """

  stage: str
  number: int
  epochs: int
  steps: int
  metric: str
  patience: int
  checkpoint_epochs: int


@dataclasses.dataclass
class Books:
  """Bookkeeping of a group, saved with every checkpoint.

  Attributes:
    epoch: epochs done.
    row: steps done of the epoch in progress.
    totals: metric sums of that epoch: name to `[sum, count]` of each run.
    best: each run's best `[metric, -loss]`.
    best_epoch: the epoch of it.
    diverged: the epoch in which a run's numbers ceased to be finite, or -1.
  """

  epoch: int
  row: int
  totals: dict[str, list[list[float]]]
  best: list[list[float]]
  best_epoch: list[int]
  diverged: list[int]


def opened(diverged: Sequence[int]) -> Books:
  """The books of a group that is about to begin.

  Args:
    diverged: of the stage before, else -1 for every run.
  """
  runs = len(diverged)
  worst = [-math.inf, -math.inf]
  return Books(0, 0, {}, [worst] * runs, [-1] * runs, list(diverged))


def has_stopped(books: Books, settings: Settings, run: int) -> bool:
  """Whether a run has diverged, or was without a new best for too long."""
  if books.diverged[run] >= 0:
    return True
  if not settings.patience or books.best_epoch[run] < 0:
    return False
  return books.epoch - books.best_epoch[run] > settings.patience


def is_complete(books: Books, settings: Settings) -> bool:
  """Whether a group has been trained to its end."""
  runs = range(len(books.best))
  return books.epoch >= settings.epochs or all(
    has_stopped(books, settings, run) for run in runs
  )
