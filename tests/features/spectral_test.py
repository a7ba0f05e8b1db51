"""Spectra against closed forms, librosa and numbers worked by hand."""

import librosa
import numpy as np
import pytest

from ser_jax.features import spectral

RATE = 16000
NOISE = np.random.default_rng(0).normal(0, 0.1, RATE).astype(np.float32)


@pytest.mark.parametrize("samples", [400, 559, 560, 561, 16000, 30372])
def test_cepstra_have_whole_frames_alone(samples):
  x = np.resize(NOISE, samples)
  expected = 1 + (samples - 400) // 160
  assert spectral.frame_count(samples, RATE) == expected
  found = spectral.mfcc_e_d_a(x, RATE)
  assert found.shape == (expected, 39) and found.dtype == np.float32


def test_less_than_a_window_is_no_frame():
  assert spectral.frame_count(399, RATE) == 0


@pytest.mark.parametrize("samples", [512, 1023, 1024, 16000])
@pytest.mark.parametrize("n_fft", [256, 512])
def test_spectrograms_have_centred_frames(samples, n_fft):
  found = spectral.log_mel(
    np.resize(NOISE, samples), RATE, n_fft=n_fft, n_mels=32, floor=1e-10
  )
  assert found.shape == (1 + samples // (n_fft // 2), 32)
  assert found.dtype == np.float32


@pytest.mark.parametrize(
  ("n_fft", "n_mels"), [(256, 64), (512, 128), (1024, 256)]
)
def test_log_mel_is_librosa_in_decibels(n_fft, n_mels):
  power = librosa.feature.melspectrogram(
    y=NOISE, sr=RATE, n_fft=n_fft, hop_length=n_fft // 2, n_mels=n_mels
  )
  found = spectral.log_mel(NOISE, RATE, n_fft=n_fft, n_mels=n_mels, floor=1e-10)
  np.testing.assert_allclose(found, 10 * np.log10(power).T, atol=1e-4)


def test_regression_over_five_frames_by_hand():
  x = np.array([[0.0], [1.0], [4.0], [9.0], [16.0], [25.0]])
  # (1 (x[t+1] - x[t-1]) + 2 (x[t+2] - x[t-2])) / 10, ends repeated.
  expected = [
    (1 - 0 + 2 * (4 - 0)) / 10,
    (4 - 0 + 2 * (9 - 0)) / 10,
    (9 - 1 + 2 * (16 - 0)) / 10,
    (16 - 4 + 2 * (25 - 1)) / 10,
    (25 - 9 + 2 * (25 - 4)) / 10,
    (25 - 16 + 2 * (25 - 9)) / 10,
  ]
  np.testing.assert_allclose(spectral.delta(x)[:, 0], expected, rtol=1e-12)


def test_deltas_of_one_frame_are_zero():
  found = spectral.mfcc_e_d_a(NOISE[:400], RATE)
  assert found.shape == (1, 39) and (found[:, 13:] == 0).all()


def test_accelerations_are_the_regression_of_the_deltas():
  found = spectral.mfcc_e_d_a(NOISE, RATE).astype(np.float64)
  first = spectral.delta(found[:, :13])
  np.testing.assert_allclose(found[:, 13:26], first, atol=1e-5)
  second = spectral.delta(found[:, 13:26])
  # Past the end, the last static frame is repeated, so that the deltas there
  # go to 2 (x[-1] - x[-2]) / 10 and 0.
  np.testing.assert_allclose(found[:-2, 26:], second[:-2], atol=1e-5)
  past = 0.2 * (found[-1, :13] - found[-2, :13])
  d = found[:, 13:26]
  np.testing.assert_allclose(
    found[-2, 26:], (d[-1] - d[-3] + 2 * (past - d[-4])) / 10, atol=1e-5
  )
  np.testing.assert_allclose(
    found[-1, 26:], (past - d[-2] + 2 * (0 - d[-3])) / 10, atol=1e-5
  )


def test_filters_are_triangles_on_the_mel_scale():
  filters = spectral._mel_triangles(RATE, 512, 26)
  hertz = np.arange(257) * RATE / 512
  mel = 1127 * np.log(1 + hertz / 700)
  step = 1127 * np.log(1 + 8000 / 700) / 27
  for band in range(26):
    distance = np.abs(mel - (band + 1) * step) / step
    np.testing.assert_allclose(
      filters[:, band], np.maximum(1 - distance, 0), atol=1e-12
    )
  # Neighbours share every bin between the outermost centres.
  inside = (mel >= step) & (mel <= 26 * step)
  np.testing.assert_allclose(filters[inside].sum(axis=1), 1, atol=1e-12)


def test_energy_is_that_of_the_recorded_frame():
  frame = NOISE[:400].astype(np.float64) * 32768
  found = spectral.mfcc_e_d_a(NOISE[:400], RATE)[0, 12]
  assert found == pytest.approx(np.log((frame**2).sum()), abs=1e-5)


def test_a_gain_moves_the_energy_and_nothing_else():
  one, half = (spectral.mfcc_e_d_a(g * NOISE, RATE) for g in (1.0, 0.5))
  moved = one - half
  np.testing.assert_allclose(moved[:, 12], 2 * np.log(2), atol=1e-4)
  np.testing.assert_allclose(np.delete(moved, 12, axis=1), 0, atol=1e-3)


def test_silence_within_a_recording_stays_finite():
  x = NOISE.copy()
  x[4000:9000] = 0
  cepstra = spectral.mfcc_e_d_a(x, RATE)
  mel = spectral.log_mel(x, RATE, n_fft=512, n_mels=128, floor=1e-10)
  assert np.isfinite(cepstra).all() and np.isfinite(mel).all()
  assert (cepstra[30:50, :13] == 0).all()
  np.testing.assert_allclose(mel[20:30], -100, rtol=1e-6)


def test_the_same_audio_gives_the_same_bits():
  before = NOISE.copy()
  one, two = (spectral.mfcc_e_d_a(NOISE, RATE) for _ in range(2))
  np.testing.assert_array_equal(one, two)
  np.testing.assert_array_equal(NOISE, before)


@pytest.mark.parametrize("length", [1, 5, 24, 25, 240, 241])
def test_stretches_are_means_of_equal_parts(length):
  frames = np.random.default_rng(0).normal(size=(length, 3))
  found = spectral.stretches(frames, 24)
  assert found.shape == (24, 3)
  # Every frame as often as stretches touch it, by a list of who touches whom.
  for number in range(24):
    touched = [
      t
      for t in range(length)
      if t < (number + 1) * length / 24 and t + 1 > number * length / 24
    ]
    np.testing.assert_allclose(found[number], frames[touched].mean(axis=0))


def test_a_course_does_not_hang_on_the_tempo():
  """Ten times as many frames of the same thing are the same course."""
  frames = np.random.default_rng(0).normal(size=(24, 4))
  slow = np.repeat(frames, 10, axis=0)
  np.testing.assert_allclose(spectral.stretches(slow, 24), frames)
