"""Post-processing: what was done to a contour is found and undone."""

import dataclasses
import json
import time

import numpy as np
import pytest

from ser_jax.evaluation import contours, postprocess
from ser_jax.evaluation.contours import Recording
from ser_jax.evaluation.postprocess import Step, apply, choose

RATE = 25.0
NAMES = ("arousal", "valence")


def smooth(rng, frames):
  """A contour that drifts as ratings do."""
  time = np.arange(frames) / RATE
  waves = [
    np.sin(2 * np.pi * hertz * time + rng.uniform(0, 6))
    for hertz in (0.02, 0.05, 0.11)
  ]
  return 0.2 * sum(waves)


def recordings(damage, count=3, frames=1500, seed=0):
  """Predictions that are the gold standard after some damage."""
  rng = np.random.default_rng(seed)
  found = []
  for number in range(count):
    wanted = np.stack([smooth(rng, frames) for _ in NAMES], axis=1)
    columns = [damage(rng, column) for column in wanted.T]
    found.append(
      Recording(f"r{number}", f"s{number}", np.stack(columns, axis=1), wanted)
    )
  return found


def ccc(found):
  x = np.concatenate([r.found for r in found]).astype(np.float64)
  y = np.concatenate([r.wanted for r in found]).astype(np.float64)
  return contours.ccc(contours.moments(x, y, y.mean(axis=0)))


def test_a_delay_is_found_to_the_frame():
  def early(rng, wanted):
    return np.append(wanted[40:], np.full(40, wanted[-1]))

  found = recordings(early)
  chains = choose(found, NAMES, RATE)
  for steps in chains.values():
    (shift,) = [step for step in steps if step.name == "shift"]
    assert shift.kept and shift.frames == 40
  assert (
    ccc([apply(chains, r) for r in found]).min() > 0.97
  )  # the ends are lost


def test_bias_and_scale_are_undone_by_hand():
  def damage(rng, wanted):
    return 0.5 * wanted + 2.0

  found = recordings(damage)
  chains = choose(found, NAMES, RATE)
  for number, steps in enumerate(chains.values()):
    by_name = {step.name: step for step in steps}
    mean = np.concatenate([r.wanted[:, number] for r in found]).mean()
    assert by_name["centring"].offset == pytest.approx(-2.0 + 0.5 * mean)
    assert by_name["scaling"].factor == pytest.approx(2.0, rel=0.01)
  np.testing.assert_allclose(
    ccc([apply(chains, r) for r in found]), 1.0, atol=2e-3
  )


def test_noise_is_filtered_and_each_gain_adds_up():
  def noisy(rng, wanted):
    return wanted + rng.normal(0, 0.5, len(wanted))

  found = recordings(noisy)
  chains = choose(found, NAMES, RATE)
  before, after = ccc(found), ccc([apply(chains, r) for r in found])
  for number, steps in enumerate(chains.values()):
    assert [s.name for s in steps] == ["median", "centring", "scaling", "shift"]
    assert steps[0].kept and 11 <= steps[0].frames <= 101
    gained = sum(step.gain for step in steps if step.kept)
    assert after[number] - before[number] == pytest.approx(gained, abs=1e-6)


def test_what_is_perfect_is_left_alone():
  found = recordings(lambda rng, wanted: wanted)
  chains = choose(found, NAMES, RATE)
  assert not any(step.kept for steps in chains.values() for step in steps)
  assert all(step.gain <= 1e-6 for steps in chains.values() for step in steps)
  same = apply(chains, found[0])
  np.testing.assert_array_equal(same.found, found[0].found)


def test_test_recordings_get_what_development_chose():
  """The test part's own bias is not looked at."""
  chains = choose(recordings(lambda rng, w: w + 1.0), NAMES, RATE)
  other = recordings(lambda rng, w: w + 3.0, seed=1)
  apart = np.concatenate([apply(chains, r).found - r.wanted for r in other])
  np.testing.assert_allclose(apart, 2.0, atol=1e-6)


def test_a_constant_prediction_stays_finite():
  found = recordings(lambda rng, wanted: np.full(len(wanted), 0.3))
  chains = choose(found, NAMES, RATE)
  for recording in found:
    assert np.isfinite(apply(chains, recording).found).all()


@pytest.mark.parametrize("frames", [1, 5, 60])
def test_recordings_shorter_than_the_grid(frames):
  found = recordings(lambda rng, w: w + 0.1, frames=frames)
  for recording in found:
    after = apply(choose(found, NAMES, RATE), recording)
    assert after.found.shape == (frames, 2)
    assert np.isfinite(after.found).all()


def test_median_and_shift_by_hand():
  contour = np.array([0.0, 9.0, 1.0, 2.0, 3.0])
  np.testing.assert_array_equal(postprocess.median(contour, 3), [0, 1, 2, 2, 3])
  np.testing.assert_array_equal(
    postprocess.shifted(contour, np.array([1, 9])).T,
    [[0, 0, 9, 1, 2], [0, 0, 0, 0, 0]],
  )


def test_chains_survive_json():
  chains = choose(recordings(lambda rng, w: 2 * w), NAMES, RATE)
  plain = {n: [dataclasses.asdict(s) for s in c] for n, c in chains.items()}
  again = {
    name: [Step(**step) for step in steps]
    for name, steps in json.loads(json.dumps(plain)).items()
  }
  assert again == chains


def test_the_whole_grid_takes_seconds():
  """Nine recordings of five minutes, as RECOLA's development part."""

  def noisy(rng, wanted):
    return wanted + rng.normal(0, 0.3, len(wanted))

  found = recordings(noisy, count=9, frames=7500)
  start = time.perf_counter()
  choose(found, NAMES, RATE)
  assert time.perf_counter() - start < 30.0
