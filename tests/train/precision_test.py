"""bfloat16 near float32 for every system; what a step keeps is float32."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import systems
from ser_jax import runs
from ser_jax.data.prepare import prepare
from ser_jax.errors import UserError
from ser_jax.train import precision
from ser_jax.train.step import predict_step, train_step

SMALL = {
  "ds_lstm": {
    "analysis__frames": "mfcc=12,s1=24,s2=24",
    "model__hidden": 8,
    "model__channels": (4, 2),
  },
  "dat": {"analysis__frames": "features=16", "model__hidden": 8},
  "aae": {"model__hidden": 16},
  "dcaen": {"analysis__frames": "waveform=4", "model__hidden": 8},
  "adieu": {"analysis__frames": "waveform=4,contours=4", "model__hidden": 8},
}
# Products of spectra, one forwards and two backwards: Fourier transforms know
# no bfloat16.
SPECTRA = {"dcaen": 3, "adieu": 3}


@functools.cache
def one_batch(name):
  """A small system, its fresh state and a batch as its model sees it."""
  config = systems.make_config(
    name, batch_size=8, parallel__data=1, **SMALL[name]
  )
  made = systems.make_experiment(config, held=535)
  task, group = made.stages[-1].task, made.groups[0][:1]
  state = jax.tree.map(lambda x: x[0], runs.initial_state(made, task, group))
  frames, item = next(
    made.source.items([(group[0].train[None, :8], np.ones((1, 8), np.float32))])
  )
  item, constants, statistics = jax.tree.map(
    jnp.asarray,
    (
      jax.tree.map(lambda x: x[0], item),
      made.source.constants,
      made.statistics[group[0].fold],
    ),
  )
  batch = made.source.gather(constants, item, frames)
  return task, state, prepare(batch, statistics, made.dataset.examples.plans)


def products_of(lowered):
  """Matrix products and convolutions of a program, a line each."""
  kinds = r"stablehlo\.(?:dot_general|convolution)"
  return re.findall(rf"{kinds}.*", lowered.as_text())


@pytest.mark.parametrize("name", systems.SYSTEMS)
def test_half_precision_is_near(name):
  task, state, batch = one_batch(name)
  scores = {}
  for kind in ("float32", "bfloat16"):
    lowered = precision.in_precision(task, kind)
    step = jax.jit(functools.partial(predict_step, task=lowered))
    scores[kind] = np.asarray(step(state.weights, batch)["scores"])
    assert scores[kind].dtype == np.float32
  apart = np.abs(scores["bfloat16"] - scores["float32"]).max()
  assert 0 < apart < 0.02


@pytest.mark.parametrize("name", systems.SYSTEMS)
def test_what_a_step_keeps_is_float32(name):
  task, state, batch = one_batch(name)
  lowered = precision.in_precision(task, "bfloat16")
  after, totals = jax.eval_shape(
    functools.partial(train_step, task=lowered, total_steps=9), state, batch
  )
  same = jax.tree.map(
    lambda a, b: a.dtype == b.dtype and a.shape == np.shape(b), after, state
  )
  assert all(jax.tree.leaves(same))
  assert all(x.dtype == jnp.float32 for x in jax.tree.leaves(totals))


@pytest.mark.parametrize(
  ("kind", "products"), [("float32", "HIGHEST"), ("tf32", "HIGH")]
)
@pytest.mark.parametrize("name", systems.SYSTEMS)
def test_products_are_as_the_config_says(name, kind, products):
  """Those of backward passes of our own, too."""
  task, state, batch = one_batch(name)
  step = functools.partial(
    train_step, task=precision.in_precision(task, kind), total_steps=9
  )
  program = str(jax.make_jaxpr(step)(state, batch))
  assert f"Precision.{products})" in program
  assert "precision=None" not in program


@pytest.mark.parametrize("name", systems.SYSTEMS)
def test_half_precision_is_that_of_every_product(name):
  """Statistics alone, which ask for it, are of float32."""
  task, state, batch = one_batch(name)
  lowered = precision.in_precision(task, "bfloat16")
  step = jax.jit(functools.partial(train_step, task=lowered, total_steps=9))
  found = products_of(step.lower(state, batch))
  assert any("bf16" in product for product in found)
  wide = [product for product in found if "f32>" in product.split("->")[0]]
  left = [product for product in wide if "HIGHEST" not in product]
  assert len(left) == SPECTRA.get(name, 0), left


def test_a_precision_that_does_not_exist_is_refused():
  with pytest.raises(UserError, match="config.precision='half'"):
    precision.check("half")
