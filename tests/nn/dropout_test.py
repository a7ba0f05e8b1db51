import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec

from ser_jax.nn.dropout import Dropout, GaussianNoise


def drop(x, seed=0, **options):
  options = {"rate": 0.25} | options
  return Dropout(**options).apply(
    {}, x, train=True, rngs={"dropout": jax.random.key(seed)}
  )


def test_as_many_are_dropped_as_asked_and_the_mean_stays():
  x = jnp.ones((64, 500))
  out = drop(x)
  assert set(np.unique(out)) == {np.float32(0.0), np.float32(1 / 0.75)}
  assert float((out == 0).mean()) == pytest.approx(0.25, abs=0.01)
  # Neither examples nor keys repeat one another.
  assert not np.array_equal(out[0], out[1])
  assert not np.array_equal(out, drop(x, seed=1))


def test_whole_channels():
  out = np.asarray(drop(jnp.ones((4, 5, 6, 50)), shared=(1, 2)))
  np.testing.assert_array_equal(out, np.broadcast_to(out[:, :1, :1], out.shape))
  assert 0.1 < (out[:, 0, 0] == 0).mean() < 0.4


def test_evaluation_and_rate_0_change_nothing():
  x = jnp.ones((2, 3))
  np.testing.assert_array_equal(Dropout(0.5).apply({}, x, train=False), x)
  np.testing.assert_array_equal(Dropout(0.0).apply({}, x, train=True), x)


@pytest.mark.parametrize("devices", [2, 8])
def test_many_devices_drop_as_one_does(devices):
  x = jnp.arange(1.0, 8 * 40 + 1).reshape(8, 40)
  one = drop(x)

  def local(x):
    return drop(x, axis_name="data")

  mesh = jax.make_mesh(
    (devices,), ("data",), (AxisType.Auto,), devices=jax.devices()[:devices]
  )
  spec = PartitionSpec("data")
  sharded = jax.shard_map(
    local, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False
  )
  np.testing.assert_array_equal(jax.jit(sharded)(x), one)
  split = x.reshape(devices, 8 // devices, 40)
  pmapped = jax.pmap(local, axis_name="data", devices=jax.devices()[:devices])
  np.testing.assert_array_equal(pmapped(split).reshape(8, 40), one)


def test_noise_has_the_deviation_asked_for_and_is_absent_in_evaluation():
  x = jnp.full((64, 500), 3.0)
  out = np.asarray(
    GaussianNoise(0.1).apply(
      {}, x, train=True, rngs={"dropout": jax.random.key(0)}
    )
  )
  assert out.std() == pytest.approx(0.1, rel=0.02)
  assert out.mean() == pytest.approx(3.0, abs=2e-3)
  assert not np.array_equal(out[0], out[1])
  np.testing.assert_array_equal(GaussianNoise(0.1).apply({}, x, train=False), x)
