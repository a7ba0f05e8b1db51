"""Augmentation: what it moves, what it must not, and that devices agree."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec

from configs import adieu, dat, dcaen
from ser_jax import experiment
from ser_jax.batch import Batch
from ser_jax.data.augment import Augmentation, augment
from ser_jax.errors import UserError

ALL = Augmentation(2, 0.3, 1, 0.5, 0.1, 0.1, 0.5)


def make(frames=40, dim=12, count=8, fill=None):
  x = np.random.default_rng(0).normal(size=(count, frames, dim))
  if fill is not None:
    x = np.full_like(x, fill)
  lengths = np.array([frames - 3 * i for i in range(count - 1)] + [0])
  x[np.arange(frames)[None] >= lengths[:, None]] = 0.0
  return Batch(
    inputs={"x": jnp.asarray(x, jnp.float32), "f": jnp.ones((count, 5))},
    lengths={"x": jnp.asarray(lengths), "f": jnp.asarray(lengths > 0)},
    targets={},
    weight=jnp.asarray(lengths > 0, jnp.float32),
    speaker=jnp.zeros(count, jnp.int32),
    index=jnp.arange(count),
  )


def run(batch, seed=0, **fields):
  return augment(batch, Augmentation(**fields), jax.random.key(seed))


def test_inputs_have_noise_of_their_own_at_one_pace_and_gain():
  batch = make()
  twice = {"x": batch.inputs["x"], "y": batch.inputs["x"]}
  lengths = batch.lengths | {"y": batch.lengths["x"]}
  batch = batch.replace(inputs=twice, lengths=lengths)
  alike = run(batch, speed=0.1, gain=0.5, time_masks=1, time_width=0.3)
  np.testing.assert_array_equal(alike.inputs["x"], alike.inputs["y"])
  x, y = (found - twice["x"] for found in run(batch, noise=1.0).inputs.values())
  x, y = (noise[0].ravel() for noise in (x, y))
  assert abs(np.corrcoef(x, y)[0, 1]) < 0.15  # five deviations or so


def test_nothing_asked_for_is_the_same_batch():
  batch = make()
  assert run(batch) is batch


@pytest.mark.parametrize(
  "field", ["time_masks", "time_width", "frequency_masks", "frequency_width"]
)
def test_masks_without_width_and_width_without_masks_are_refused(field):
  with pytest.raises(UserError, match=f"{field}=.* does nothing: set both"):
    Augmentation(**{field: getattr(ALL, field)})


def test_functionals_stay_and_padding_stays_zero():
  batch = make()
  out = augment(batch, ALL, jax.random.key(1))
  np.testing.assert_array_equal(out.inputs["f"], batch.inputs["f"])
  x, lengths = np.asarray(out.inputs["x"]), np.asarray(out.lengths["x"])
  assert lengths[-1] == 0 and (lengths[:-1] > 0).all()
  assert (x[np.arange(40)[None] >= lengths[:, None]] == 0).all()
  assert not np.array_equal(x, batch.inputs["x"])


def test_padding_does_not_change_what_is_made():
  batch = make()
  longer = jnp.pad(batch.inputs["x"], ((0, 0), (0, 9), (0, 0)))
  wide = batch.replace(inputs={**batch.inputs, "x": longer})
  one, other = (augment(b, ALL, jax.random.key(0)) for b in (batch, wide))
  np.testing.assert_array_equal(one.inputs["x"], other.inputs["x"][:, :40])
  np.testing.assert_array_equal(one.lengths["x"], other.lengths["x"])
  assert not other.inputs["x"][:, 40:].any()


def test_masks_are_stretches_no_wider_than_asked():
  batch = make(frames=200, dim=20, fill=1.0)
  out = run(batch, time_masks=1, time_width=0.25)
  gone = np.asarray(out.inputs["x"][0] == 0)
  assert (gone.all(axis=1) == gone.any(axis=1)).all()
  frames = np.flatnonzero(gone.all(axis=1))
  assert 0 < len(frames) <= 51 and np.ptp(frames) == len(frames) - 1
  out = run(batch, frequency_masks=1, frequency_width=0.5, seed=3)
  gone = np.asarray(out.inputs["x"][0] == 0)
  bands = np.flatnonzero(gone.all(axis=0))
  assert 0 < len(bands) <= 11 and np.ptp(bands) == len(bands) - 1
  assert not gone[:, np.setdiff1d(np.arange(20), bands)].any()


def test_speed_stretches_a_ramp():
  batch = make()
  ramp = jnp.broadcast_to(jnp.arange(40.0)[:, None], (8, 40, 12))
  batch = batch.replace(
    inputs={**batch.inputs, "x": ramp},
    lengths={**batch.lengths, "x": jnp.full(8, 30)},
  )
  out = run(batch, speed=0.2)
  x, lengths = np.asarray(out.inputs["x"]), np.asarray(out.lengths["x"])
  assert len(set(lengths)) > 1
  for each, length in zip(x[..., 0], lengths, strict=True):
    pace = each[1] - each[0]
    assert 0.8 <= pace <= 1.2
    assert abs(length - min(30 / pace, 30)) <= 1 and each[length - 1] <= 29
    want = pace * np.arange(length - 2)
    np.testing.assert_allclose(each[: length - 2], want, rtol=1e-4)


@pytest.mark.parametrize("devices", [2, 4])
def test_many_devices_augment_as_one_does(devices):
  batch = make()

  def local(batch):
    return augment(batch, ALL, jax.random.key(7), "data")

  mesh = jax.make_mesh(
    (devices,), ("data",), (AxisType.Auto,), devices=jax.devices()[:devices]
  )
  spec = PartitionSpec("data")
  split = jax.jit(
    jax.shard_map(local, mesh=mesh, in_specs=spec, out_specs=spec)
  )
  one, many = augment(batch, ALL, jax.random.key(7)), split(batch)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), one, many
  )


@pytest.mark.parametrize(
  ("field", "value"), [("speed", 0.6), ("time_width", 1.5), ("noise", -1.0)]
)
def test_numbers_out_of_range_are_refused(field, value):
  with pytest.raises(UserError, match=f"config.augment.{field}"):
    dataclasses.replace(ALL, **{field: value})


@pytest.mark.parametrize(
  ("config", "field", "message"),
  [
    (lambda: adieu.get_config("blstm_egemaps"), "speed", "than their targets"),
    (lambda: adieu.get_config("bi128"), "speed", "than their targets"),
    (lambda: dcaen.get_config("raw"), "speed", "are samples"),
    (lambda: dcaen.get_config("dcaen"), "speed", "are samples"),
    (lambda: adieu.get_config("bi128"), "frequency", "are samples"),
    (lambda: dcaen.get_config("raw"), "gain", "are samples"),
  ],
)
def test_what_targets_or_samples_cannot_follow_is_refused(
  config, field, message
):
  config = config()
  config.augment.update({"time_masks": 1, "time_width": 0.1, "noise": 0.1})
  experiment.check(config)
  every = dataclasses.asdict(ALL).items()
  config.augment.update({k: v for k, v in every if k.startswith(field)})
  with pytest.raises(UserError, match=message):
    experiment.check(config)


def test_features_of_frames_may_be_augmented_in_every_way():
  config = dat.get_config()
  config.augment.update(dataclasses.asdict(ALL))
  experiment.check(config)
