"""The linear regressor: against ridge regression, and each frame once."""

import numpy as np
import pytest

from ser_jax.evaluation import contour_baselines
from ser_jax.evaluation.contour_baselines import frames_once, linear_svr

RATE = 25.0


def frames(rng, count, noise=0.0):
  """Features, and two targets that depend on them linearly."""
  x = 5.0 + 3.0 * rng.normal(size=(count, 4))
  y = np.stack([x[:, 0] - x[:, 1], 20.0 * x[:, 2]], axis=1)
  return x, y + noise * rng.normal(size=y.shape)


def test_what_is_linear_is_found():
  rng = np.random.default_rng(0)
  predict, costs = linear_svr(frames(rng, 400), frames(rng, 100))
  x, y = frames(rng, 100)
  assert all(cost in contour_baselines.COSTS for cost in costs)
  apart = (predict(x) - y) / y.std(axis=0)
  assert np.abs(apart).max() < 0.2 and np.abs(apart).mean() < 0.05


def test_cost_is_chosen_by_validation_speakers():
  """Noise in training, and few frames: the least cost wins nowhere."""
  rng = np.random.default_rng(0)
  train, validation = frames(rng, 40, noise=5.0), frames(rng, 200)
  _, costs = linear_svr(train, validation)
  _, other = linear_svr(train, train)
  assert other[0] > costs[0]


def test_moments_are_of_the_training_part_alone(monkeypatch):
  """With one cost to choose, validation speakers change nothing."""
  monkeypatch.setattr(contour_baselines, "COSTS", (0.01,))
  rng = np.random.default_rng(0)
  train, (x, y) = frames(rng, 80, noise=1.0), frames(rng, 60)
  new, _ = frames(rng, 20)
  found = [
    linear_svr(train, validation)[0](new)
    for validation in ((x, y), (x + 50.0, y), (x, 3.0 * y - 40.0))
  ]
  np.testing.assert_array_equal(found[0], found[1])
  np.testing.assert_array_equal(found[0], found[2])


def test_constant_features_and_targets_do_no_harm():
  rng = np.random.default_rng(0)
  x, y = frames(rng, 200)
  x[:, 3], y[:, 1] = 7.0, 2.0
  predict, _ = linear_svr((x, y), (x, y))
  wild = x[:3].copy()
  wild[:, 3] = 1e12
  found = predict(wild)
  assert np.isfinite(found).all()
  np.testing.assert_allclose(found[:, 1], 2.0, atol=0.2)


def test_each_frame_of_a_recording_is_taken_once():
  ids = np.array(["b@0000.00", "b@0000.24", "a", "b@0000.12"])
  # Windows of 6 frames that start at frames 0, 6 and 3 of 12, and one file.
  masks = frames_once(ids, np.array([6, 6, 4, 6]), RATE)
  assert masks[2].all()
  taken = np.zeros(12, int)
  for mask, start in ((masks[0], 0), (masks[1], 6), (masks[3], 3)):
    taken[start : start + 6] += mask
  np.testing.assert_array_equal(taken, 1)
  # Frames 3 to 8 lie in two windows: near to the middle of one of them.
  assert masks[0].tolist() == [True] * 5 + [False]
  assert masks[3].tolist() == [False, False, True, True, False, False]


@pytest.mark.parametrize("count", [1, 5])
def test_recordings_of_one_utterance_are_taken_whole(count):
  ids = np.array([f"u{n}" for n in range(count)])
  masks = frames_once(ids, np.full(count, 7), RATE)
  assert all(mask.all() and len(mask) == 7 for mask in masks)
