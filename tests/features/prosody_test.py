"""Targets in time: by hand on tones, and beside another tracker on speech."""

import numpy as np
import pytest

from ser_jax.features import audio, prosody, waveform, windows
from ser_jax.features.sets import FEATURE_SETS

RATE, FRAME = 16000, 640


def contours(samples, most=150):
  return prosody.contours(samples, RATE, size=FRAME, most=most)


def tone(hertz, seconds, level=0.1):
  time = np.arange(int(seconds * RATE)) / RATE
  # A voice has harmonics; a sine's lag is found at its multiples as well.
  parts = [np.sin(2 * np.pi * hertz * k * time) / k for k in (1, 2, 3)]
  return (level * sum(parts)).astype(np.float32)


def test_a_tone_is_so_many_semitones_above_the_lowest_key():
  found = contours(tone(220.0, 1.0))
  assert found.shape == (25, 2)
  np.testing.assert_allclose(found[2:-2, 1], 36.0, atol=0.2)  # three octaves


def test_loudness_is_relative_to_the_recording():
  one, other = tone(200.0, 0.4, 0.2), tone(200.0, 0.4, 0.02)
  samples = np.concatenate([one, other])
  found = contours(samples)[:, 0]
  assert found[0] - found[-1] == pytest.approx(20.0, abs=0.01)
  # Half of the frames hold nearly all the energy: 3 dB above the mean.
  assert found[0] == pytest.approx(10 * np.log10(2 / 1.01), abs=0.01)
  np.testing.assert_allclose(contours(samples * 3)[:, 0], found, atol=1e-4)


def test_silence_has_the_least_loudness_and_some_pitch():
  samples = np.concatenate([tone(200.0, 0.4), np.zeros(6400, np.float32)])
  found = contours(samples)
  assert np.isfinite(found).all()
  np.testing.assert_array_equal(found[11:, 0], prosody.QUIETEST)


@pytest.mark.parametrize("samples", [640, 641, 5000, 96000, 100000])
def test_every_row_of_samples_has_a_target(samples):
  noise = np.random.default_rng(0).normal(0, 0.1, samples).astype(np.float32)
  rows = waveform.frames(noise, size=FRAME, most=150)
  assert len(contours(noise)) == len(rows)


def test_a_last_frame_counts_its_own_samples_alone():
  samples = np.full(FRAME + 10, 0.1, np.float32)
  np.testing.assert_allclose(contours(samples)[:, 0], 0.0, atol=1e-5)


def test_pitch_is_that_of_another_tracker(corpora):
  import librosa

  samples, _ = audio.load(corpora / "emodb" / "03a01Fa.flac")
  hertz, voiced, _ = librosa.pyin(
    np.pad(samples, (0, 640)), fmin=50, fmax=400, sr=RATE, frame_length=1024,
    hop_length=160,
  )  # fmt: skip
  ours = contours(samples)[:, 1]
  # Their frames are centred on multiples of the hop, ours are 40 ms whole.
  middle = 2 + 4 * np.arange(len(ours))
  theirs = 12 * np.log2(hertz[middle] / prosody.REFERENCE)[voiced[middle]]
  apart = np.abs(ours[voiced[middle]] - theirs)
  assert np.median(apart) < 0.3 and np.mean(apart < 1) > 0.9


def test_functionals_by_hand():
  values = np.array([[1.0], [3.0], [2.0], [6.0]])
  found = windows.functionals(values, reach=1, middles=np.array([0, 2, 4]))
  wanted = [
    [3, 1, 2, 2, 1],
    [6, 2, 4, 11 / 3, np.sqrt(26 / 9)],
    [6, 6, 0, 6, 0],
  ]
  np.testing.assert_allclose(found, wanted, rtol=1e-6)


def test_windows_are_openSMILE_s_of_their_three_seconds(
  corpora, opensmile_installed
):
  names = ("03a05Aa", "03a05Fc")
  samples = np.concatenate(
    [audio.load(corpora / "emodb" / f"{name}.flac")[0] for name in names]
  )[:96000]
  found = FEATURE_SETS["egemaps_windows_prosody"].extract(samples, RATE)
  assert len(found["windows"]) == len(found["contours"]) == 150
  # Frame 75 is centred on 3.02 s; pitch and smoothing begin afresh there.
  part = samples[int(1.52 * RATE) : int(4.52 * RATE)]
  whole = FEATURE_SETS["egemaps"].extract(part, RATE)["functionals"]
  spread = found["windows"].std(axis=0)
  apart = np.abs(found["windows"][75] - whole) / np.where(spread, spread, 1)
  assert np.median(apart) < 0.3 and np.mean(apart < 1) > 0.85


def test_descriptor_windows_are_those_around_each_frame(
  corpora, opensmile_installed
):
  samples, _ = audio.load(corpora / "emodb" / "03a05Aa.flac")
  found = FEATURE_SETS["compare_lld_windows_prosody"].extract(samples, RATE)
  (lld,) = FEATURE_SETS["is13_lld"].extract(samples[:96000], RATE).values()
  rows = found["windows"].reshape(len(found["contours"]), 5, 65)
  np.testing.assert_allclose(rows[10, 0], lld[:191].max(axis=0), rtol=1e-6)
  np.testing.assert_allclose(
    rows[10, 3], lld[:191].mean(axis=0), rtol=1e-4, atol=1e-5
  )
