"""Masked BatchNorm against NumPy, which sees the valid frames alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ser_jax.nn.normalization import BatchNorm, masked_moments, running_update

BATCH, TIME, INNER, DIM = 8, 5, 3, 4
LENGTHS = np.array([5, 3, 1, 0, 4, 2, 5, 0], np.int32)
MASK = np.arange(TIME) < LENGTHS[:, None]


def values(scale=1.0, shift=0.0):
  draw = np.random.default_rng(0)
  x = draw.normal(shift, scale, (BATCH, TIME, INNER, DIM)).astype(np.float32)
  x[~MASK] = 1e4
  return x


def test_moments_are_those_of_the_valid_frames():
  # A mean of a thousand deviations: sums of squares would lose the variance.
  x = values(shift=1000.0)
  mean, variance, count = masked_moments(jnp.array(x), jnp.array(MASK))
  kept = x[MASK].reshape(-1, DIM).astype(np.float64)
  np.testing.assert_allclose(mean, kept.mean(0), rtol=1e-6)
  np.testing.assert_allclose(variance, kept.var(0), rtol=1e-3)
  assert count == MASK.sum() * INNER == len(kept)


def test_an_empty_mask_gives_zeros_and_moves_nothing():
  x, empty = jnp.array(values()), jnp.zeros((BATCH, TIME), bool)
  moments = masked_moments(x, empty)
  for moment in moments:
    assert not np.any(moment)
  old = jnp.full(DIM, 2.0), jnp.full(DIM, 3.0)
  for before, after in zip(old, running_update(old, *moments), strict=True):
    np.testing.assert_array_equal(before, after)


def test_running_statistics_are_pytorchs():
  """momentum 0.1, biased variance to normalise, unbiased to remember."""
  x = np.array([[1.0], [2.0], [6.0]], np.float32)[:, None]
  layer, mask = BatchNorm(), jnp.ones((3, 1), bool)
  variables = layer.init(jax.random.key(0), jnp.array(x), mask, train=False)
  out, new = layer.apply(
    variables, jnp.array(x), mask, train=True, mutable=["batch_stats"]
  )
  variance = (4.0 + 1.0 + 9.0) / 3.0
  np.testing.assert_allclose(
    out[:, 0, 0], (x[:, 0, 0] - 3.0) / np.sqrt(variance + 1e-5), rtol=1e-5
  )
  np.testing.assert_allclose(new["batch_stats"]["mean"], [0.3], rtol=1e-6)
  np.testing.assert_allclose(
    new["batch_stats"]["variance"], [0.9 + 0.1 * 14.0 / 2.0], rtol=1e-6
  )
  out = layer.apply({**variables, **new}, jnp.array(x), mask, train=False)
  np.testing.assert_allclose(
    out[:, 0, 0], (x[:, 0, 0] - 0.3) / np.sqrt(1.6 + 1e-5), rtol=1e-5
  )


@pytest.mark.parametrize("affine", [True, False])
def test_a_split_batch_has_the_statistics_of_the_whole(affine):
  x, weights = values(shift=3.0), values(shift=1.0)
  x[~MASK], weights[~MASK] = 0.0, 0.0
  layer, split = BatchNorm(affine=affine), BatchNorm("data", affine)
  variables = layer.init(
    jax.random.key(0), jnp.array(x), jnp.array(MASK), train=False
  )

  def grads_of(layer):
    def loss(x, mask, weights):
      out, new = layer.apply(
        variables, x, mask, train=True, mutable=["batch_stats"]
      )
      return jnp.sum(out * weights), (out, new)

    return jax.grad(loss, has_aux=True)

  want = jax.jit(grads_of(layer))(x, MASK, weights)
  shards = [a.reshape(8, 1, *a.shape[1:]) for a in (x, MASK, weights)]
  got = jax.pmap(grads_of(split), "data")(*shards)
  for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
    a = a[5] if b.ndim == 1 else a.reshape(b.shape)
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def test_evaluation_needs_no_mapped_axis():
  layer, x = BatchNorm("data"), jnp.array(values())
  variables = layer.init(jax.random.key(0), x, jnp.array(MASK), train=False)
  out = layer.apply(variables, x, jnp.array(MASK), train=False)
  np.testing.assert_allclose(out, x / np.sqrt(1.0 + 1e-5), rtol=1e-6)
