"""The loss by hand, freezing, devices, and what the config refuses."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec

from configs import dcaen
from ser_jax import losses
from ser_jax.batch import Batch
from ser_jax.errors import UserError
from ser_jax.models.complementary import Complementary
from ser_jax.system import make_model
from ser_jax.tasks import complementary
from ser_jax.tasks.task import Turn
from ser_jax.train.state import init_state
from ser_jax.train.step import train_step

TURN = Turn(jax.random.key(1), 0.0)
SMALL = {"embedding": 4, "hidden": 3, "filters": (10, 10)}


def batch(size=4, weight=(1.0, 1.0, 1.0, 0.0)):
  rng = np.random.default_rng(0)
  weight = np.array(weight, np.float32)
  lengths = np.array([3, 2, 3, 3], np.int32) * (weight > 0)
  waveform = rng.normal(size=(size, 3, 8)).astype(np.float32)
  waveform[np.arange(3) >= lengths[:, None]] = 0.0
  functionals = rng.normal(size=(size, 5)).astype(np.float32)
  return Batch(
    inputs={
      "waveform": jnp.asarray(waveform),
      "functionals": jnp.asarray(functionals * (weight > 0)[:, None]),
    },
    lengths={
      "waveform": jnp.asarray(lengths),
      "functionals": jnp.asarray((weight > 0).astype(np.int32)),
    },
    targets={"emotion": jnp.array([0, 1, 2, 3])},
    weight=jnp.asarray(weight),
    speaker=jnp.zeros(size, jnp.int32),
    index=jnp.arange(size, dtype=jnp.int32),
  )


def task_of(model, **options):
  tx = optax.with_extra_args_support(optax.sgd(0.5))
  return complementary.joint_task(model, tx, **{"weight": 0.6} | options)


def stepped(task, steps=1):
  """The state before and after some steps, and the metrics of each."""

  def step(state, _):
    return train_step(state, batch(), task=task, total_steps=10)

  @jax.jit
  def run(seed):
    first = init_state(seed, batch(), task)
    return first, *jax.lax.scan(step, first, length=steps)

  return run(jnp.uint32(3))


@pytest.mark.parametrize("threshold", [None, -0.5])
def test_the_loss_by_hand(threshold):
  """Of examples that are no filler: w cos + (1 - w) CE, or w |cos - thr|."""
  model = Complementary(4, **SMALL)
  task = task_of(model, threshold=threshold)
  params, stats = jax.jit(task.init)(jax.random.key(0), batch())
  loss, _, totals = jax.jit(task.phases[0].loss_fn)(
    params, stats, batch(), TURN
  )
  found = jax.jit(task.predict)(params, stats, batch())
  one, other = (
    np.asarray(found[f"embedding_{name}"], np.float64)[:3]
    for name in ("raw", "features")
  )
  lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
  cosine = (one * other).sum(axis=1) / lengths
  entropy = -np.log(np.asarray(found["scores"])[np.arange(3), np.arange(3)])
  apart = cosine if threshold is None else abs(cosine - threshold)
  wanted = 0.6 * apart.mean() + 0.4 * entropy.mean()
  assert float(losses.mean(*loss)) == pytest.approx(wanted, rel=1e-4)
  assert float(totals["cosine"][0]) == pytest.approx(cosine.sum(), rel=1e-4)
  assert float(totals["loss"][0]) == pytest.approx(entropy.sum(), rel=1e-4)


@pytest.mark.parametrize(
  ("variant", "frozen", "still"),
  [
    ("dual", True, {"features"}),
    ("dual", False, set()),
    ("dual_raw", True, {"features"}),
    ("dual_projected", True, {"projection"}),
  ],
)
def test_only_groups_in_the_scope_move(variant, frozen, still):
  model = Complementary(4, variant, frozen, **SMALL)
  before, after, _ = stepped(task_of(model))
  for name, tree in before.params.items():
    pairs = zip(
      jax.tree.leaves(tree), jax.tree.leaves(after.params[name]), strict=True
    )
    same = all((one == other).all() for one, other in pairs)
    assert same == (name in still), name
  assert before.batch_stats == after.batch_stats == {}


def test_the_cosine_falls_when_it_alone_is_minimised():
  model = Complementary(4, **SMALL)
  _, _, metrics = stepped(task_of(model, weight=1.0), steps=8)
  cosines = np.divide(*metrics["cosine"].T)
  assert cosines[-1] < cosines[0]


def test_filler_has_no_gradient():
  task = task_of(Complementary(4, **SMALL))
  params, stats = jax.jit(task.init)(jax.random.key(0), batch())
  noisy = batch()
  noisy = noisy.replace(
    inputs=noisy.inputs
    | {"functionals": noisy.inputs["functionals"].at[3].set(7.0)}
  )
  total = lambda *args: task.phases[0].loss_fn(*args)[0][0]  # noqa: E731
  run = jax.jit(lambda batch: jax.grad(total)(params, stats, batch, TURN))
  for one, other in zip(
    *(jax.tree.leaves(run(b)) for b in (batch(), noisy)), strict=True
  ):
    np.testing.assert_array_equal(one, other)


def test_devices_share_a_step():
  """E_uF has dropout in the second stage, too."""
  options = {"frozen": False} | SMALL
  _, whole, metrics = stepped(task_of(Complementary(4, **options)), steps=1)
  metrics = jax.tree.map(lambda x: x[0], metrics)
  model = Complementary(4, axis_name="data", **options)
  task = task_of(model)
  mesh = jax.make_mesh(
    (2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,)
  )
  step = functools.partial(
    train_step, task=task, total_steps=10, axis_name="data"
  )
  state = jax.jit(lambda seed: init_state(seed, batch(), task))(jnp.uint32(3))
  everywhere, split = PartitionSpec(), PartitionSpec("data")
  shared, totals = jax.jit(
    jax.shard_map(
      step,
      mesh=mesh,
      in_specs=(everywhere, split),
      out_specs=everywhere,
      check_vma=False,
    )
  )(state, batch())
  for one, other in zip(
    *map(jax.tree.leaves, (whole.params, shared.params)), strict=True
  ):
    np.testing.assert_allclose(one, other, atol=1e-6)
  np.testing.assert_allclose(
    metrics.values, totals.values, rtol=1e-5, atol=1e-6
  )


def test_runs_in_one_program_equal_runs_one_by_one():
  """The convolutions and their spectra have an axis of runs more."""
  task = task_of(Complementary(4, forms=("direct", "fft"), **SMALL))

  def run(seed):
    state = init_state(seed, batch(), task)
    return train_step(state, batch(), task=task, total_steps=10)[0].params

  together = jax.jit(jax.vmap(run))(jnp.arange(2, dtype=jnp.uint32))
  alone = jax.jit(run)(jnp.uint32(1))
  for one, other in zip(*map(jax.tree.leaves, (together, alone)), strict=True):
    np.testing.assert_allclose(one[1], other, atol=1e-5)


def stages_of(words, **changes):
  config = dcaen.get_config(words)
  config.task.update(changes)
  model = make_model(config, classes=4)
  return complementary.stages(model, config, lambda epochs: optax.sgd(0.1))


@pytest.mark.parametrize("row", dcaen.PAPER)
def test_rows_have_one_stage_or_two(row):
  found = stages_of(row)
  if row in ("raw", "ftr_eg", "ftr_em", "e_ceg"):
    assert [(s.name, s.takes) for s in found] == [("train", ())]
    return
  assert [(s.name, s.takes) for s in found] == [
    ("features", ()),
    ("joint", ("features",)),
  ]
  assert found[0].task.phases[0].scope == ("features", "features_head")
  joint = found[1].task.phases[0].scope
  assert ("features" in joint) == (row == "e_uf")


@pytest.mark.parametrize(
  ("words", "changes", "message"),
  [
    ("dcaen", {"weight": 1.5}, r"weight=1.5 .* \[0, 1\]"),
    ("raw", {"weight": 0.6}, "nothing to compare with"),
    ("dcaen", {"threshold": -2.0}, "threshold=-2.0"),
    ("e_nc", {"threshold": -0.5}, "weight above 0"),
    ("dcaen", {"feature_epochs": 0}, "at least 1"),
    ("raw", {"feature_epochs": 3}, "else 0"),
  ],
)
def test_values_of_no_use_are_refused(words, changes, message):
  with pytest.raises(UserError, match=message):
    stages_of(words, **changes)


def test_the_threshold_form_at_minus_one_is_the_plain_one():
  cosine, weight = jnp.array([-0.9, 0.3]), jnp.ones(2)
  one, other = (
    jax.grad(lambda c, t=t: losses.complementary(c, weight, threshold=t)[0])(
      cosine
    )
    for t in (None, -1.0)
  )
  np.testing.assert_array_equal(one, other)
