import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ser_jax.nn.gradient_reversal import reverse_gradient


def draw(*shape):
  return jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)


@pytest.mark.parametrize("strength", [0.0, 0.25, 1.0, -1.0])
def test_identity_forwards_and_exactly_scaled_backwards(strength):
  x, upstream = draw(3, 4), draw(3, 4) + 1.0
  out, back = jax.vjp(lambda x: reverse_gradient(x, jnp.float32(strength)), x)
  np.testing.assert_array_equal(out, x)
  np.testing.assert_array_equal(back(upstream)[0], -strength * upstream)


def test_the_strength_may_be_traced_and_gets_no_gradient():
  x = draw(5)

  @jax.jit
  def gradients(strength):
    return jax.grad(
      lambda x, s: jnp.sum(jnp.sin(reverse_gradient(x, s))), (0, 1)
    )(x, strength)

  for strength in (0.5, 2.0):
    of_x, of_strength = gradients(jnp.float32(strength))
    np.testing.assert_allclose(of_x, -strength * jnp.cos(x), rtol=1e-6)
    assert float(of_strength) == 0.0


def test_runs_may_be_stacked():
  x, strengths = draw(2, 5), jnp.array([0.5, 2.0])
  grads = jax.vmap(jax.grad(lambda x, s: jnp.sum(reverse_gradient(x, s))))(
    x, strengths
  )
  np.testing.assert_array_equal(grads, [[-0.5] * 5, [-2.0] * 5])


def test_gradients_keep_their_type():
  x = draw(3).astype(jnp.bfloat16)
  grad = jax.grad(lambda x: jnp.sum(reverse_gradient(x, jnp.float32(0.5))))(x)
  assert grad.dtype == jnp.bfloat16
