import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.metrics

from ser_jax import losses


@pytest.fixture
def batch():
  draw = np.random.default_rng(0)
  return (
    jnp.asarray(draw.normal(size=(16, 4)), jnp.float32),
    jnp.asarray(draw.integers(0, 4, 16), jnp.int32),
    jnp.asarray([1.0] * 12 + [0.0] * 4),
  )


def test_against_scikit_learn(batch):
  logits, labels, weight = batch
  total, count = losses.cross_entropy(logits, labels, weight)
  expected = sklearn.metrics.log_loss(
    labels[:12], np.asarray(jax.nn.softmax(logits[:12])), labels=range(4)
  )
  assert float(losses.mean(total, count)) == pytest.approx(expected, rel=1e-5)


def test_filler_has_no_gradient(batch):
  logits, labels, weight = batch
  gradient = jax.grad(lambda x: losses.cross_entropy(x, labels, weight)[0])
  found = np.asarray(gradient(logits))
  assert (found[12:] == 0).all()
  assert (found[:12] != 0).any(axis=1).all()


def test_smoothing_mixes_with_the_uniform_distribution(batch):
  logits, labels, weight = batch
  plain, _ = losses.cross_entropy(logits, labels, weight)
  smooth, _ = losses.cross_entropy(logits, labels, weight, label_smoothing=0.2)
  uniform = -(jax.nn.log_softmax(logits).mean(axis=1) * weight).sum()
  assert float(smooth) == pytest.approx(
    float(0.8 * plain + 0.2 * uniform), rel=1e-5
  )


def test_a_batch_of_filler_has_a_finite_mean(batch):
  logits, labels, _ = batch
  total, count = losses.cross_entropy(logits, labels, jnp.zeros(16))
  assert float(losses.mean(total, count)) == 0.0


def test_shares_of_devices_add_up(batch):
  logits, labels, weight = batch
  whole = losses.mean(*losses.cross_entropy(logits, labels, weight))

  def share(logits, labels, weight):
    total, count = losses.cross_entropy(logits, labels, weight)
    return losses.mean(total, count, "data")

  parts = jax.pmap(share, axis_name="data")(
    *(x.reshape(8, 2, *x.shape[1:]) for x in batch)
  )
  assert float(parts.sum()) == pytest.approx(float(whole), rel=1e-5)


def test_binary_cross_entropy_against_scikit_learn(batch):
  logits, labels, weight = batch
  total = 0.0
  for wanted in (0.0, 1.0):
    share, count = losses.binary_cross_entropy(
      logits[:, 0], wanted, weight * (labels % 2 == wanted)
    )
    total += share
  expected = sklearn.metrics.log_loss(
    labels[:12] % 2, np.asarray(jax.nn.sigmoid(logits[:12, 0])), normalize=False
  )
  assert float(total) == pytest.approx(expected, rel=1e-5)
  assert float(count) == float((weight * (labels % 2)).sum())


def test_certain_and_wrong_is_finite():
  total, _ = losses.binary_cross_entropy(jnp.array([1e4]), 0.0, jnp.ones(1))
  assert float(total) == 1e4


def test_squared_error_by_hand():
  """Errors (1, 3), mean square 5, and (2, 0), mean square 2, of weight 0."""
  wanted = jnp.array([[0.0, 1.0], [2.0, 2.0]])
  found = jnp.array([[1.0, -2.0], [0.0, 2.0]])
  total, count = losses.squared_error(found, wanted, jnp.array([1.0, 0.0]))
  assert (float(total), float(count)) == (5.0, 1.0)
  total, count = losses.squared_error(
    found[None], wanted[None], jnp.ones((1, 2))
  )
  assert (float(total), float(count)) == (7.0, 2.0)


def test_entropy_by_hand():
  found = losses.entropy(jnp.array([[1.0, 0.0, 0.0], [1 / 3] * 3]))
  np.testing.assert_allclose(found, [0.0, np.log(3)], atol=1e-6)


def test_a_cosine_by_hand():
  one = jnp.array([[3.0, 4.0], [1.0, 0.0], [1.0, 1.0]])
  other = jnp.array([[4.0, 3.0], [0.0, 2.0], [-2.0, -2.0]])
  found = losses.cosine_similarity(one, other)
  np.testing.assert_allclose(found, [0.96, 0.0, -1.0], atol=1e-6)


@pytest.mark.parametrize("size", [1e-4, 1.0, 1e4])
def test_the_cosine_s_gradient_against_finite_differences(size):
  x, y = size * np.random.default_rng(0).normal(size=(2, 5))

  def cosine(x):
    return x @ y / np.linalg.norm(x) / np.linalg.norm(y)

  step = 1e-5 * size
  wanted = [
    (cosine(x + step * e) - cosine(x - step * e)) / (2 * step)
    for e in np.eye(5)
  ]
  one, other = (jnp.asarray(v[None], jnp.float32) for v in (x, y))
  found = jax.grad(lambda x: losses.cosine_similarity(x, other).sum())(one)
  np.testing.assert_allclose(found[0], wanted, rtol=1e-3, atol=1e-4 / size)


@pytest.mark.parametrize("length", [0.0, 1e-7])
def test_vectors_without_direction_have_cosine_and_gradient_0(length):
  one, other = jnp.full((1, 3), length), jnp.ones((1, 3))
  for pair in ((one, other), (other, one), (one, one)):
    value, gradients = jax.value_and_grad(
      lambda x, y: losses.cosine_similarity(x, y).sum(), argnums=(0, 1)
    )(*pair)
    assert value == 0
    assert not any(g.any() for g in gradients)


def test_complementary_sums_by_hand():
  cosine = jnp.array([-0.9, -0.2, 0.7])
  weight = jnp.array([1.0, 1.0, 0.0])
  for threshold, wanted in ((None, -1.1), (-0.5, 0.7), (0.0, 1.1)):
    total, count = losses.complementary(cosine, weight, threshold=threshold)
    assert float(total) == pytest.approx(wanted) and float(count) == 2
