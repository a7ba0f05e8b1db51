"""Both objectives: by hand, over filler, and over devices."""

import types

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from benchmarks import systems
from configs import adieu
from ser_jax import losses
from ser_jax.batch import Batch
from ser_jax.errors import UserError
from ser_jax.tasks import regress, table
from ser_jax.tasks.task import Turn
from ser_jax.train.compile import Program
from ser_jax.train.devices import make_layout
from ser_jax.train.state import init_state
from ser_jax.train.step import train_step

SIZE, TIME = 8, 6


class Net(nn.Module):
  """One linear layer a frame."""

  @nn.compact
  def __call__(self, inputs, lengths, *, train):
    return {"contours": nn.Dense(2)(inputs["x"])}


def batch_of(filler=2):
  draw = np.random.default_rng(0)
  weight = np.ones(SIZE, np.float32)
  weight[SIZE - filler :] = 0.0
  frames = draw.integers(1, TIME + 1, SIZE)
  return Batch(
    inputs={"x": draw.normal(size=(SIZE, TIME, 3)).astype(np.float32)},
    lengths={"x": (frames * (weight > 0)).astype(np.int32)},
    targets={
      "contours": draw.normal(size=(SIZE, TIME, 2)).astype(np.float32),
      "frames": frames.astype(np.int32),
    },
    weight=weight,
    speaker=np.zeros(SIZE, np.int32),
    index=np.zeros(SIZE, np.int32),
  )


def valid(batch):
  inside = np.arange(TIME) < batch.targets["frames"][:, None]
  return inside & (batch.weight > 0)[:, None]


def loss_of(task, params, batch):
  pair, _, totals = task.phases[0].loss_fn(
    params,
    {},
    jax.tree.map(jnp.asarray, batch),
    Turn(jax.random.key(1), 0.0),
  )
  return losses.mean(*pair), totals


@pytest.mark.parametrize("objective", regress.OBJECTIVES)
def test_losses_are_of_valid_frames(objective):
  task = regress.regress(Net(), optax.sgd(0.1), objective=objective)
  batch = batch_of()
  params, _ = task.init(jax.random.key(0), batch)
  loss, totals = loss_of(task, params, batch)
  scores = np.float64(task.predict(params, {}, batch)["scores"])
  x, y = scores[valid(batch)], np.float64(batch.targets["contours"])
  y = y[valid(batch)]
  covariance = np.mean((x - x.mean(0)) * (y - y.mean(0)), axis=0)
  spread = x.var(0) + y.var(0) + (x.mean(0) - y.mean(0)) ** 2
  wanted = {
    "ccc_loss": np.mean(1 - 2 * covariance / spread),
    "mse": np.mean((x - y) ** 2),
  }
  for name, value in wanted.items():
    total, count = totals[name]
    assert float(total / count) == pytest.approx(value, rel=1e-5)
  assert float(loss) == pytest.approx(
    wanted["ccc_loss" if objective == "ccc" else "mse"], rel=1e-5
  )


def test_what_lies_past_an_utterance_changes_nothing():
  task = regress.regress(Net(), optax.sgd(0.1))
  batch = batch_of()
  params, _ = task.init(jax.random.key(0), batch)
  wild = jax.tree.map(np.array, batch)
  for values in (wild.inputs["x"], wild.targets["contours"]):
    values[~valid(batch)] = 1e3
  one, other = (
    jax.grad(lambda p, b=b: loss_of(task, p, b)[0])(params)
    for b in (batch, wild)
  )
  jax.tree.map(np.testing.assert_array_equal, one, other)


def steps_under(batches, objective, each, **changes):
  """Parameters and metrics after a few steps under a layout."""
  config = {"backend": "jit", "runs": "loop", "run": 1, "data": 1}
  config |= {"optimizer_state": "replicated"} | changes
  layout = make_layout(types.SimpleNamespace(**config), runs=1, batch_size=SIZE)
  tx = optax.inject_hyperparams(optax.sgd)(learning_rate=0.1)
  task = regress.regress(
    Net(),
    tx,
    objective=objective,
    per_sequence=each,
  )

  def train(state, item, statistics, constants, frames):
    return train_step(
      state, item, task=task, total_steps=9, axis_name=layout.axis_name
    )

  program = Program(layout, train, trains=True, name="train")
  state = init_state(jnp.uint32(0), batches[0], task)
  state = layout.place_runs(
    jax.tree.map(lambda x: np.asarray(x)[None], jax.device_get(state))
  )
  none = layout.place_runs(np.zeros(1, np.float32))
  for batch in batches:
    item = layout.place_item(jax.tree.map(lambda x: x[None], batch))
    state, metrics = program(state, item, none, {}, (("x", TIME),))
  return layout.fetch_runs((state.params, metrics))


@pytest.mark.parametrize(
  ("objective", "each"), [("ccc", False), ("ccc", True), ("mse", False)]
)
def test_devices_are_invisible(objective, each):
  batches = [batch_of(filler=2), batch_of(filler=5)]
  alone = steps_under(batches, objective, each)
  for changes in ({"data": 4}, {"backend": "pmap", "data": 8}):
    found = steps_under(batches, objective, each, **changes)
    for one, other in zip(
      jax.tree.leaves(alone), jax.tree.leaves(found), strict=True
    ):
      np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_an_unknown_objective_is_refused():
  config = types.SimpleNamespace(
    task=types.SimpleNamespace(objective="mae", per_sequence=False), epochs=1
  )
  with pytest.raises(UserError, match="must be one of ccc, mse"):
    table.TASKS["regress"](Net(), config, lambda epochs: optax.sgd(0.1))


def test_microbatches_of_squared_errors_equal_the_large_batch():
  tx = optax.with_extra_args_support(optax.sgd(0.1))
  task = regress.regress(Net(), tx, objective="mse")
  batch = jax.tree.map(jnp.asarray, batch_of())
  state = init_state(jnp.uint32(0), batch, task)
  large, small = (
    train_step(state, batch, task=task, total_steps=9, accumulate=count)[0]
    for count in (1, 4)
  )
  for one, other in zip(*map(jax.tree.leaves, (large.params, small.params)),
                        strict=True):  # fmt: skip
    np.testing.assert_allclose(one, other, atol=1e-6)


def test_the_correlation_of_a_batch_is_no_sum_of_its_parts():
  config = adieu.get_config("bi128,emodb")
  config.accumulate, config.parallel.data = 2, 1
  with pytest.raises(UserError, match="config.accumulate=2.*phase regress"):
    systems.make_experiment(config, held=32)
