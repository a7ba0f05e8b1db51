"""Compiled steps, what they are fed with, and what they say of utterances."""

import dataclasses
from collections.abc import Iterator, Sequence

import jax
import numpy as np
from jaxtyping import Float, Int, PyTree

from ser_jax.data import order
from ser_jax.data.examples import Frames, Source
from ser_jax.errors import UserError
from ser_jax.train.compile import Layout, Program

Scores = list[Float[np.ndarray, "utterances ..."]]


@dataclasses.dataclass(frozen=True)
class Engine:
  """Compiled steps, and the arrays that they are fed with.

  Attributes:
    layout: where everything lies.
    source: where batches come from.
    constants: the source's arrays, placed.
    train: the training step.
    predict: the prediction step.
    batch_size: of both.
    several: `steps` training steps, one after another; None where it is one.
    steps: training steps that a call takes.
  """

  layout: Layout
  source: Source
  constants: PyTree
  train: Program
  predict: Program
  batch_size: int
  several: Program | None = None
  steps: int = 1


def check_execution(config, steps: int) -> None:
  """Refuses several steps a call where there cannot be any.

  Args:
    config: the whole config.
    steps: of an epoch.

  Raises:
    UserError: batches are fed or traced one by one, or an epoch has fewer
      steps.
  """
  wanted = config.steps_per_execution
  if wanted == 1:
    return
  for is_void, reason in (
    (config.data.source != "resident", "needs config.data.source=resident"),
    (config.parallel.backend == "pmap", "needs config.parallel.backend=jit"),
    (
      config.profile.during_training,
      "hides single steps, which config.profile.during_training traces",
    ),
    (wanted > steps, f"is more than the {steps} steps of an epoch"),
  ):
    if is_void:
      raise UserError(
        f"config.steps_per_execution={wanted} {reason}: change it, or set it "
        "to 1."
      )


def calls(
  engine: Engine, items: Iterator, row: int, end: int
) -> Iterator[tuple[int, Program, Frames, PyTree]]:
  """What is to be called for the steps left of an epoch.

  Several steps go into one program where they have one shape. Where they begin
  hangs on the row alone: what resumes goes on in the same programs.

  Args:
    engine: the compiled steps.
    items: of the source, from `row` on.
    row: steps done of the epoch.
    end: steps in it.

  Yields:
    The number of steps, their program, its shape and its item, placed.
  """
  place = engine.layout.place_item
  while row < end:
    whole = row % engine.steps == 0 and row + engine.steps <= end
    taken = [next(items) for _ in range(engine.steps if whole else 1)]
    shapes = {frames for frames, _ in taken}
    if len(taken) > 1 and len(shapes) == 1:
      parts = [item for _, item in taken]
      stacked = jax.tree.map(lambda *x: np.stack(x, axis=1), *parts)
      placed = place(stacked, stacked=True)
      yield len(taken), engine.several, shapes.pop(), placed
    else:
      for frames, item in taken:
        yield 1, engine.train, frames, place(item)
    row += len(taken)


def predict(
  engine: Engine,
  weights: PyTree,
  statistics: PyTree,
  parts: Sequence[Int[np.ndarray, "utterances"]],
) -> Scores:
  """Predicts one part of the corpus for each run of a group.

  Args:
    engine: the compiled steps.
    weights: of every run, placed.
    statistics: of every run's fold, placed.
    parts: positions within the shards, one array a run.

  Returns:
    The scores of each run's part, in its order.
  """
  return outputs(engine, weights, statistics, parts, ("scores",))["scores"]


def outputs(
  engine: Engine,
  weights: PyTree,
  statistics: PyTree,
  parts: Sequence[Int[np.ndarray, "utterances"]],
  names: Sequence[str] | None = None,
) -> dict[str, Scores]:
  """Whatever else a task's prediction has, such as embeddings.

  Args:
    engine: see `predict`, as for the next three.
    weights: see there.
    statistics: see there.
    parts: see there.
    names: what to fetch; None for all that there is.

  Returns:
    By name, the output of each run's part, in its order; zeros fill up frames
    where batches differ in length.
  """
  size = engine.batch_size
  steps = order.steps_per_epoch(max(map(len, parts)), size)
  rows = [
    order.evaluation_rows(part, steps=steps, batch_size=size) for part in parts
  ]
  index = np.stack([index for index, _ in rows], axis=1)
  weight = np.stack([weight for _, weight in rows], axis=1)
  found = {}
  for frames, item in engine.source.items(zip(index, weight, strict=True)):
    placed = engine.layout.place_item(item)
    said = engine.predict(weights, placed, statistics, engine.constants, frames)
    for name in said if names is None else names:
      found.setdefault(name, []).append(said[name])
  joined = {
    name: _join(arrays)
    for name, arrays in engine.layout.fetch_item(found).items()
  }
  return {
    name: [x[: len(part)] for x, part in zip(array, parts, strict=True)]
    for name, array in joined.items()
  }


def _join(
  arrays: list[Float[np.ndarray, "runs batch ..."]],
) -> Float[np.ndarray, "runs utterances ..."]:
  """Batches one after another, the shorter ones padded with zeros in time."""
  if arrays[0].ndim > 2:
    longest = max(x.shape[2] for x in arrays)
    none = (0, 0)
    arrays = [
      np.pad(x, (none, none, (0, longest - x.shape[2]), *[none] * (x.ndim - 3)))
      for x in arrays
    ]
  return np.concatenate(arrays, axis=1)
