"""The thesis' features, as torchaudio 2.0.2 made them."""

import pathlib

import librosa
import numpy as np
import pytest

from ser_jax.features import audio, kaldi_pitch, spectral
from ser_jax.features.sets import FEATURE_SETS

RATE = 16000
FOLDER = pathlib.Path(__file__).parent / "golden"
SIGNALS = np.load(FOLDER / "torchaudio202_golden.npz")
THESIS = np.load(FOLDER / "thesis_features.npz")
NAMES = ["sine150", "chirp", "noise", "pulses200"]
RECORDINGS = {
  "03a01Fa": "emodb",
  "16b10Wb": "emodb",
  "03-01-05-02-01-01-12": "ravdess",
}
EVERY_RECORDING = pytest.mark.parametrize("stem", RECORDINGS)


def extract(corpora, stem, name):
  samples, rate = audio.load(corpora / RECORDINGS[stem] / f"{stem}.flac")
  return FEATURE_SETS[name].extract(samples, rate)["features"]


def assert_same_pitch(found, reference):
  np.testing.assert_allclose(found[:, 0], reference[:, 0], atol=1e-4)
  np.testing.assert_allclose(found[:, 1], reference[:, 1], rtol=1e-5)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("window_ms", [25, 40])
def test_pitch_is_torchaudios(name, window_ms):
  found = kaldi_pitch.nccf_pitch(
    SIGNALS[f"{name}_wav"],
    RATE,
    window_ms=window_ms,
    hop_ms=10,
    path="torchaudio",
  )
  assert_same_pitch(found, SIGNALS[f"{name}_kaldi_pitch_{window_ms}_10"])


@pytest.mark.parametrize("name", NAMES)
def test_mel_and_cepstra_are_torchaudios(name):
  mel = spectral.htk_log_mel(
    SIGNALS[f"{name}_wav"], RATE, n_fft=2048, hop=512, n_mels=128
  )
  power = np.maximum(SIGNALS[f"{name}_mel128"], 1e-10)
  expected = 10 * np.log10(power).T
  # Bands far below the peak hold torch's rounding of float32.
  loud = expected > expected.max() - 70
  np.testing.assert_allclose(mel[loud], expected[loud], atol=1e-3)
  np.testing.assert_allclose(
    spectral.decibel_cepstra(mel, 20), SIGNALS[f"{name}_mfcc20"].T, atol=1e-3
  )


@EVERY_RECORDING
def test_trimming_and_denoising_are_the_thesis(corpora, stem):
  samples, _ = audio.load(corpora / RECORDINGS[stem] / f"{stem}.flac")
  start, end = THESIS[f"{stem}/trim_index"]
  trimmed = audio.trim(samples, top_db=25.0)
  np.testing.assert_array_equal(trimmed, samples[start:end])
  np.testing.assert_allclose(
    audio.denoise(trimmed)[:2000], THESIS[f"{stem}/wiener_head"], atol=1e-7
  )


@EVERY_RECORDING
def test_mfcc_set_is_the_thesis(corpora, stem):
  np.testing.assert_allclose(
    extract(corpora, stem, "dat_mfcc"), THESIS[f"{stem}/mfcc20"].T, atol=1e-3
  )


@EVERY_RECORDING
def test_log_mel_set_is_the_thesis(corpora, stem):
  found = extract(corpora, stem, "dat_lms")
  expected = THESIS[f"{stem}/lms128"].T
  loud = expected > expected.max() - 80
  assert loud.mean() > 0.9
  np.testing.assert_allclose(found[loud], expected[loud], atol=1e-3)
  np.testing.assert_allclose(found, expected, atol=5e-3)


@EVERY_RECORDING
def test_filter_bank_and_pitch_set_is_the_thesis(corpora, stem):
  found = extract(corpora, stem, "dat_logmfb_pitch")
  np.testing.assert_allclose(
    found[:, :41], THESIS[f"{stem}/fbank40_energy"], atol=1e-3
  )
  assert_same_pitch(found[:, 41:], THESIS[f"{stem}/nccf_pitch"])


@EVERY_RECORDING
def test_the_published_path_differs_in_the_pitch_alone(corpora, stem):
  torchaudio = extract(corpora, stem, "dat_logmfb_pitch")
  kaldi = extract(corpora, stem, "dat_logmfb_pitch_kaldi")
  np.testing.assert_array_equal(kaldi[:, :41], torchaudio[:, :41])
  # It follows the voice: its correlation is the higher one by far.
  assert kaldi[:, 41].mean() > torchaudio[:, 41].mean() + 0.1


def test_longest_recording_gives_the_frames_of_the_thesis(corpora):
  samples, rate = audio.load(corpora / "emodb" / "03a01Fa.flac")
  frames = {
    name: len(
      FEATURE_SETS[name].extract(samples, rate, pad_to=143652)["features"]
    )
    for name in ("dat_mfcc", "dat_lms", "dat_logmfb_pitch")
  }
  assert frames == {"dat_mfcc": 281, "dat_lms": 281, "dat_logmfb_pitch": 894}


def test_fbank_is_kaldi_native_fbanks():
  native = pytest.importorskip("kaldi_native_fbank")
  options = native.FbankOptions()
  options.frame_opts.samp_freq = RATE
  options.frame_opts.frame_length_ms = 40
  options.frame_opts.frame_shift_ms = 10
  options.frame_opts.dither = 0.0
  options.mel_opts.num_bins = 40
  options.use_energy = True
  options.energy_floor = 1.0
  fbank = native.OnlineFbank(options)
  samples = 0.3 * SIGNALS["chirp_wav"] + 0.03 * SIGNALS["noise_wav"]
  fbank.accept_waveform(RATE, samples)
  fbank.input_finished()
  expected = [fbank.get_frame(i) for i in range(fbank.num_frames_ready)]
  found = spectral.kaldi_fbank(samples, RATE, window_ms=40, hop_ms=10, bands=40)
  np.testing.assert_allclose(found, np.stack(expected), atol=1e-3)
  assert found[:, 0].min() > 0


def test_trimming_is_librosas():
  samples = np.concatenate([np.zeros(8000), SIGNALS["noise_wav"]])
  expected, _ = librosa.effects.trim(samples.astype(np.float32), top_db=25)
  found = audio.trim(samples.astype(np.float32), top_db=25.0)
  np.testing.assert_array_equal(found, expected)
  assert len(found) < len(samples)
