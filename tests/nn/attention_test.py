import jax
import jax.numpy as jnp
import numpy as np

from ser_jax.nn.attention import Attention, masked_softmax


def test_weights_by_hand():
  scores = jnp.log(jnp.array([[1.0, 3.0, 7.0], [2.0, 2.0, 4.0]]))
  found = masked_softmax(scores, jnp.array([2, 3]))
  np.testing.assert_allclose(found, [[0.25, 0.75, 0], [0.25, 0.25, 0.5]])


def test_no_steps_have_no_weights_and_no_gradient():
  def total(scores):
    return jnp.sum(jnp.square(masked_softmax(scores, jnp.array([0, 2]))))

  scores = jnp.ones((2, 3))
  assert not masked_softmax(scores, jnp.array([0, 2]))[0].any()
  gradient = jax.jit(jax.grad(total))(scores)
  assert jnp.isfinite(gradient).all() and not gradient[0].any()


def test_large_scores_stay_finite():
  found = masked_softmax(jnp.array([[1e30, 0.0, -1e30]]), jnp.array([3]))
  np.testing.assert_allclose(found, [[1, 0, 0]])


def test_attention_begins_with_equal_weights_and_learns():
  x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 4, 3)), jnp.float32)
  lengths = jnp.array([4, 2])
  attention = Attention()
  variables = attention.init(jax.random.key(0), x, lengths)
  found = attention.apply(variables, x, lengths)
  np.testing.assert_allclose(found[0], 0.25)
  np.testing.assert_allclose(found[1], [0.5, 0.5, 0, 0])
  first = jax.jit(jax.grad(lambda v: attention.apply(v, x, lengths)[0, 0]))
  gradient = first(variables)
  assert gradient["params"]["vector"].any()
