"""What counts as constant, the same wherever something is standardised."""

import numpy as np
import pytest

from ser_jax.data import statistics
from ser_jax.data.contours import Contours
from ser_jax.data.moments import Running, is_constant, moments
from ser_jax.data.protocols import Fold
from tests import fakes


def test_moments_are_those_worked_by_hand():
  values = np.array([[1, 7, 0], [3, 7, 8]], np.int16)
  mean, divisor = moments(values)
  np.testing.assert_array_equal(mean, [2, 7, 4])
  np.testing.assert_array_equal(divisor, [1, 1, 4])
  mean, divisor = moments(np.float32([[0, 2], [4, 6]]), axis=None)
  assert mean == 3 and divisor == pytest.approx(5**0.5)
  assert mean.dtype == divisor.dtype == np.float64


@pytest.mark.parametrize(
  ("mean", "deviation", "constant"),
  [
    (0.0, 0.0, True),
    (0.0, 1e-39, True),
    (0.5, 2e-9, True),
    (0.5, 2e-8, False),
    (6.1e-9, 9.4e-9, False),
    (1e10, 50.0, True),
    (-1e10, 50.0, True),
    (1e10, 200.0, False),
  ],
)
def test_rounding_grows_with_the_mean(mean, deviation, constant):
  assert is_constant(np.float64(mean), np.float64(deviation)) == constant


@pytest.mark.parametrize("power", range(-30, 31, 3))
def test_a_constant_is_one_whatever_its_size(power):
  """Its deviation in float64 is rounding: nought, or a little more."""
  values = np.float32([10.0**power / 3, -(10.0**power) / 7])
  for count in (1, 3, 1000, 4097):
    _, divisor = moments(np.tile(values, (count, 1)))
    np.testing.assert_array_equal(divisor, [1, 1])


def test_what_is_tiny_is_no_constant():
  values = np.random.default_rng(0).normal(6e-9, 9e-9, 1000)
  mean, divisor = moments(values)
  assert divisor == pytest.approx(9e-9, rel=0.1)
  assert ((values - mean) / divisor).std() == pytest.approx(1.0)


@pytest.mark.parametrize("shape", [(50,), (50, 3)])
def test_parts_have_the_moments_of_the_whole(shape):
  values = 1e6 + np.random.default_rng(0).normal(0, 1e-3, shape)
  running = Running()
  for start, end in ((0, 7), (7, 7), (7, 50)):
    running.add(values[start:end])
  for found, wanted in zip(running.moments(), moments(values), strict=True):
    np.testing.assert_allclose(found, wanted, rtol=1e-6)
  assert Running().moments() == (0, 1)


def of_folds(column):
  shards = fakes.FakeShards(each=4)
  for index in range(len(shards)):
    shards.read(index)["frames"] = np.tile(column[:, None], 3)
  everyone = np.arange(len(shards))
  fold = Fold("one", everyone, everyone[:0], everyone[:0])
  config = fakes.data_config()
  plans = statistics.make_plans(shards, config, (fold,), everyone)
  found = statistics.fold_statistics(shards, plans, fold)
  return found.deviation["frames"][0]


def of_contours(column):
  values = np.tile(column, (3, 1))[:, :, None]
  contours = Contours(("x",), 25.0, values, np.full(3, len(column)))
  return contours.moments(np.arange(3))[1][0]


@pytest.mark.parametrize("of", [of_folds, of_contours])
def test_all_agree_on_constants(of):
  """Two deviations of a mean of 1e10, one of them rounding."""
  for apart, expected in ((50.0, 1.0), (500.0, 500.0)):
    column = 1e10 + np.tile([-apart, apart], 10)
    assert of(column) == pytest.approx(expected, rel=1e-5)
