"""Convolutions against NumPy and each other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ser_jax.nn.conv1d import prepare


def draw(seed, *shape):
  return jnp.asarray(
    np.random.default_rng(seed).normal(size=shape), jnp.float32
  )


def conv1d(x, kernel, form):
  for step in prepare(kernel, form, *x.shape[1:]):
    x = step(x)
  return x


@pytest.mark.parametrize("form", ["direct", "blocked", "fft"])
@pytest.mark.parametrize("taps", [1, 4, 5])
def test_a_convolution_is_numpy_s_correlation(form, taps):
  x, kernel = draw(0, 1, 9, 1), draw(1, taps, 1, 1)
  wanted = np.correlate(
    np.pad(x[0, :, 0], ((taps - 1) // 2, taps // 2)), kernel[:, 0, 0]
  )
  np.testing.assert_allclose(
    conv1d(x, kernel, form)[0, :, 0], wanted, atol=1e-5
  )


@pytest.mark.parametrize(
  ("length", "taps", "inputs", "depthwise"),
  [
    (64, 40, 3, False),  # shorter than a block
    (1500, 40, 3, False),  # several blocks
    (1500, 40, 3, True),
    (700, 600, 2, False),  # a kernel as long as the signal
    (5, 40, 2, False),  # and longer
    (2401, 300, 2, True),
  ],
)
def test_forms_and_their_gradients_are_equal(length, taps, inputs, depthwise):
  x = draw(0, 2, length, inputs)
  kernel = draw(1, taps, 1 if depthwise else inputs, 2 * inputs) / taps**0.5
  aim = draw(2, 2, length, 2 * inputs)

  def loss(x, kernel, form):
    y = conv1d(x, kernel, form)
    return jnp.sum(y * aim), y

  run = jax.jit(jax.grad(loss, argnums=(0, 1), has_aux=True), static_argnums=2)
  direct = jax.tree.leaves(run(x, kernel, "direct"))
  for form in ("fft",) if depthwise else ("fft", "blocked"):
    found = jax.tree.leaves(run(x, kernel, form))
    for one, other in zip(direct, found, strict=True):
      scale = float(jnp.abs(one).max())
      np.testing.assert_allclose(one, other, atol=2e-5 * scale)
