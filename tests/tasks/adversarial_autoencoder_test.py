"""Phases move their own groups, in order, and once traced; priors; losses."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import aae
from ser_jax.batch import Batch
from ser_jax.errors import UserError
from ser_jax.models.adversarial_autoencoder import AdversarialAutoencoder
from ser_jax.tasks import adversarial_autoencoder as aae_task
from ser_jax.tasks.adversarial_autoencoder import SCOPES
from ser_jax.tasks.task import Turn
from ser_jax.train import state as states_of
from ser_jax.train.state import init_state
from ser_jax.train.step import train_step

NET = {"hidden": 6, "latent": 3}
COUNT = 8  # of which the last two are filler


def make_batch(seed=0):
  draw = np.random.default_rng(seed)
  weight = np.ones(COUNT, np.float32)
  weight[-2:] = 0.0
  return Batch(
    inputs={"x": draw.normal(size=(COUNT, 5)).astype(np.float32)},
    lengths={"x": weight.astype(np.int32)},
    targets={
      "emotion": np.arange(COUNT, dtype=np.int32) % 3,
      "labelled": np.array([1, 1, 0, 1, 0, 1, 1, 1], np.float32),
    },
    weight=weight,
    speaker=np.zeros(COUNT, np.int32),
    index=np.arange(10, 10 + COUNT, dtype=np.int32),
  )


def make_task(axis_name=None):
  model = AdversarialAutoencoder(classes=3, axis_name=axis_name, **NET)
  tx = optax.with_extra_args_support(optax.sgd(0.1))
  return aae_task.adversarial_autoencoder(model, dict.fromkeys(SCOPES, tx))


TRACES = []


@functools.cache
def prefixes():
  """The states after none to all phases of a step, and the metrics."""
  task = make_task()

  @jax.jit
  def run(state, batch):
    TRACES.append(None)
    states, metrics = [state], {}
    for number in range(1, len(task.phases) + 1):
      part = type(task)(task.init, task.phases[:number], task.predict)
      after, metrics = train_step(state, batch, task=part, total_steps=10)
      states.append(after)
    return states, metrics

  return run


@functools.cache
def start():
  return jax.jit(functools.partial(init_state, task=make_task()))(
    jnp.uint32(3), make_batch()
  )


def changed(one, two):
  """Names of top-level groups that differ."""
  return {
    name
    for name in one
    if any(
      (np.asarray(a) != np.asarray(b)).any()
      for a, b in zip(
        jax.tree.leaves(one[name]), jax.tree.leaves(two[name]), strict=True
      )
    )
  }


def assert_close(one, two, atol=1e-6):
  for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
    np.testing.assert_allclose(a, b, atol=atol)


def test_each_phase_moves_its_scope_alone():
  states, _ = prefixes()(start(), make_batch())
  for before, after, scope in zip(
    states, states[1:], SCOPES.values(), strict=False
  ):
    assert changed(before.params, after.params) == set(scope)


def test_the_discriminators_phase_leaves_no_trace_in_statistics():
  states, _ = prefixes()(start(), make_batch())
  moved = [
    changed(before.batch_stats, after.batch_stats)
    for before, after in zip(states, states[1:], strict=False)
  ]
  encoder = {"encoder", "y", "z"}
  assert moved == [encoder | {"decoder"}, set(), encoder, encoder]


def test_each_phase_sees_what_the_one_before_left():
  """The encoder meets the discriminators that have just learned."""
  batch, task = make_batch(), make_task()
  states, metrics = prefixes()(start(), batch)
  assert [phase.name for phase in task.phases] == list(SCOPES)
  loss_of = jax.jit(task.phases[2].loss_fn)
  key = jax.random.fold_in(states_of.key_for(start().seed, states_of.STEP), 0)
  key = jax.random.fold_in(key, 2)
  found = [
    loss_of(s.params, s.batch_stats, batch, Turn(key, 0.0))[2]
    for s in (states[2], states[0])
  ]
  name = "generator_z_loss"
  total, count = metrics[name]
  assert float(count) == COUNT - 2
  assert float(found[0][name][0]) == pytest.approx(float(total), rel=1e-5)
  assert float(found[1][name][0]) != pytest.approx(float(total), rel=1e-5)


def test_filler_changes_nothing():
  batch = make_batch()
  batch.inputs["x"][-2:] = 1e3
  batch.targets["emotion"][-2:] = 2
  states, metrics = prefixes()(start(), batch)
  others, same = prefixes()(start(), make_batch())
  assert_close(states[-1], others[-1])
  assert_close(metrics, same)


def test_unlabelled_examples_teach_all_but_the_class():
  batch = make_batch()
  hidden = batch.targets["labelled"] == 0
  batch.targets["emotion"][hidden] = 0
  states, metrics = prefixes()(start(), batch)
  others, same = prefixes()(start(), make_batch())
  assert_close(states[-1], others[-1])
  assert float(metrics["loss"][1]) == 4.0  # 6 examples, 2 without a label
  batch.inputs["x"][hidden] += 1.0
  states, _ = prefixes()(start(), batch)
  everything = set(others[-1].params)
  assert changed(states[-1].params, others[-1].params) == everything


def test_one_step_traces_once():
  state = start()
  for seed in range(3):
    state = prefixes()(state, make_batch(seed))[0][-1]
  assert len(TRACES) == 1
  assert int(state.step) == 3


def test_devices_and_runs_share_a_step():
  """One device = pmap over two = two runs stacked, statistics included."""
  states, metrics = prefixes()(start(), make_batch())
  split = jax.tree.map(
    # Filler on one device only: counts differ between them.
    lambda x: x.reshape(2, COUNT // 2, *x.shape[1:]),
    make_batch(),
  )
  step = functools.partial(
    train_step, task=make_task("data"), total_steps=10, axis_name="data"
  )

  def two_runs(state, batch):
    return jax.vmap(step, in_axes=(0, None))(state, batch)

  stacked = jax.tree.map(lambda x: jnp.stack([x, x]), start())
  mapped = jax.pmap(two_runs, axis_name="data", in_axes=(None, 0))
  after, found = mapped(stacked, split)
  for device in range(2):
    for run in range(2):
      pick = lambda x, d=device, r=run: x[d, r]  # noqa: E731
      assert_close(jax.tree.map(pick, after), states[-1], atol=2e-5)
      assert_close(jax.tree.map(pick, found), metrics, atol=1e-4)


def test_priors_are_those_of_the_paper_and_of_the_utterance():
  draw = jax.jit(aae_task.draw_priors, static_argnums=(2, 3))
  index = jnp.arange(3000)
  y, z = draw(jax.random.key(0), index, 3, 4)
  assert (np.asarray(y).sum(axis=1) == 1).all()
  np.testing.assert_allclose(y.mean(axis=0), 1 / 3, atol=0.03)
  np.testing.assert_allclose(np.cov(np.asarray(z).T), np.eye(4), atol=0.09)
  again = draw(jax.random.key(0), index[::-1], 3, 4)
  assert_close((y[::-1], z[::-1]), again)


def test_latent_statistics_by_hand():
  """z: means (1, 0), variances (1, 4), covariance 2; a filler example."""
  latent = {
    "y": jnp.array([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]]),
    "z": jnp.array([[2.0, 2.0], [0.0, -2.0], [9.0, 9.0]]),
  }
  found = jax.jit(aae_task.latent_statistics)(
    latent, jnp.array([1.0, 1.0, 0.0])
  )
  values = {
    name: float(total / count) for name, (total, count) in found.items()
  }
  assert values == pytest.approx(
    {
      "y_entropy": 0.0,
      "y_mean_entropy": np.log(2),
      "z_mean": np.sqrt(1 / 2),
      "z_variance": 2.5,
      "z_covariance": 2.0,
    },
    abs=1e-6,
  )


class Zeros(nn.Module):
  """Reconstructs nothing, at a length of six frames."""

  @nn.compact
  def __call__(self, inputs, lengths, *, train):
    x = inputs["x"]
    return {"reconstruction": jnp.zeros((len(x), 6, x.shape[-1]))}


def test_frames_past_the_length_are_not_reconstructed():
  zeros = np.zeros(3, np.int32)
  x = np.full((3, 4, 2), 9.0, np.float32)
  x[0, :2], x[1, :1] = 1.0, 4.0
  batch = Batch(
    {"x": jnp.asarray(x)}, {"x": np.array([2, 1, 0])}, {},
    jnp.array([1.0, 1.0, 0.0]),
    zeros, zeros,
  )  # fmt: skip
  loss_fn = aae_task._reconstruction(Zeros())
  loss, *_ = loss_fn({}, {}, batch, Turn(jax.random.key(0), 0.0))
  assert tuple(map(float, loss)) == pytest.approx((1 + 1 + 16, 3))


def stages_of(words="utt_aae", **changes):
  config = aae.get_config(words)
  for name, value in changes.items():
    section, field = name.split("__")
    config[section][field] = value
  asked = []

  def optimizer(epochs, factor):
    asked.append((epochs, factor))
    return optax.sgd(factor)

  return aae_task.stages(None, config, optimizer), asked


@pytest.mark.parametrize(
  ("words", "expected"),
  [
    ("utt_aae", [1.0, 0.1, 1.0, 1.0]),
    ("utt_aae_vanilla", [1.0] * 4),
    ("fr_aae,no_regularization", [1.0, 1.0]),
    ("fr_base", [1.0]),
  ],
)
def test_rates_are_those_of_the_rows(words, expected):
  (stage,), asked = stages_of(words)
  assert asked == [(stage.epochs, rate) for rate in expected]
  assert len(stage.task.phases) == len(expected)


@pytest.mark.parametrize(
  ("words", "changes", "message"),
  [
    ("utt_aae", {"task__phases": ("generator",)}, "must have classification"),
    ("utt_aae", {"task__phases": ("classification", "dance")}, "'dance'"),
    ("utt_base", {"task__phases": tuple(SCOPES)}, "autoencoder=True"),
    ("fr_aae", {"data__max_frames": 1025}, "max_frames=1025"),
    ("fr_aae", {"data__max_frames": 0}, "max_frames=0"),
  ],
)
def test_what_no_step_can_be_made_of_is_refused(words, changes, message):
  with pytest.raises(UserError, match=message):
    stages_of(words, **changes)


def test_a_rate_of_zero_is_refused():
  config = aae.get_config()
  config.task.rates.generator = 0.0
  with pytest.raises(UserError, match="rates.generator=0.0 must be positive"):
    aae_task.stages(None, config, None)


@pytest.mark.parametrize("frames", [0, 256])
def test_microbatches_equal_the_large_batch(frames):
  """Labels and frames are uneven: examples would be the wrong share."""
  options = {"dropout": 0.0, "discriminator_dropout": 0.0, "batch_norm": False}
  if frames:
    options |= {"frames": frames, "channels": (2, 2, 2, 2)}
  model = AdversarialAutoencoder(classes=3, **NET, **options)
  tx = optax.with_extra_args_support(optax.sgd(0.1))
  task = aae_task.adversarial_autoencoder(
    model, dict.fromkeys(("reconstruction", "classification"), tx)
  )
  batch = make_batch()
  batch.targets["labelled"][[0, 1, 2, 4, 5]] = 0.0
  if frames:
    draw = np.random.default_rng(1)
    x = draw.normal(size=(COUNT, frames, 5)).astype(np.float32)
    lengths = (batch.weight * [9, 256, 40, 80, 1, 200, 0, 0]).astype(np.int32)
    batch = batch.replace(inputs={"x": x}, lengths={"x": lengths})
  state = jax.jit(functools.partial(init_state, task=task))(
    jnp.uint32(3), batch
  )
  large, small = (
    jax.jit(
      functools.partial(train_step, task=task, total_steps=9, accumulate=count)
    )(state, batch)[0]
    for count in (1, 4)
  )
  assert_close(large.params, small.params)
  assert changed(state.params, large.params) >= {"encoder", "y"}
