"""The published tracker on signals whose pitch is known."""

import numpy as np
import pytest

from ser_jax.features import kaldi_pitch

RATE = 16000
TIME = np.arange(2 * RATE) / RATE


def voice(hertz):
  """Five harmonics of a pitch in Hz for every sample."""
  phase = 2 * np.pi * np.cumsum(hertz) / RATE
  return sum(0.2 / n * np.sin(n * phase) for n in range(1, 6)).astype(
    np.float32
  )


def track(samples, **options):
  options = {"window_ms": 40, "hop_ms": 10, "path": "viterbi"} | options
  return kaldi_pitch.nccf_pitch(samples, RATE, **options)


def centres(frames):
  """The sample between a frame and its best lag, 20 ms after its start."""
  return 160 * np.arange(frames) + 320


@pytest.mark.parametrize("hertz", [62.0, 110.0, 205.0, 370.0])
def test_steady_pitch(hertz):
  found = track(voice(np.full(len(TIME), hertz)))
  np.testing.assert_allclose(found[:, 1], hertz, rtol=0.006)
  # The last frames reach past the end for their lagged part.
  assert found[:-3, 0].min() > 0.95


def test_gliding_pitch_is_followed():
  hertz = 100.0 + 60.0 * TIME
  found = track(voice(hertz))
  inner = slice(3, -5)
  expected = hertz[centres(len(found))]
  np.testing.assert_allclose(found[inner, 1], expected[inner], rtol=0.03)


def test_torchaudios_path_falls_behind_a_glide():
  hertz = 100.0 + 60.0 * TIME
  found = track(voice(hertz), path="torchaudio")
  expected = hertz[centres(len(found))]
  assert found[150, 1] < 0.9 * expected[150]


def test_level_does_not_matter():
  samples = voice(100.0 + 60.0 * TIME)
  np.testing.assert_allclose(
    track(samples), track(0.01 * samples), rtol=1e-4, atol=1e-4
  )


def test_noise_is_told_from_voice():
  noise = np.random.default_rng(0).normal(0, 0.1, RATE).astype(np.float32)
  assert np.median(track(noise)[:, 0]) < 0.6
  assert np.median(track(voice(np.full(RATE, 150.0)))[:, 0]) > 0.95


def test_silent_tail_keeps_the_pitch_and_has_no_correlation():
  samples = voice(np.full(RATE, 150.0))
  padded = track(np.pad(samples, (0, RATE)))
  alone = track(samples)
  assert len(padded) == 197 and len(alone) == 97
  np.testing.assert_allclose(padded[:90, 1], alone[:90, 1], rtol=0.006)
  assert (padded[101:, 0] == 0).all()
  assert (padded[101:, 1] == padded[101, 1]).all()


@pytest.mark.parametrize("path", kaldi_pitch.PATHS)
@pytest.mark.parametrize("samples", [640, 800, 960])
def test_few_frames(path, samples):
  found = track(voice(np.full(samples, 150.0)), path=path)
  assert found.shape == (1 + (samples - 640) // 160, 2)
  assert found.dtype == np.float32 and np.isfinite(found).all()


def test_path_of_two_frames_is_the_best_of_all_pairs():
  rng = np.random.default_rng(0)
  lags = len(kaldi_pitch._lags())
  cost = rng.uniform(0, 0.02, (2, lags))
  step = np.subtract.outer(np.arange(lags), np.arange(lags))
  total = cost[0][:, None] + cost[1] + 0.1 * (np.log(1.005) * step) ** 2
  best = np.unravel_index(total.argmin(), total.shape)
  assert tuple(kaldi_pitch._viterbi_path(cost)) == best


def test_no_change_of_one_frame_betters_the_path():
  rng = np.random.default_rng(1)
  cost = rng.uniform(0, 0.02, (12, len(kaldi_pitch._lags())))

  def total(path):
    moves = 0.1 * (np.log(1.005) * np.diff(path)) ** 2
    return cost[np.arange(len(path)), path].sum() + moves.sum()

  path = kaldi_pitch._viterbi_path(cost)
  least = total(path)
  for t in range(len(path)):
    for lag in range(cost.shape[1]):
      other = path.copy()
      other[t] = lag
      assert total(other) >= least - 1e-12


def test_silent_tail_takes_the_path_of_the_whole_search():
  rng = np.random.default_rng(2)
  lags = len(kaldi_pitch._lags())
  cost = np.concatenate([rng.uniform(0, 0.02, (9, lags)), np.ones((4, lags))])
  # A slope too small to matter keeps the shortcut from being taken.
  whole = cost + 1e-15 * np.arange(lags)
  np.testing.assert_array_equal(
    kaldi_pitch._viterbi_path(cost), kaldi_pitch._viterbi_path(whole)
  )


def test_rates_that_are_no_multiple_are_refused():
  with pytest.raises(ValueError, match="not a multiple of 4000"):
    kaldi_pitch.nccf_pitch(
      voice(np.full(RATE, 150.0)),
      22050,
      window_ms=40,
      hop_ms=10,
      path="viterbi",
    )
