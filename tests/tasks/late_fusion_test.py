"""A phase for each head: it moves its own parameters, at its own rate."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ser_jax.batch import Batch
from ser_jax.tasks.late_fusion import late_fusion
from ser_jax.train.state import init_state
from ser_jax.train.step import train_step


class Counting(nn.Module):
  """Logits, and a running count of training calls."""

  @nn.compact
  def __call__(self, x, *, train):
    calls = self.variable("batch_stats", "calls", jnp.zeros, ())
    if train:
      calls.value += 1.0
    return nn.Dense(3, name="logits")(x)


class Two(nn.Module):
  """Two heads over one input."""

  @nn.compact
  def __call__(self, inputs, lengths, *, train):
    heads = {
      name: Counting(name=name)(inputs["x"], train=train)
      for name in ("one", "other")
    }
    return {"logits": sum(heads.values()) / 2, "heads": heads}


@pytest.fixture(scope="module")
def batch():
  draw = np.random.default_rng(0)
  return Batch(
    inputs={"x": jnp.asarray(draw.normal(size=(6, 4)), jnp.float32)},
    lengths={"x": jnp.ones(6, jnp.int32)},
    targets={"emotion": jnp.array([0, 1, 2, 0, 1, 2])},
    weight=jnp.array([1.0, 1.0, 1.0, 1.0, 0.0, 0.0]),
    speaker=jnp.zeros(6, jnp.int32),
    index=jnp.arange(6),
  )


def step(batch, **optimizers):
  task = late_fusion(Two(), optimizers)
  state = init_state(jnp.uint32(0), batch, task=task)
  after, totals = jax.jit(
    lambda state: train_step(state, batch, task=task, total_steps=1)
  )(state)
  return task, state, after, totals


def test_each_phase_moves_its_head_by_the_gradient_of_its_loss(batch):
  task, before, after, totals = step(
    batch, one=optax.sgd(0.5), other=optax.sgd(0.0)
  )
  assert [phase.scope for phase in task.phases] == [("one",), ("other",)]

  def loss(params):
    logits = batch.inputs["x"][:4] @ params["kernel"]
    logits += params["bias"][None]
    labels = batch.targets["emotion"][:4]
    return optax.softmax_cross_entropy_with_integer_labels(
      logits, labels
    ).mean()

  start = before.params["one"]["logits"]
  slope = jax.grad(loss)(start)
  for name, value in after.params["one"]["logits"].items():
    np.testing.assert_allclose(
      value, start[name] - 0.5 * slope[name], atol=1e-6
    )
  jax.tree.map(
    np.testing.assert_array_equal, after.params["other"], before.params["other"]
  )
  np.testing.assert_allclose(totals["one_loss"][0] / 4, loss(start), rtol=1e-5)


def test_running_statistics_move_once_a_step(batch):
  _, _, after, totals = step(batch, one=optax.sgd(0.1), other=optax.sgd(0.1))
  assert {k: float(v["calls"]) for k, v in after.batch_stats.items()} == {
    "one": 1.0,
    "other": 1.0,
  }
  assert {"loss", "wa", "one_loss", "other_loss"} == set(totals)
  assert float(totals["wa"][1]) == 4
