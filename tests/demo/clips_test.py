"""Recordings that are cut, and two hundred files that are none."""

import dataclasses
import io
import math
import struct

import numpy as np
import pytest
import soundfile

from data_prep.extract import extract
from data_prep.utterance import Utterance
from ser_jax.demo import clips
from ser_jax.errors import UserError
from ser_jax.features.sets import FEATURE_SETS
from ser_jax.inference import Recipe, pack

RATE = 16000
RECIPE = Recipe(
  system="s",
  corpus="c",
  classes=("a", "b"),
  features="ds_lstm",
  made={},
  inputs={},
  plans={},
  pad_to=None,
  longest=2.0,
  genders={},
  folds=(),
  speakers=2,
)


def wav(seconds=0.2, rate=RATE, channels=1, kind="WAV"):
  samples = np.random.default_rng(0).normal(0, 0.1, (int(seconds * rate), 1))
  file = io.BytesIO()
  soundfile.write(file, np.tile(samples, channels), rate, format=kind)
  return file.getvalue()


def spans(seconds, windows):
  file = io.BytesIO(wav(seconds))
  return [
    (start, round(start + len(samples) / rate, 6))
    for start, samples, rate, _ in clips.cut(file, windows, "x")
  ]


@pytest.mark.parametrize(
  "seconds, hop, expected",
  [
    (0.7, 1.0, [(0.0, 0.7)]),
    (1.0, 1.0, [(0.0, 1.0)]),
    (2.0, 1.0, [(0.0, 1.0), (1.0, 2.0)]),
    # The last window is as long as the others.
    (2.5, 1.0, [(0.0, 1.0), (1.0, 2.0), (1.5, 2.5)]),
    (1.75, 0.5, [(0.0, 1.0), (0.5, 1.5), (0.75, 1.75)]),
  ],
)
def test_windows_reach_from_start_to_end(seconds, hop, expected):
  assert spans(seconds, clips.Windows(1.0, hop)) == expected


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100, 48000])
def test_the_longest_utterance_is_one_window(rate):
  """Of samples, not of milliseconds: Emo-DB's longest has 143,652."""
  longest = 143652
  recipe = dataclasses.replace(RECIPE, longest=longest / rate)
  windows = clips.make_windows(recipe)
  assert list(clips._spans(longest, rate, windows)) == [(0, longest)]
  found = list(clips._spans(longest + 1, rate, windows))
  assert found == [(0, longest), (1, longest)]


def test_windows_of_contours_start_with_frames():
  recipe = dataclasses.replace(RECIPE, contour_rate=25.0, longest=1.01)
  windows = clips.make_windows(recipe)
  assert (windows.length, windows.hop, windows.step) == (1.0, 0.48, 0.04)
  found = spans(1.51, windows)
  # 0.51 s is no frame's start: the next one is.
  assert found == [(0.0, 1.0), (0.48, 1.48), (0.52, 1.51)]


def test_channels_are_averaged():
  file = io.BytesIO()
  both = np.stack([np.full(8, 0.5), np.full(8, -0.25)], axis=1)
  soundfile.write(file, both, RATE, format="WAV", subtype="FLOAT")
  file.seek(0)
  ((_, samples, _, _),) = clips.cut(file, clips.Windows(1.0, 1.0), "x")
  np.testing.assert_array_equal(samples, np.full(8, 0.125, np.float32))


