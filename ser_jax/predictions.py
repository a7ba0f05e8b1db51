"""What a run says of a part of the corpus: what is saved, and its scores."""

import pathlib

import numpy as np
from jaxtyping import Float, Int

from ser_jax.data.contours import CONTOURS
from ser_jax.data.dataset import Dataset
from ser_jax.data.statistics import Statistics
from ser_jax.evaluation import contours, metrics
from ser_jax.train.loop import Run

PREDICTIONS, LAST = "predictions", "predictions_last"
VALIDATION = "predictions_validation"


def stems(dataset: Dataset) -> tuple[str, ...]:
  """Names of the files of predictions that a run leaves."""
  in_time = dataset.contours is not None
  return (PREDICTIONS, LAST, *((VALIDATION,) if in_time else ()))


def file_of(
  workdir: pathlib.Path, run: Run, stem: str = PREDICTIONS
) -> pathlib.Path:
  """Where a run's predictions lie; those of its best weights say it is done."""
  return workdir / "runs" / run.name / f"{stem}.npz"


def of_part(
  dataset: Dataset,
  statistics: Statistics,
  run: Run,
  part: Int[np.ndarray, "utterances"],
  scores: Float[np.ndarray, "utterances ..."],
) -> dict[str, np.ndarray]:
  """A part of the corpus, what was found of it, and what was wanted.

  Args:
    dataset: utterances, labels, targets in time.
    statistics: of the run's fold.
    run: whose scores they are.
    part: positions within the shards.
    scores: of the part; standardised, of targets in time.

  Returns:
    Arrays by name; targets in time and their scores are in units.
  """
  table = dataset.shards.table
  found = {
    "utterance": table.ids[part],
    "speaker": table.speakers[part],
    "fold": np.full(len(part), run.fold),
    "seed": np.full(len(part), run.seed),
    "scores": scores.astype(np.float32),
    "target": dataset.labels[part],
  }
  if dataset.contours is None:
    return found
  mean, deviation = statistics.mean[CONTOURS], statistics.deviation[CONTOURS]
  return found | {
    "scores": found["scores"] * deviation + mean,
    "target": dataset.contours.values[part],
    "frames": dataset.contours.frames[part],
  }


def score(
  dataset: Dataset,
  statistics: Statistics,
  run: Run,
  scores: Float[np.ndarray, "utterances ..."],
) -> dict[str, float]:
  """Metrics of a run's validation part; arguments as of `of_part`."""
  found = of_part(dataset, statistics, run, run.validation, scores)
  targets = dataset.contours
  if targets is None:
    return metrics.summarize(found["scores"], found["target"])
  return contours.score(found, targets.names, targets.rate)
