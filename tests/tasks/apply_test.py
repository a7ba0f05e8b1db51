"""Running statistics move in training, and predictions are made with them."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ser_jax.batch import Batch, valid_frames
from ser_jax.nn.dropout import Dropout
from ser_jax.nn.normalization import MOMENTUM, BatchNorm
from ser_jax.tasks import apply, classify, complementary, regress
from ser_jax.train.state import init_state
from ser_jax.train.step import predict_step, train_step

SIZE, TIME, DIM = 4, 5, 3
OPTIMIZER = optax.with_extra_args_support(optax.sgd(0.1))
TASKS = {
  "classify": lambda model: classify.classify(model, OPTIMIZER),
  "complementary": lambda model: complementary.joint_task(
    model, OPTIMIZER, weight=0.0
  ),
  "regress": lambda model: regress.regress(model, OPTIMIZER, objective="mse"),
}


class Normalized(nn.Module):
  """What every task asks for, of frames that are normalised."""

  dropout: float = 0.0
  frozen: bool = True

  def setup(self):
    self.raw, self.drop = BatchNorm(), Dropout(self.dropout)
    self.head = nn.Dense(2)

  def __call__(self, inputs, lengths, *, train, moved=0.0):
    valid = valid_frames(lengths["x"], TIME)
    x = self.drop(self.raw(inputs["x"], valid, train=train), train=train)
    contours = self.head(x) + moved
    logits = jnp.mean(contours, axis=1)
    return {"contours": contours, "logits": logits, "heads": {"one": logits}}

  def other(self, inputs, lengths, *, train):
    return self.head(inputs["x"])


@pytest.fixture
def batch():
  draw = np.random.default_rng(0)
  return Batch(
    inputs={"x": jnp.asarray(draw.normal(3.0, 2.0, (SIZE, TIME, DIM)), "f4")},
    lengths={"x": jnp.full(SIZE, TIME)},
    targets={
      "emotion": jnp.array([0, 1, 0, 1]),
      "contours": jnp.zeros((SIZE, TIME, 2)),
      "frames": jnp.full(SIZE, TIME),
    },
    weight=jnp.ones(SIZE),
    speaker=jnp.zeros(SIZE, jnp.int32),
    index=jnp.arange(SIZE),
  )


@pytest.mark.parametrize("name", TASKS)
def test_models_may_normalise(name, batch):
  task = TASKS[name](Normalized())
  state = init_state(jnp.uint32(0), batch, task)
  step = jax.jit(functools.partial(train_step, task=task, total_steps=9))
  after, _ = step(state, batch)
  np.testing.assert_allclose(
    after.batch_stats["raw"]["mean"],
    MOMENTUM * batch.inputs["x"].mean(axis=(0, 1)),
    rtol=1e-5,
  )
  scores = [
    predict_step(weights, batch, task=task)["scores"]
    for weights in (
      after.weights,
      after.weights.replace(batch_stats=state.batch_stats),
    )
  ]
  assert np.abs(scores[0] - scores[1]).max() > 0.01


def test_a_method_s_outputs_in_training(batch):
  """With dropout, its own arguments, and statistics that it leaves alone."""
  model = Normalized(dropout=0.5)
  params, stats = apply.initializer(model)(jax.random.key(0), batch)
  assert set(
    apply.initializer(model, "other")(jax.random.key(0), batch)[0]
  ) == {"head"}
  call = functools.partial(apply.in_training, model, params, stats, batch)
  one, again, other, moved = (
    call(jax.random.key(seed), moved=by)[0]["contours"]
    for seed, by in ((0, 0.0), (0, 0.0), (1, 0.0), (0, 1.0))
  )
  np.testing.assert_array_equal(one, again)
  assert (one != other).any()
  np.testing.assert_allclose(moved, one + 1.0, rtol=1e-6)
  _, kept = call(jax.random.key(0), "other")
  jax.tree.map(np.testing.assert_array_equal, kept, stats)
  np.testing.assert_array_equal(
    apply.in_prediction(model, params, stats, batch, "other"),
    model.apply({"params": params}, batch.inputs, batch.lengths, train=False,
                method="other"),
  )  # fmt: skip
