"""Windows of a recording: whose they are, and moments of it all."""

import numpy as np
import pytest

from ser_jax.data.recordings import recording_of, start_of, window_moments


def test_names_tell_the_recording_and_the_frame():
  assert (recording_of("one@0003.00"), start_of("one@0003.00", 25.0)) == (
    "one",
    75,
  )
  assert (recording_of("one"), start_of("one", 25.0)) == ("one", 0)


@pytest.mark.parametrize("value", [0.3, -1e-3, 1.0, 0.0])
def test_the_deviation_of_a_constant_is_1(value):
  window = np.full((150, 640), value, np.float32)
  for windows in ([(0, window)], [(0, window), (75, window), (150, window)]):
    found = window_moments(windows)
    np.testing.assert_array_equal(found, np.array([value, 1], np.float32))


def test_a_small_deviation_beside_a_large_mean_is_exact():
  draw = np.random.default_rng(0).normal(0, 1e-6, (400, 8))
  whole = (0.3 + draw).astype(np.float32)
  windows = [(start, whole[start : start + 150]) for start in (0, 75, 225, 250)]
  wanted = whole.astype(np.float64)
  np.testing.assert_allclose(
    window_moments(windows), [wanted.mean(), wanted.std()], rtol=1e-6
  )


def test_samples_are_counted_in_float():
  window = np.array([[-16384], [16384]], np.int16)
  np.testing.assert_array_equal(window_moments([(0, window)]), [0, 0.5])
