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
from ser_jax.models.raw_waveform import RawWaveform
from ser_jax.streaming import Stream
from ser_jax.train import precision
from ser_jax.train.step import decode_step, predict_step, train_step

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
  stage, group = made.stages[-1], made.groups[0][:1]
  source = runs.make_engines(made)[-1].source
  state = jax.tree.map(lambda x: x[0], runs.initial_state(made, stage, group))
  frames, item = next(
    source.items([(group[0].train[None, :8], np.ones((1, 8), np.float32))])
  )
  item, constants, statistics = jax.tree.map(
    jnp.asarray,
    (
      jax.tree.map(lambda x: x[0], item),
      source.constants,
      made.statistics[group[0].fold],
    ),
  )
  batch = source.gather(constants, item, frames)
  return (
    stage.task,
    state,
    prepare(batch, statistics, made.dataset.examples.plans),
  )


def products_of(lowered):
  """Matrix products and convolutions of a program, and what they multiply."""
  kinds = r"stablehlo\.(?:dot_general|convolution)"
  return re.findall(rf"({kinds}.*) -> tensor", lowered.as_text())


def test_gpus_take_tf32_where_nothing_is_asked(monkeypatch):
  """XLA's Triton kernels do under Precision.DEFAULT and no other."""
  monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
  assert precision.products("tf32") == "default"
  assert precision.products("float32") == "float32"
  task, state, batch = one_batch("aae")
  step = functools.partial(
    train_step, task=precision.in_precision(task, "tf32"), total_steps=9
  )
  program = str(jax.make_jaxpr(step)(state, batch))
  assert "Precision.DEFAULT)" in program and "Precision.HIGH)" not in program


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
  wide = [product for product in found if "f32>" in product]
  left = [product for product in wide if "HIGHEST" not in product]
  assert len(left) == SPECTRA.get(name, 0), left


def assert_products(lowered, kind):
  """That all are of a kind, in a program without statistics."""
  found = products_of(lowered)
  assert found
  for product in found:
    if kind == "bfloat16":
      assert "bf16>" in product and "f32>" not in product
    else:
      asked = {"float32": "HIGHEST", "tf32": "HIGH"}[kind]
      assert len(re.findall(rf"\b{asked}\b", product)) == 2


@pytest.mark.parametrize("kind", precision.PRODUCTS)
def test_decoding_is_as_the_config_says(kind):
  task, state, batch = one_batch("aae")
  lowered = precision.in_precision(task, kind)
  step = jax.jit(functools.partial(decode_step, task=lowered))
  shown = task.predict(state.params, state.batch_stats, batch)
  weights, y, z = state.weights, shown["scores"], shown["z"]
  assert_products(step.lower(weights, y, z, batch), kind)
  made = step(weights, y, z, batch)
  wanted = task.decode(weights.params, weights.batch_stats, y, z, batch)
  assert made.dtype == jnp.float32
  np.testing.assert_allclose(made, wanted, atol=0.05)


@pytest.mark.parametrize("kind", precision.PRODUCTS)
def test_streams_are_as_the_config_says(kind):
  """And equal the whole recording in the same precision."""
  model = RawWaveform(
    2, (4, 4), (6, 5), pool_channels=2, hidden=3, bidirectional=False
  )
  frames = jax.random.normal(jax.random.key(0), (1, 6, 16))
  inputs, lengths = {"waveform": frames}, {"waveform": jnp.full(1, 6)}

  def contours_of(params, inputs, lengths):
    outputs = model.apply({"params": params}, inputs, lengths, train=False)
    return outputs["contours"]

  params = model.init(jax.random.key(1), inputs, lengths, train=False)["params"]
  whole = jax.jit(precision.computed(contours_of, kind))
  assert_products(whole.lower(params, inputs, lengths), kind)
  stream = Stream(model, params, samples=16, precision=kind)
  state, told = stream.start(), []
  lowered = stream._step.lower(params, frames, state.cells, skip=0, take=6)
  assert_products(lowered, kind)
  for number in range(6):
    state, contours = stream.push(
      state, frames[:, number : number + 1], last=number == 5
    )
    told.append(contours)
  found = jnp.concatenate(told, axis=1)
  assert found.dtype == jnp.float32
  np.testing.assert_allclose(
    found,
    whole(params, inputs, lengths),
    atol=0.01 if kind == "bfloat16" else 1e-6,
  )


def test_a_precision_that_does_not_exist_is_refused():
  with pytest.raises(UserError, match="config.precision='half'"):
    precision.check("half")


def test_half_precision_on_a_cpu_is_warned_of(caplog):
  precision.warn_of_slow("tf32", "cpu")
  precision.warn_of_slow("bfloat16", "gpu")
  assert not caplog.records
  precision.warn_of_slow("bfloat16", "cpu")
  assert "CPUs imitate it" in caplog.text
