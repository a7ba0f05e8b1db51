"""(seed, stage, epoch) -> which utterance is in which batch: the one source.

An epoch's utterances are spread evenly over a fixed number of steps, so that
folds of unequal size share one step count, and no batch is a small remainder.
"""

import numpy as np
from jaxtyping import Float, Int

Rows = tuple[Int[np.ndarray, "steps batch"], Float[np.ndarray, "steps batch"]]


def steps_per_epoch(largest: int, batch_size: int) -> int:
  """Steps that the largest training part of an experiment needs."""
  return -(-largest // batch_size)


def _spread(indices: Int[np.ndarray, "n"], steps: int, batch_size: int) -> Rows:
  """Cuts indices into `steps` rows of nearly equal size, then pads rows."""
  index = np.zeros((steps, batch_size), np.int32)
  weight = np.zeros((steps, batch_size), np.float32)
  for row, part in enumerate(np.array_split(indices, steps)):
    index[row, : len(part)] = part
    weight[row, : len(part)] = 1.0
  return index, weight


def training_rows(
  indices: Int[np.ndarray, "n"],
  *,
  seed: int,
  epoch: int,
  steps: int,
  batch_size: int,
  stage: int = 0,
) -> Rows:
  """The batches of one epoch.

  Args:
    indices: the training part, as positions within the shards.
    seed: the run's seed.
    epoch: counted from 0.
    steps: rows to make, at most as many as utterances: none is empty.
    batch_size: the static batch size.
    stage: counted from 0.

  Returns:
    Positions (0 for filler) and weights (1, or 0 for filler).
  """
  order = np.random.default_rng([seed, epoch, stage]).permutation(indices)
  return _spread(order, steps, batch_size)


def evaluation_rows(
  indices: Int[np.ndarray, "n"], *, steps: int, batch_size: int
) -> Rows:
  """The batches that visit every utterance once, in order, filler last."""
  index = np.zeros(steps * batch_size, np.int32)
  weight = np.zeros(steps * batch_size, np.float32)
  index[: len(indices)] = indices
  weight[: len(indices)] = 1.0
  return (
    index.reshape(steps, batch_size),
    weight.reshape(steps, batch_size),
  )
