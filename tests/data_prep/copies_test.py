"""Utterances again at other speeds, from the file to the shards."""

import shutil

import numpy as np
import pytest
import soundfile

from data_prep import copies, extract
from data_prep.skipped import Skipped
from data_prep.utterance import Utterance
from data_prep.write_shards import write_shards
from ser_jax.data.shards import open_shards
from ser_jax.errors import UserError
from ser_jax.features.sets import FEATURE_SETS

RATE, TONE = 16000, 440.0


@pytest.fixture(scope="module")
def tone(tmp_path_factory):
  """Two seconds of a sine."""
  path = tmp_path_factory.mktemp("raw") / "tone.wav"
  time = np.arange(2 * RATE) / RATE
  soundfile.write(path, 0.5 * np.sin(2 * np.pi * TONE * time), RATE)
  return path


def utterance(path, name="a", **changes):
  return Utterance(
    id=name, path=path, speaker="s", session="s", gender="", emotion="sad",
    **changes,
  )  # fmt: skip


@pytest.mark.parametrize("speed", [0.9, 1.1])
def test_faster_is_shorter_and_higher(tone, speed):
  feature_set = FEATURE_SETS["waveform_6s"]
  original, copy = copies.at_speeds([utterance(tone)], [speed], feature_set)
  assert (copy.origin, copy.speaker) == ("a", f"s~{speed}")
  heard = []
  for one in (original, copy):
    made = extract.extract(feature_set, one, None)["waveform"]
    samples = made.astype(float).ravel()
    spectrum = np.abs(np.fft.rfft(samples, 16 * RATE))
    heard.append((np.argmax(spectrum) / 16, len(made)))
  (pitch, length), (other, shorter) = heard
  assert pitch == pytest.approx(TONE, abs=0.5)
  assert other / pitch == pytest.approx(speed, rel=2e-3)
  assert length / shorter == pytest.approx(speed, rel=0.03)


def test_parts_of_a_file_are_not_copied(tone):
  part = utterance(tone, "tone@0000.50", start=0.5, seconds=1.0)
  feature_set = FEATURE_SETS["ds_lstm"]
  with pytest.raises(UserError, match="tone@0000.50 is a part of .*tone.wav"):
    copies.at_speeds([part], [1.25], feature_set)
  assert copies.at_speeds([part], [], feature_set) == [part]


def test_copies_of_a_recording_that_is_left_out_go_with_it(tone, tmp_path):
  short = tmp_path / "short.wav"
  samples, _ = soundfile.read(tone)
  # As long as a frame of the spectrum if played slowly, and not as it is.
  soundfile.write(short, samples[:500], RATE)
  good = tmp_path / "good.wav"
  shutil.copy(tone, good)
  every = copies.at_speeds(
    [utterance(good, "good"), utterance(short, "short")],
    [0.9, 1.1],
    FEATURE_SETS["ds_lstm"],
  )
  metadata, _ = write_shards(
    every, "fake", "ds_lstm", tmp_path / "out", workers=0, skip_bad=True
  )
  table = open_shards(tmp_path / "out").table
  assert table.ids.tolist() == ["good", "good~0.9", "good~1.1"]
  assert table.speeds.tolist() == [1.0, 0.9, 1.1]
  assert table.origins.tolist() == [0, 0, 0]
  assert {"short", "short~1.1"} == set(metadata["skipped"])
  counts = metadata["counts"]
  assert (counts["utterances"], counts["copies"], counts["speakers"]) == (
    *(1, 2, 1),
  )


def test_the_slowest_copy_decides_how_far_is_padded(tone):
  skipped, feature_set = Skipped(False), FEATURE_SETS["dat_mfcc"]
  for speeds, longest in (((), 32000), ((0.8, 1.25), 40000)):
    every = copies.at_speeds([utterance(tone)], speeds, feature_set)
    recordings = extract.probe(every, skipped)
    assert extract.padded_length(feature_set, recordings) == longest


@pytest.mark.parametrize("speeds", [(1.0,), (0.9, 0.9), (0.1,), (3.0,)])
def test_speeds_that_mean_nothing_are_refused(tone, speeds):
  with pytest.raises(UserError, match="between 0.5 and 2, differ from 1"):
    copies.at_speeds([utterance(tone)], speeds, FEATURE_SETS["ds_lstm"])


def test_labels_in_time_would_not_follow(tone):
  labelled = utterance(tone, contour=np.zeros((50, 2), np.float32))
  with pytest.raises(UserError, match="adieu has the corpus' labels in time"):
    copies.at_speeds([labelled], (0.9,), FEATURE_SETS["adieu"])
  assert copies.at_speeds([labelled], (), FEATURE_SETS["adieu"]) == [labelled]
  prosody = FEATURE_SETS["adieu_prosody"]
  _, copy = copies.at_speeds([labelled], (0.9,), prosody)
  assert copy.contour is None