@pytest.mark.parametrize("named", [True, False])
def test_a_truncated_file_is_refused(tmp_path, named):
  """libsndfile takes the half for the whole."""
  data = wav(5.0)
  path = tmp_path / "half.wav"
  path.write_bytes(data[: len(data) // 2])
  file = path if named else io.BytesIO(path.read_bytes())
  with pytest.raises(UserError, match="half is truncated: .* 160000 bytes"):
    clips.read_clips(file, RECIPE, clips.Windows(2.0, 2.0), source="half")


def test_a_file_written_to_a_pipe_is_read():
  data = bytearray(wav(1.0))
  data[40:44] = struct.pack("<I", 0x7FFFF000)  # as sox does
  windows = clips.Windows(1.0, 1.0)
  ((_, samples, _, _),) = clips.cut(io.BytesIO(data), windows, "x")
  assert len(samples) == RATE


@pytest.mark.parametrize("length", [2.1, -1, 1e-9, math.nan, math.inf])
def test_windows_that_no_model_takes_are_refused(length):
  with pytest.raises(UserError, match=f"--window={length:g}: .*at least 0.01"):
    clips.make_windows(RECIPE, length)


@pytest.mark.parametrize(
  "length, hop", [(1, 1.1), (0, -1), (0, 1e-9), (0, math.nan), (0, math.inf)]
)
def test_hops_that_leave_gaps_or_never_end_are_refused(length, hop):
  with pytest.raises(UserError, match=f"--hop={hop:g} must lie between 0.01"):
    clips.make_windows(RECIPE, length, hop)


def header(rate=RATE, channels=1, data=2**31, size=2):
  """A WAV header that promises what it likes, and a few samples."""
  form = struct.pack(
    "<HHIIHH", 1, channels, rate, rate * channels * size % 2**32,
    channels * size % 2**16, 8 * size,
  )  # fmt: skip
  return (
    b"RIFF" + struct.pack("<I", 2**32 - 1) + b"WAVEfmt "
    + struct.pack("<I", 16) + form + b"data" + struct.pack("<I", data)
    + bytes(64)
  )  # fmt: skip


def flac_that_claims(samples):
  """A FLAC file whose STREAMINFO promises as many samples."""
  data = bytearray(wav(kind="FLAC"))
  # 36 bits from the lower half of byte 21 on (RFC 9639, section 8.2).
  data[21] = data[21] & 0xF0 | samples >> 32
  data[22:26] = struct.pack(">I", samples % 2**32)
  return bytes(data)


def malformed():
  """Fuzzed headers, truncations, wrong types, huge claims: 200 files."""
  generator = np.random.default_rng(0)
  for kind in ("WAV", "FLAC", "OGG", "AIFF"):
    whole = wav(kind=kind)
    for _ in range(30):
      data = np.frombuffer(whole, np.uint8).copy()
      where = generator.integers(0, 60, 6)
      data[where] = generator.integers(0, 256, 6)
      yield data.tobytes()
    for size in generator.integers(0, len(whole), 10):
      yield whole[:size]
  yield from (header(rate=r) for r in (0, 1, 2**31, 2**32 - 1))
  yield from (header(channels=c) for c in (0, 33, 1024, 65535))
  yield from (header(size=s) for s in (0, 7, 9, 255))
  yield from (header(data=d) for d in (0, 1, 2**32 - 1))
  yield from (flac_that_claims(n) for n in (1, 10**6, 2**32, 2**36 - 1))
  yield from (b"", b"\0", b"%PDF-1.7", b"\x89PNG\r\n", b"MZ", b"PK\x03\x04")
  yield from (b"<script>alert(1)</script>", b"#!/bin/sh\nexit", b"ID3", b"OggS")
  yield from (generator.bytes(n) for n in (1, 10, 100, 1000, 10_000))
  yield from (bytes(1000), b"RIFF" * 100, b"fLaC" * 100, b"\xff\xfb" * 100)
  yield wav(seconds=3.5)
  yield wav(rate=999)


# libsndfile seeks before the start; its binding reports that, and goes on.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_two_hundred_malformed_files_survive():
  """Each is refused in words, or is audio that features can be made of."""
  windows = clips.Windows(2.0, 2.0, most=3.0)
  refused, read = 0, 0
  for number, data in enumerate(malformed()):
    try:
      found = clips.read_clips(
        io.BytesIO(data), RECIPE, windows, source=f"file {number}"
      )
    except UserError as error:
      assert f"file {number}" in str(error)
      refused += 1
    else:
      assert any(clip.features for clip in found)
      read += 1
  assert refused + read == 200
  assert refused >= 100


def test_windows_are_standardised_by_their_recording():
  """Mean and deviation of all that is heard, whatever windows overlap."""
  recipe = dataclasses.replace(
    RECIPE,
    features="waveform_6s",
    longest=6.0,
    contour_rate=25.0,
    inputs={"waveform": {"dim": 640, "frame_rate": 25.0, "dtype": "int16"}},
    plans={
      "waveform": {
        "standardize": True,
        "normalize": "recording",
        "stored": 150,
      }
    },
  )
  samples = np.random.default_rng(0).normal(0.01, 0.1, 9 * RATE)
  samples[5 * RATE :] *= 0.1  # the end is quieter
  file = io.BytesIO()
  soundfile.write(file, samples, RATE, format="WAV")
  file.seek(0)
  windows = clips.make_windows(recipe)
  found = clips.read_clips(file, recipe, windows, source="x")
  assert len(found) == 2
  for clip in found:
    np.testing.assert_allclose(
      clip.features["waveform_moments"],
      [samples.mean(), samples.std()],
      atol=1e-4,
    )
  inputs, lengths = pack(recipe, [clip.features for clip in found], 3)
  assert list(lengths) == ["waveform"]
  assert inputs["waveform_moments"].shape == (3, 2)
  # What fills the batch is divided by 1.
  np.testing.assert_array_equal(inputs["waveform_moments"][2], [0, 1])


def test_windows_hear_as_much_around_them_as_in_training(
  tmp_path, opensmile_installed
):
  name = "compare_lld_windows_prosody"
  recipe = dataclasses.replace(
    RECIPE, features=name, longest=6.0, contour_rate=25.0
  )
  samples = np.random.default_rng(0).normal(0, 0.1, 17 * RATE)
  samples *= 1.1 + np.sin(np.arange(len(samples)) / RATE)
  samples[6 * RATE : 12 * RATE] = 0
  path = tmp_path / "long.wav"
  soundfile.write(path, samples.clip(-1, 1), RATE, subtype="PCM_16")
  windows = clips.make_windows(recipe)
  found = clips.read_clips(path, recipe, windows, source="long")
  times = [(clip.start, clip.end) for clip in found]
  assert times == [(0, 6), (3, 9), (6, 12), (9, 15), (11, 17)]
  # Of what is silent, the sound around it makes no features.
  silent = found.pop(2)
  assert silent.features is None and "silent" in silent.note
  for clip in found:
    excerpt = Utterance(
      id="long",
      path=path,
      speaker="",
      session="",
      gender="",
      emotion="undecided",
      start=clip.start,
      seconds=6.0,
    )
    for key, values in extract(FEATURE_SETS[name], excerpt, None).items():
      np.testing.assert_array_equal(clip.features[key], values)
