"""Pooling over valid frames, against NumPy one utterance at a time; maxima."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ser_jax.nn.pooling import axis_max, masked_mean, statistics_pooling

LENGTHS = np.array([6, 3, 2, 1, 0], np.int32)


def frames(time=6, seed=0):
  return np.random.default_rng(seed).normal(size=(5, time, 4)).astype("float32")


def test_mean():
  x = frames()
  out = masked_mean(jnp.array(x), jnp.array(LENGTHS))
  for row, got, n in zip(x, out, LENGTHS, strict=True):
    want = row[:n].mean(0) if n else np.zeros(4)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


def test_mean_and_deviation():
  x = frames()
  out = statistics_pooling(jnp.array(x), jnp.array(LENGTHS))
  for row, got, n in zip(x, out, LENGTHS, strict=True):
    mean = row[:n].mean(0) if n else np.zeros(4)
    deviation = row[:n].std(0, ddof=1) if n > 1 else np.zeros(4)
    np.testing.assert_allclose(
      got, np.concatenate([mean, deviation]), rtol=1e-5, atol=1e-6
    )


def test_statistics_of_half_precision_are_of_single():
  """Small deviations around a large mean, and more frames than it counts."""
  x = jnp.asarray(
    10 + np.random.default_rng(0).normal(0, 0.1, (1, 281, 64)), jnp.bfloat16
  )
  lengths = jnp.array([281])
  found = statistics_pooling(x, lengths)
  wanted = statistics_pooling(x.astype(jnp.float32), lengths)
  assert found.dtype == jnp.bfloat16
  np.testing.assert_array_equal(found, wanted.astype(jnp.bfloat16))


def test_a_deviation_of_zero_has_a_gradient_of_zero():
  x = jnp.ones((2, 3, 4))
  lengths = jnp.array([3, 1])

  def deviations(x):
    return jnp.sum(statistics_pooling(x, lengths)[:, 4:])

  np.testing.assert_array_equal(jax.grad(deviations)(x), 0.0)


def test_padding_changes_nothing():
  x, longer = frames(), 100.0 * frames(8, seed=1)
  valid = np.arange(6) < LENGTHS[:, None]
  longer[:, :6][valid] = x[valid]

  def pooled(x):
    return statistics_pooling(x, jnp.array(LENGTHS))

  want, back = jax.vjp(pooled, jnp.array(x))
  out, longer_back = jax.vjp(pooled, jnp.array(longer))
  np.testing.assert_allclose(out, want, rtol=1e-5, atol=1e-6)
  weights = jnp.array(np.random.default_rng(2).normal(size=(5, 8)), jnp.float32)
  (want,), (got,) = back(weights), longer_back(weights)
  np.testing.assert_allclose(got[:, :6], want, rtol=1e-4, atol=1e-5)
  np.testing.assert_array_equal(got[:, 6:], 0.0)


def test_the_first_of_equal_maxima_takes_the_gradient():
  x = jnp.array([[1.0, 3.0, 3.0], [-1.0, -2.0, -3.0], [0.0, 0.0, 0.0]])
  for rectify, maxima in ((False, [3.0, -1.0, 0.0]), (True, [3.0, 0.0, 0.0])):
    y, back = jax.vjp(lambda x: axis_max(x, 1, rectify), x)  # noqa: B023
    np.testing.assert_array_equal(y, maxima)
    (gradient,) = back(jnp.array([1.0, 2.0, 4.0]))
    won = [[0, 1, 0], [2, 0, 0], [4, 0, 0]]
    np.testing.assert_array_equal(
      gradient, [won[0]] + [[0, 0, 0]] * 2 if rectify else won
    )


@pytest.mark.parametrize("rectify", [False, True])
@pytest.mark.parametrize("size", [255, 256])
def test_the_last_of_many_may_win(size, rectify):
  x = jnp.arange(1.0, size + 1)[None]
  gradient = jax.jit(jax.grad(lambda x: axis_max(x, 1, rectify).sum()))
  wanted = jnp.zeros((1, size)).at[0, -1].set(1)
  np.testing.assert_array_equal(gradient(x), wanted)
  # Of negative values the greatest is the first, unless 0 is greater.
  assert gradient(-x)[0, 0] == (not rectify)


def test_maxima_are_those_of_pooling():
  x = jnp.array(frames(8))

  def by_axis(x):
    return axis_max(x.reshape(5, 4, 2, 4), 2, False)

  def by_pool(x):
    return nn.max_pool(x, (2,), (2,))

  for one, other in zip(
    *(
      jax.tree.leaves(jax.vjp(f, x)[1](jnp.ones((5, 4, 4)))) + [f(x)]
      for f in (by_axis, by_pool)
    ),
    strict=True,
  ):
    np.testing.assert_array_equal(one, other)
