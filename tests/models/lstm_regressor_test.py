"""The recurrent baseline: size, padding, noise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ser_jax.models.lstm_regressor import LSTMRegressor


def lstm(inputs, hidden):
  return 4 * hidden * (inputs + hidden + 1)


def run(model, x, lengths, train=False, seeds=(0,)):
  """Contours under one draw of noise after another."""

  def both(x, lengths, seeds):
    inputs = {"windows": x}, {"windows": lengths}
    variables = model.init(jax.random.key(0), *inputs, train=False)
    return jax.vmap(
      lambda seed: model.apply(
        variables, *inputs, train=train,
        rngs={"dropout": jax.random.key(seed)},
      )["contours"]
    )(seeds)  # fmt: skip

  return jax.jit(both)(x, lengths, jnp.array(seeds))


@pytest.mark.parametrize(("features", "size"), [(88, 276_226), (325, 397_570)])
def test_size_is_that_of_three_layers_of_64_each_way(features, size):
  x = jax.ShapeDtypeStruct((2, 4, features), jnp.float32)
  shapes = jax.eval_shape(
    lambda x: LSTMRegressor(2).init(
      jax.random.key(0), {"windows": x},
      {"windows": jnp.array([4, 4])}, train=False,
    ),
    x,
  )  # fmt: skip
  found = sum(leaf.size for leaf in jax.tree.leaves(shapes))
  by_hand = 2 * (lstm(features, 64) + 2 * lstm(128, 64)) + 2 * 129
  assert found == by_hand == size


def test_padding_and_what_lies_in_it_change_nothing():
  model = LSTMRegressor(2, hidden=4, layers=2)
  x = np.random.default_rng(0).normal(size=(2, 6, 5)).astype(np.float32)
  lengths = jnp.array([6, 3])
  (short,) = run(model, jnp.asarray(x), lengths)
  wild = np.pad(x, ((0, 0), (0, 4), (0, 0)), constant_values=7.0)
  wild[1, 3:] = 1e3
  (long,) = run(model, jnp.asarray(wild), lengths)
  np.testing.assert_allclose(long[0, :6], short[0], rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(long[1, :3], short[1, :3], rtol=1e-5, atol=1e-6)


def test_noise_is_of_training_alone():
  model = LSTMRegressor(1, hidden=3, layers=1, noise=0.5)
  x, lengths = jnp.zeros((2, 4, 3)), jnp.array([4, 4])
  one, other = run(model, x, lengths, train=True, seeds=(1, 2))
  assert not np.array_equal(one, other)
  one, other = run(model, x, lengths, seeds=(1, 2))
  np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
  ("options", "message"),
  [({"layers": 0}, "layers=0"), ({"noise": -0.1}, "noise=-0.1")],
)
def test_sizes_are_checked(options, message):
  with pytest.raises(ValueError, match=message):
    LSTMRegressor(2, **options)
