"""Trained runs as a function of features."""

import dataclasses
import functools
import pathlib
from collections.abc import Sequence

import jax
import numpy as np

from ser_jax.batch import Batch
from ser_jax.data.contours import CONTOURS
from ser_jax.data.prepare import prepare
from ser_jax.data.statistics import InputPlan, Statistics
from ser_jax.inference import Inputs, Lengths, Predictor, Recipe
from ser_jax.tasks.task import Task
from ser_jax.train.compile import Program
from ser_jax.train.devices import device_kind
from ser_jax.train.precision import PRODUCTS
from ser_jax.train.step import predict_step
from ser_jax.trained import Opened, open_runs


def load(workdir: pathlib.Path, names: Sequence[str] = ()) -> Predictor:
  """Makes a predictor of finished runs.

  Args:
    workdir: of an experiment.
    names: see `open_runs`.

  Returns:
    The predictor; it compiles at its first call.

  Raises:
    UserError: see `open_runs`.
  """
  return make_predictor(open_runs(workdir, names))


def make_predictor(opened: Opened) -> Predictor:
  """A predictor of open runs; it compiles at its first call."""
  return Predictor(
    opened.recipe, opened.names, opened.config.batch_size, _make_step(opened)
  )


def _make_step(opened: Opened):
  """The compiled prediction of one batch by one of the runs."""
  layout, plans = opened.layout, device_plans(opened.recipe)
  task = opened.tasks[device_kind()]

  def predict_one(weights, batch, statistics, constants, frames):
    del constants, frames  # there is one shape
    return _scores(task, weights, statistics, batch, plans)

  program = Program(layout, predict_one, trains=False, name="predict step")

  def step(number: int, inputs: Inputs, lengths: Lengths) -> np.ndarray:
    batch = jax.tree.map(lambda x: x[None], make_batch(inputs, lengths))
    scores = program(
      opened.weights[number],
      layout.place_item(batch),
      opened.statistics[number],
      {},
      (),
    )
    return layout.fetch_item(scores)[0]

  return step


def _scores(task: Task, weights, statistics: Statistics, batch, plans):
  """Probabilities, or contours in the units of their targets."""
  batch = prepare(batch, statistics, plans)
  scores = predict_step(weights, batch, task=task)["scores"]
  if CONTOURS not in statistics.mean:
    return scores
  mean, deviation = (
    getattr(statistics, kind)[CONTOURS][None, None]
    for kind in ("mean", "deviation")
  )
  return scores * deviation + mean


def pure_step(opened: Opened):
  """The prediction step as functions of plain arrays, for an export.

  Args:
    opened: runs on one device.

  Returns:
    A function of arrays, inputs and lengths for each kind of devices, and
    each run's arrays.
  """
  plans = device_plans(opened.recipe)
  pairs = [
    jax.tree.map(np.asarray, pair)
    for pair in zip(opened.weights, opened.statistics, strict=True)
  ]
  structure = jax.tree.structure(pairs[0])

  def scores(task: Task, arrays, inputs: Inputs, lengths: Lengths):
    weights, statistics = jax.tree.unflatten(structure, arrays)
    batch = make_batch(inputs, lengths)
    return _scores(task, weights, statistics, batch, plans)

  # A GPU's name of how products are made is not that of other platforms.
  products = PRODUCTS[opened.config.precision]
  steps = {
    kind: functools.partial(
      scores, dataclasses.replace(task, products=products)
    )
    for kind, task in opened.tasks.items()
  }
  return steps, [jax.tree.leaves(pair) for pair in pairs]


def device_plans(recipe: Recipe) -> dict[str, InputPlan]:
  """What the compiled step prepares; the rest is done before."""
  return {
    name: InputPlan(
      **plan | ({"standardize": False} if name in recipe.by_speaker else {})
    )
    for name, plan in recipe.plans.items()
  }


def make_batch(inputs: Inputs, lengths: Lengths) -> Batch:
  """A batch of which nobody knows the labels."""
  count = next(iter(lengths.values()))
  return Batch(
    inputs={name: inputs[name] for name in lengths},
    lengths=lengths,
    # Moments of recordings stand beside the inputs that they are of.
    targets={k: v for k, v in inputs.items() if k not in lengths},
    weight=(count > 0).astype(np.float32),
    speaker=np.zeros(len(count), np.int32),
    index=np.zeros(len(count), np.int32),
  )
