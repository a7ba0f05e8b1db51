"""Pooled figures of two rows: all their test utterances, speaker by speaker.

ROW/predictions.npz -> counts of each run and speaker -> a difference
"""

import pathlib
from collections.abc import Callable

import numpy as np
from jaxtyping import Int

from ser_jax import atomic
from ser_jax.evaluation import metrics, pairing, statistics

# Of a run, a confusion matrix for each of its test speakers.
Speakers = dict[str, Int[np.ndarray, "classes classes"]]
Counts = dict[pairing.Run, Speakers]


def with_counts(
  reports: dict[str, dict], folder: pathlib.Path
) -> dict[str, dict]:
  """Reports of rows with what their predictions are right and wrong about.

  Args:
    reports: by row name, see `conditions.read`.
    folder: with a folder for each row.

  Returns:
    The same, each with `counts`; none of rows without predictions.

  Raises:
    UserError: predictions are damaged.
  """
  found = {}
  for name, report in reports.items():
    path, counts = folder / name / "predictions.npz", {}
    if path.exists():
      remedy = "delete it and repeat the command, which predicts again."
      counts = count(atomic.read_arrays(path, remedy))
    found[name] = report | {"counts": counts}
  return found


def count(predictions: dict[str, np.ndarray]) -> Counts:
  """By fold and seed, a confusion matrix for each test speaker.

  Args:
    predictions: arrays of a `predictions.npz`.

  Returns:
    The counts.
  """
  predicted = predictions["scores"].argmax(axis=1)
  classes = len(predictions["classes"])
  parts = [predictions[name].tolist() for name in ("fold", "seed", "speaker")]
  members = {}
  for number, key in enumerate(zip(*parts, strict=True)):
    members.setdefault(key, []).append(number)
  found = {}
  for (fold, seed, speaker), where in members.items():
    found.setdefault((fold, seed), {})[str(speaker)] = metrics.confusion_matrix(
      predictions["target"][where], predicted[where], classes
    )
  return found


def difference(
  ours: dict, theirs: dict, metric: Callable[[np.ndarray], np.ndarray]
) -> dict:
  """How far the pooled figures of two rows are apart.

  For each seed the folds that both rows have are pooled, and the differences of
  the seeds averaged. The interval is of speakers drawn with replacement, every
  draw the same for both rows and for all seeds.

  Args:
    ours: a report with its `counts`, see `with_counts`.
    theirs: of the row that it is tested against; of a baseline, which has no
      epochs, what is said whatever the seed.
    metric: of confusion matrices, `[..., classes, classes]`.

  Returns:
    `pooled_difference`: its `value` and `ci95` (None of too few speakers);
    nothing where a row has no counts, or where they tested other utterances.
  """
  both = pairing.both(
    ours.get("counts", {}), theirs.get("counts", {}), fixed=not theirs["epochs"]
  )
  if not both or not all(_alike(*pair) for pair in both.values()):
    return {}
  counts = _stack(both)
  speakers, *shape = counts.shape

  def mean_difference(summed):
    """Of counts added up, with whatever axes in front."""
    parts = summed.reshape(*summed.shape[:-2], *shape)
    with np.errstate(invalid="ignore"):
      values = metric(parts)
    apart = values[..., 0] - values[..., 1]
    # A seed that lost folds may have none of the speakers that were drawn.
    return np.nanmean(apart, axis=-1)

  flat = counts.reshape(speakers, -1, shape[-1])
  return {
    "pooled_difference": {
      "value": float(mean_difference(flat.sum(axis=0))),
      "ci95": statistics.speaker_bootstrap(flat, mean_difference),
    }
  }


def _alike(ours: Speakers, theirs: Speakers) -> bool:
  """Whether two runs were tested on the same classes of the same speakers."""
  return ours.keys() == theirs.keys() and all(
    np.array_equal(ours[name].sum(axis=1), theirs[name].sum(axis=1))
    for name in ours
  )


def _stack(
  both: dict[pairing.Run, tuple[Speakers, Speakers]],
) -> Int[np.ndarray, "speakers seeds rows classes classes"]:
  """Counts over the folds of each seed, of ours and of theirs."""
  seeds = sorted({seed for _, seed in both})
  names = sorted({name for ours, _ in both.values() for name in ours})
  first = next(iter(next(iter(both.values()))[0].values()))
  counts = np.zeros((len(names), len(seeds), 2, *first.shape), np.int64)
  for (_, seed), pair in both.items():
    for side, speakers in enumerate(pair):
      for name, confusion in speakers.items():
        counts[names.index(name), seeds.index(seed), side] += confusion
  return counts
