"""Every bad recording is refused by a message that names it."""

import numpy as np
import pytest
import soundfile

from ser_jax.errors import UserError
from ser_jax.features import audio

RATE = 16000
NOISE = np.random.default_rng(0).normal(0, 0.1, RATE).astype(np.float32)


def write(folder, name, samples, rate=RATE, subtype=None):
  path = folder / name
  soundfile.write(path, samples, rate, subtype=subtype)
  return path


def cut(path, keep):
  path.write_bytes(path.read_bytes()[:keep])
  return path


def of_unknown_length(path):
  """A FLAC file whose STREAMINFO leaves the number of samples open."""
  data = bytearray(path.read_bytes())
  data[21] &= 0xF0
  data[22:26] = bytes(4)
  path.write_bytes(data)
  return path


def text(path):
  path.write_text("a transcript under the wrong name\n" * 50)
  return path


def with_nan(kind):
  samples = NOISE.copy()
  samples[100] = kind
  return samples


BAD = {
  "missing": (lambda d: d / "absent.wav", "cannot be read"),
  "folder": (lambda d: d, "cannot be read"),
  "no bytes": (lambda d: cut(write(d, "x.wav", NOISE), 0), "of 0 bytes: copy"),
  "text": (lambda d: text(d / "x.wav"), "cannot be read"),
  "no samples": (lambda d: write(d, "x.wav", NOISE[:0]), "is empty"),
  "cut wav": (
    lambda d: cut(write(d, "x.wav", NOISE), 9000),
    "promises 32000 bytes of audio, it has 8956",
  ),
  "cut flac": (
    lambda d: cut(write(d, "x.flac", NOISE), 9000),
    "cannot be read|is truncated",
  ),
  "flac of unknown length": (
    lambda d: of_unknown_length(write(d, "x.flac", NOISE)),
    "cannot be read as audio .*or leave it out",
  ),
  "silent": (lambda d: write(d, "x.wav", 0 * NOISE), "is silent"),
  "nan": (
    lambda d: write(d, "x.wav", with_nan(np.nan), subtype="FLOAT"),
    "NaN or infinite",
  ),
  "infinite": (
    lambda d: write(d, "x.wav", with_nan(np.inf), subtype="FLOAT"),
    "NaN or infinite",
  ),
  "unscaled": (
    lambda d: write(d, "x.wav", NOISE * 32768, subtype="FLOAT"),
    "divide 16-bit values",
  ),
  "stereo": (
    lambda d: write(d, "x.wav", np.stack([NOISE, -NOISE], 1)),
    "2 different channels",
  ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_file_is_refused_by_name(tmp_path, case):
  make, message = BAD[case]
  path = make(tmp_path)
  with pytest.raises(UserError, match=message) as caught:
    audio.load(path)
  assert str(path) in str(caught.value)


@pytest.mark.parametrize("name", ["x.wav", "x.flac"])
def test_samples_are_those_of_the_file(tmp_path, name):
  samples, rate = audio.load(write(tmp_path, name, NOISE))
  assert rate == RATE and samples.dtype == np.float32
  np.testing.assert_allclose(samples, NOISE, atol=1 / 32768)


def test_identical_channels_are_one(tmp_path):
  one, _ = audio.load(write(tmp_path, "mono.wav", NOISE))
  two, _ = audio.load(write(tmp_path, "two.wav", np.stack([NOISE, NOISE], 1)))
  np.testing.assert_array_equal(one, two)


def test_odd_chunk_before_the_audio_is_stepped_over(tmp_path):
  path = write(tmp_path, "x.wav", NOISE)
  whole = path.read_bytes()
  chunk = b"LIST" + (5).to_bytes(4, "little") + b"abcde\0"
  path.write_bytes(whole[:36] + chunk + whole[36:])
  assert len(audio.load(path)[0]) == RATE
  with pytest.raises(UserError, match="promises 32000 bytes"):
    audio.load(cut(path, 20000))


@pytest.mark.parametrize("claimed", [0x7FFFF000, 0xFFFFFFFF])
def test_header_written_to_a_pipe_is_accepted(tmp_path, claimed):
  path = write(tmp_path, "x.wav", NOISE)
  whole = bytearray(path.read_bytes())
  whole[40:44] = claimed.to_bytes(4, "little")
  path.write_bytes(whole)
  assert len(audio.load(path)[0]) == RATE


def test_48_khz_becomes_16_khz():
  time = np.arange(48000) / 48000
  high = np.sin(2 * np.pi * 440 * time) + np.sin(2 * np.pi * 12000 * time)
  changed = audio.resample((0.5 * high).astype(np.float32), 48000, RATE)
  assert changed.shape == (RATE,) and changed.dtype == np.float32
  wanted = 0.5 * np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE)
  # The tone above the new half rate is gone; edges ring.
  np.testing.assert_allclose(changed[500:-500], wanted[500:-500], atol=1e-3)


def test_right_rate_is_left_alone():
  assert audio.resample(NOISE, RATE, RATE) is NOISE


@pytest.mark.parametrize("rate", [0, -8000])
def test_impossible_rate_is_refused(rate):
  with pytest.raises(UserError, match=f"audio at {rate} Hz"):
    audio.resample(NOISE, rate, RATE)


def test_too_few_samples_are_refused():
  audio.require_samples(NOISE[:400], 400, "ds_lstm")
  with pytest.raises(UserError, match="399 samples long, ds_lstm needs .* 400"):
    audio.require_samples(NOISE[:399], 400, "ds_lstm")


def test_every_real_recording_loads(corpora):
  paths = sorted((corpora / "emodb").glob("*.flac"))[::40]
  assert paths
  for path in paths:
    samples, rate = audio.load(path)
    assert rate == 16000 and np.abs(samples).max() <= 1.0


def test_quiet_ends_are_trimmed():
  quiet = np.zeros(RATE, np.float32)
  found = audio.trim(np.concatenate([quiet, NOISE, quiet]), top_db=25.0)
  # Frames of 2048 samples every 512 decide.
  assert RATE <= len(found) <= RATE + 2 * 2048


def test_filter_takes_the_mean_where_noise_is_all_there_is():
  loud = np.zeros(9, np.float32)
  loud[4] = 1.0
  # Local variances are 2/9 in three places of nine: the noise is 2/27.
  kept = 1 - (2 / 27) / (2 / 9)
  expected = np.zeros(9)
  expected[3:6] = 1 / 3 + kept * (loud[3:6] - 1 / 3)
  np.testing.assert_allclose(audio.denoise(loud), expected, atol=1e-6)


def test_digital_silence_within_a_recording_passes_the_filter():
  samples = NOISE.copy()
  samples[4000:9000] = 0
  found = audio.denoise(samples)
  assert found.dtype == np.float32 and (found[4002:8998] == 0).all()


def test_constant_audio_is_refused_by_the_filter():
  with pytest.raises(UserError, match="constant"):
    audio.denoise(np.zeros(RATE, np.float32))
