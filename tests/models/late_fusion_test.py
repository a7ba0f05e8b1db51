"""Two classifiers side by side: what they share, and how they are averaged."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ser_jax.models.late_fusion import LateFusion


@pytest.fixture(scope="module")
def inputs():
  draw = np.random.default_rng(0)
  shapes = {"log_mel": (3, 24, 8), "is13": (3, 30), "is10": (3, 20)}
  return {
    name: jnp.asarray(draw.normal(size=shape), jnp.float32)
    for name, shape in shapes.items()
  }


@pytest.fixture(scope="module")
def lengths():
  return {name: jnp.array([24, 20, 16]) for name in ("log_mel", "is13", "is10")}


@pytest.fixture(scope="module")
def fitted(inputs, lengths):
  model = LateFusion(classes=4, hidden=6, functionals=5)
  return model, model.init(jax.random.key(0), inputs, lengths, train=False)


def test_the_average_of_log_probabilities(fitted, inputs, lengths):
  model, variables = fitted
  out = model.apply(variables, inputs, lengths, train=False)
  each = [
    jax.nn.log_softmax(out["heads"][n]) for n in ("frames", "functionals")
  ]
  np.testing.assert_allclose(out["logits"], sum(each) / 2, atol=1e-6)


def test_each_head_hears_its_own_inputs(fitted, inputs, lengths):
  model, variables = fitted
  before = model.apply(variables, inputs, lengths, train=False)["heads"]
  for changed, head, other in (
    ("log_mel", "frames", "functionals"),
    ("is13", "functionals", "frames"),
    ("is10", "functionals", "frames"),
  ):
    more = inputs | {changed: inputs[changed] + 1.0}
    after = model.apply(variables, more, lengths, train=False)["heads"]
    assert not np.allclose(after[head], before[head])
    np.testing.assert_array_equal(after[other], before[other])


def test_padding_changes_nothing(fitted, inputs, lengths):
  model, variables = fitted
  wide = jnp.pad(inputs["log_mel"], ((0, 0), (0, 8), (0, 0)))
  before = model.apply(variables, inputs, lengths, train=False)["logits"]
  after = model.apply(
    variables, inputs | {"log_mel": wide}, lengths, train=False
  )["logits"]
  np.testing.assert_allclose(after, before, atol=1e-5)
