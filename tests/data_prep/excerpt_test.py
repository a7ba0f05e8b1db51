"""Parts of files: what is read around them, and what their features hear."""

import numpy as np
import pytest
import soundfile

from data_prep import excerpt
from data_prep.corpora import synthesis
from data_prep.extract import extract
from data_prep.utterance import Utterance
from ser_jax.errors import UserError
from ser_jax.features import audio, frame_sets
from ser_jax.features.sets import FEATURE_SETS

RATE, SECONDS = 16000, 15.0


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
  """Fifteen seconds of nonsense."""
  rng = np.random.default_rng(0)
  time = np.arange(0, SECONDS, 0.04)
  felt = np.stack([np.sin(time), np.cos(2 * time)], axis=1)
  voice = synthesis.make_voice(rng, "female")
  samples = synthesis.speak(rng, voice, np.array([3.0, 4.0, 3.0]), felt, 0.04)
  path = tmp_path_factory.mktemp("raw") / "train_1.wav"
  soundfile.write(path, samples, RATE, subtype="PCM_16")
  return path


def part(path, start, seconds=6.0):
  return Utterance(
    id=f"train_1@{start:07.2f}",
    path=path,
    speaker="train_1",
    session="train",
    gender="",
    emotion="undecided",
    contour=np.zeros((round(seconds / 0.04), 2), np.float32),
    start=start,
    seconds=seconds,
  )


@pytest.fixture(scope="module")
def whole(recording, opensmile_installed):
  """The windows of the whole recording, a row every 40 ms."""
  samples, _ = audio.load(recording)
  return {
    by: make(samples, RATE, size=frame_sets.FRAME)
    for by, (make, _, _) in frame_sets.WINDOWS.items()
  }


# At the file's ends, nearer to one than the context, in the middle.
@pytest.mark.parametrize("start", [0.0, 1.0, 4.52, 9.0])
@pytest.mark.parametrize("by", sorted(frame_sets.WINDOWS))
@pytest.mark.parametrize("targets", ["", "_prosody"])
def test_windows_are_the_whole_recording_s(
  recording, whole, by, start, targets
):
  feature_set = FEATURE_SETS[f"{by}_windows{targets}"]
  found = extract(feature_set, part(recording, start), None)
  assert len(found["windows"]) == len(found["contours"]) == 150
  first = round(start / 0.04)
  wanted = whole[by][first : first + 150]
  spread = np.maximum(whole[by].std(axis=0), 1e-6)
  apart = np.abs(found["windows"] - wanted) / spread
  # Of what is cut at the excerpt's ends, the worst is off by more than 3.
  assert apart.max() < 1e-3


def test_targets_are_the_excerpt_s_alone(recording, opensmile_installed):
  window = part(recording, 4.52)
  with_context = extract(
    FEATURE_SETS["compare_lld_windows_prosody"], window, None
  )
  alone = extract(FEATURE_SETS["adieu_prosody"], window, None)
  np.testing.assert_array_equal(with_context["contours"], alone["contours"])


@pytest.mark.parametrize(
  ("start", "around"),
  [(0.0, (0, 2.0)), (1.0, (1.0, 2.0)), (4.52, (2.0, 2.0)), (8.2, (2.0, 0.8))],
)
def test_context_is_read_as_far_as_there_is_any(recording, start, around):
  samples, rate, found = excerpt.load(part(recording, start), 2.0)
  assert rate == RATE
  assert found == tuple(round(seconds * RATE) for seconds in around)
  everything, _ = audio.load(recording)
  first = round((start - around[0]) * RATE)
  np.testing.assert_array_equal(
    samples, everything[first : first + 6 * RATE + sum(found)]
  )


def test_a_set_without_context_reads_none(recording):
  assert FEATURE_SETS["adieu"].context == 0
  samples, _, around = excerpt.load(part(recording, 4.52), 0.0)
  assert (len(samples), around) == (6 * RATE, (0, 0))


def test_a_file_that_ends_within_an_excerpt_is_refused(recording):
  with pytest.raises(UserError, match="ends before 15.04 s"):
    excerpt.load(part(recording, 9.04), 2.0)


def test_silence_between_speech_is_refused(recording, tmp_path):
  samples, _ = audio.load(recording)
  samples[4 * RATE : 10 * RATE] = 0
  path = tmp_path / "train_1.wav"
  soundfile.write(path, samples, RATE, subtype="PCM_16")
  with pytest.raises(UserError, match="silent"):
    extract(FEATURE_SETS["compare_lld_windows"], part(path, 4.0), None)
