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


@pytest.fixture
def contours():
  draw = np.random.default_rng(0)
  lengths = np.array([7, 4, 1, 0, 6, 5, 7, 2])
  weight = (np.arange(7) < lengths[:, None]).astype(np.float32)
  found, wanted = draw.normal(size=(2, 8, 7, 2)).astype(np.float32)
  return found, wanted + found, weight


def lin(x, y):
  """Lin's coefficient in float64, of the population."""
  x, y = np.float64(x), np.float64(y)
  covariance = np.mean((x - x.mean()) * (y - y.mean()))
  return 2 * covariance / (x.var() + y.var() + (x.mean() - y.mean()) ** 2)


def test_concordance_by_hand():
  """Means 2 and 3, variances 2/3 and 8/3, covariance 4/3: 8/3 over 13/3."""
  found = jnp.array([[[1.0], [2.0], [3.0]]])
  wanted = jnp.array([[[1.0], [3.0], [5.0]]])
  total, count = losses.concordance(found, wanted, jnp.ones((1, 3)))
  assert float(total) == pytest.approx(1 - 8 / 13)
  assert float(count) == 1.0


@pytest.mark.parametrize("per_sequence", [False, True])
def test_concordance_of_valid_frames_against_lin(contours, per_sequence):
  found, wanted, weight = contours
  groups = [weight > 0]
  if per_sequence:
    rows = np.arange(8)[:, None]
    groups = [
      groups[0] & (rows == row) for row in range(8) if weight[row].any()
    ]
  each = [
    np.mean([1 - lin(found[g, k], wanted[g, k]) for k in range(2)])
    for g in groups
  ]
  total, count = losses.concordance(
    *map(jnp.asarray, contours), per_sequence=per_sequence
  )
  assert float(count) == len(groups)
  assert float(total) == pytest.approx(sum(each), rel=1e-5)


@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_the_concordance_s_gradient_against_finite_differences(
  contours, offset
):
  found, wanted, weight = contours
  found, wanted = found[:2] + offset, wanted[:2] + offset
  others = jnp.asarray(wanted), jnp.asarray(weight[:2])
  gradient = jax.grad(lambda x: losses.concordance(x, *others)[0])(
    jnp.asarray(found)
  )
  inside = weight[:2] > 0

  def reference(x):
    return np.mean([1 - lin(x[inside, k], wanted[inside, k]) for k in range(2)])

  for where in ((0, 3, 1), (1, 2, 0)):
    step = np.zeros(found.shape)
    step[where] = 1e-4
    slope = (reference(found + step) - reference(found - step)) / 2e-4
    assert float(gradient[where]) == pytest.approx(slope, rel=2e-3, abs=1e-5)
  assert not np.asarray(gradient)[~inside].any()


@pytest.mark.parametrize(
  ("found", "wanted"), [(0.0, 0.0), (1.0, 1.0), (1.0, 2.0), (None, 2.0),
                        (1.0, None)],
)  # fmt: skip
def test_constant_contours_have_a_loss_of_1_and_a_finite_gradient(
  contours, found, wanted
):
  shape = contours[0].shape
  x, y = (
    jnp.asarray(given) if value is None else jnp.full(shape, value)
    for value, given in zip((found, wanted), contours[:2], strict=True)
  )
  value, gradient = jax.value_and_grad(
    lambda x: losses.concordance(x, y, jnp.asarray(contours[2]))[0]
  )(x)
  assert float(value) == pytest.approx(1.0, abs=1e-5)
  assert np.isfinite(gradient).all()


def test_filler_alone_has_no_concordance(contours):
  found, wanted, weight = map(jnp.asarray, contours)
  for each in (True, False):
    pair = losses.concordance(found, wanted, 0 * weight, per_sequence=each)
    assert float(losses.mean(*pair)) == 0.0


@pytest.mark.parametrize("per_sequence", [False, True])
def test_concordance_of_devices_adds_up(contours, per_sequence):
  """The value and its gradient, frames being spread unevenly."""

  def loss(found, wanted, weight, axis_name):
    pair = losses.concordance(
      found, wanted, weight, per_sequence=per_sequence, axis_name=axis_name
    )
    return losses.mean(*pair, axis_name)

  contours = tuple(map(jnp.asarray, contours))
  whole = jax.value_and_grad(loss)(*contours, None)
  shares, gradients = jax.pmap(
    lambda *x: jax.value_and_grad(loss)(*x, "data"), axis_name="data"
  )(*(x.reshape(8, 1, *x.shape[1:]) for x in contours))
  assert float(shares.sum()) == pytest.approx(float(whole[0]), rel=1e-5)
  # A device's gradient is of the sum of all shares: as steps add them up.
  np.testing.assert_allclose(gradients[:, 0], whole[1], atol=1e-6)
