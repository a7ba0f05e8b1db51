"""RECOLA in both of its packages, on trees in their exact formats."""

import dataclasses
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import soundfile

from data_prep.corpora import emodb, gold_standard, recola
from data_prep.extract import extract
from ser_jax.data.shards import open_shards
from ser_jax.errors import UserError
from ser_jax.features.sets import FEATURE_SETS

ROOT = pathlib.Path(__file__).resolve().parents[2]

RATE = 16000
HEADER = (
  "@relation ratings\n\n@attribute Instance_name string\n"
  "@attribute frameTime numeric\n@attribute GoldStandard numeric\n\n@data\n\n"
)


def audio(path, seconds, rate=RATE):
  path.parent.mkdir(parents=True, exist_ok=True)
  rng = np.random.default_rng(len(path.stem))
  samples = rng.normal(0, 0.1, round(seconds * rate)).clip(-0.9, 0.9)
  soundfile.write(path, samples, rate, subtype="PCM_16")


def ratings(seconds):
  """Arousal and valence that differ everywhere, on both ends included."""
  time = np.arange(round(seconds / 0.04) + 1) * 0.04
  return time, np.stack([np.sin(time), np.cos(time) / 2], axis=1)


def avec(raw, seconds=10.0, names=("train_1", "dev_1"), rate=RATE):
  for name in names:
    audio(raw / "recordings_audio" / f"{name}.wav", seconds, rate)
    time, values = ratings(seconds)
    for column, dimension in enumerate(recola.DIMENSIONS):
      path = raw / "ratings_gold_standard" / dimension / f"{name}.arff"
      path.parent.mkdir(parents=True, exist_ok=True)
      rows = [
        f"{name},{t:.2f},{v:.6f}"
        for t, v in zip(time, values[:, column], strict=True)
      ]
      path.write_text(HEADER + "\n".join(rows) + "\n")
  return raw


def release(raw, seconds=10.0, parts=("train", "dev")):
  names = [f"P{number}" for number, _ in enumerate(parts, start=16)]
  for name in names:
    audio(raw / "RECOLA-Audio-recordings" / f"{name}.wav", seconds)
    time, values = ratings(seconds)
    for column, dimension in enumerate(recola.DIMENSIONS):
      path = raw / "RECOLA-Annotation" / "emotional_behaviour" / dimension
      path.mkdir(parents=True, exist_ok=True)
      rows = ["time;FM1 ;FM2 ;FF1 "]
      for t, v in zip(time, values[:, column], strict=True):
        rows.append(f"{t:g};{v + 0.3:.4f};{v:.4f};{v - 0.1:.4f}")
      (path / f"{name}.csv").write_text("\r\n".join(rows) + "\r\n")
  rows = [f"{name},{part}" for name, part in zip(names, parts, strict=True)]
  (raw / "partition.csv").write_text(
    "\n".join(["participant,partition", *rows])
  )
  return raw


def read(raw, allow_partial=True):
  return recola.read(raw, allow_partial=allow_partial)


def test_windows_of_six_seconds_every_three(tmp_path):
  found = read(avec(tmp_path))
  assert [u.id for u in found[:3]] == [
    "dev_1@0000.00",
    "dev_1@0003.00",
    "dev_1@0004.00",  # flush with the end
  ]
  assert {(u.speaker, u.session) for u in found} == {
    ("dev_1", "dev"),
    ("train_1", "train"),
  }
  _, values = ratings(10.0)
  for utterance, first in zip(found[:3], (0, 75, 100), strict=True):
    assert utterance.contour.shape == (150, 2)
    np.testing.assert_allclose(
      utterance.contour, values[first : first + 150], atol=1e-6
    )


def test_five_minutes_have_7500_frames(tmp_path):
  found = read(avec(tmp_path, 300.0, ("train_1",)))
  assert len(found) == 99  # every 3 s, and none twice
  assert (found[0].start, found[-1].start) == (0.0, 294.0)
  time, values = ratings(300.0)
  assert len(time) == 7501
  np.testing.assert_allclose(found[-1].contour[-1], values[7499], atol=1e-6)


@pytest.mark.parametrize("rate", [16000, 44100])
def test_features_are_those_of_the_window(tmp_path, rate):
  found = read(avec(tmp_path, 8.0, ("train_1",), rate))
  samples, _ = soundfile.read(found[0].path)
  start = round(found[1].start * rate)
  record = extract(FEATURE_SETS["adieu"], found[1], None)
  assert record["waveform"].shape == (150, 640)
  np.testing.assert_array_equal(record["contours"], found[1].contour)
  if rate == RATE:
    np.testing.assert_allclose(
      record["waveform"].ravel() / 32768, samples[start : start + 96000],
      atol=1e-4,
    )  # fmt: skip


def test_the_challenge_s_test_part_has_no_ratings(tmp_path):
  raw = avec(tmp_path)
  audio(raw / "recordings_audio" / "test_1.wav", 10.0)
  assert {u.session for u in read(raw)} == {"train", "dev"}


def test_other_sizes_are_refused(tmp_path):
  with pytest.raises(
    UserError,
    match="1 / 1 / 0 rated.* 9 / 9 / 0 or 9 / 9 / 9: .*--allow-partial",
  ):
    read(avec(tmp_path), allow_partial=False)


def test_nine_and_nine(tmp_path):
  names = [f"{part}_{n}" for part in ("train", "dev") for n in range(1, 10)]
  found = read(avec(tmp_path, 6.0, names), allow_partial=False)
  assert len(found) == 18


def test_the_release_with_its_raters(tmp_path):
  found = read(release(tmp_path))
  assert {(u.speaker, u.session) for u in found} == {
    ("P16", "train"),
    ("P17", "dev"),
  }
  # Raters that differ by a constant: the trace, at their weighted mean.
  apart = found[0].contour - ratings(10.0)[1][:150]
  np.testing.assert_allclose(apart - apart[0], 0.0, atol=1e-3)
  assert (np.abs(apart) < 0.3).all()


@pytest.mark.parametrize(
  ("parts", "sizes"),
  [
    (("train", "train", "dev", "test"), "2 / 1 / 1"),
    (("train", "dev", "dev"), "1 / 2 / 0"),
  ],
)
def test_a_partition_of_the_release_has_any_sizes(
  tmp_path, caplog, parts, sizes
):
  caplog.set_level("INFO", "data_prep")
  found = read(release(tmp_path, 6.0, parts), allow_partial=False)
  assert [u.session for u in found] == list(parts)
  assert caplog.messages == [
    f"RECOLA: {sizes} rated speakers in train / dev / test"
  ]


@pytest.mark.parametrize(
  "parts",
  [("dev", "dev", "test"), ("train", "train", "test"), ("train", "dev")],
)
def test_a_partition_that_no_protocol_takes_is_refused(tmp_path, parts):
  raw = release(tmp_path, 6.0, parts)
  with pytest.raises(UserError, match="partition.csv places .* two in dev"):
    read(raw, allow_partial=False)
  assert len(read(raw)) == len(parts)


def test_raters_of_whom_none_agrees_are_refused():
  trace = np.array([-1.0, 0.0, 1.0])
  with pytest.raises(UserError, match="P16.csv: no rater's trace agrees"):
    gold_standard.combine(np.stack([trace, -trace], axis=1), "P16.csv")


def test_agreement_weights_the_means():
  trace = np.array([-1.0, 0.0, 1.0])
  shifted = np.stack([trace, trace, trace + 1], axis=1)
  # Sums of concordances: 1 + 4/7, 1 + 4/7, 4/7 + 4/7.
  level = (8 / 7) / (11 / 7 + 11 / 7 + 8 / 7)
  np.testing.assert_allclose(
    gold_standard.combine(shifted, "these"), trace + level
  )


def damage_avec(raw, old, new):
  path = raw / "ratings_gold_standard" / "valence" / "dev_1.arff"
  text = path.read_text()
  assert old in text
  path.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize(
  ("old", "new", "message"),
  [
    ("dev_1,0.04,", "dev_1;0.04;", r"dev_1.arff, line 10 reads 'dev_1;0.04;"),
    ("dev_1,0.08,", "dev_2,0.08,", "line 11 reads 'dev_2,0.08"),
    ("dev_1,0.04,0.4", "dev_1,0.04,x", "line 10 .* expected numbers"),
    ("dev_1,0.04,0.499600", "dev_1,0.04,NaN", "line 10 .* rating is missing"),
    ("dev_1,0.04,0.499600\n", "", "line 10 is at 0.08 s, where 0.04 s is due"),
    ("GoldStandard", "Arousal", "it is no gold standard"),
  ],
)
def test_malformed_rows_are_named(tmp_path, old, new, message):
  raw = avec(tmp_path)
  damage_avec(raw, old, new)
  with pytest.raises(UserError, match=message):
    read(raw)


@pytest.mark.parametrize(
  ("old", "new", "message"),
  [
    ("\n0.04;", "\n0.04;9;", "line 3 .* expected 4 cells"),
    ("\n0.08;", "\nnan;", "line 4 .* finite"),
    ("time;", "frame;", "line 1 .* time;FM1"),
  ],
)
def test_malformed_traces_are_named(tmp_path, old, new, message):
  raw = release(tmp_path)
  path = next(raw.rglob("arousal/P16.csv"))
  path.write_text(path.read_text().replace(old, new, 1))
  with pytest.raises(UserError, match=message):
    read(raw)


def test_another_frame_rate_is_refused(tmp_path):
  raw = avec(tmp_path)
  path = raw / "ratings_gold_standard" / "arousal" / "dev_1.arff"
  rows = "\n".join(f"dev_1,{0.1 * n:.2f},0.1" for n in range(100))
  path.write_text(HEADER + rows)
  with pytest.raises(UserError, match="a row every 0.1 s, expected every 0.04"):
    read(raw)


def test_ratings_cut_in_one_dimension(tmp_path):
  raw = avec(tmp_path)
  path = raw / "ratings_gold_standard" / "arousal" / "dev_1.arff"
  path.write_text("\n".join(path.read_text().splitlines()[:-20]))
  with pytest.raises(UserError, match="231 rows of arousal and 251 rows of"):
    read(raw)


def test_a_recording_shorter_than_a_window(tmp_path):
  with pytest.raises(UserError, match="5.00 s are rated, a window takes 6 s"):
    read(avec(tmp_path, 5.0))


def test_audio_that_ends_before_its_ratings(tmp_path):
  raw = avec(tmp_path)
  audio(raw / "recordings_audio" / "dev_1.wav", 8.0)
  with pytest.raises(UserError, match="dev_1.wav lasts 8.00 s.*up to 10.00"):
    read(raw)


def test_a_dimension_or_the_audio_is_missing(tmp_path):
  raw = avec(tmp_path)
  (raw / "recordings_audio" / "dev_1.wav").unlink()
  with pytest.raises(UserError, match="there is no audio"):
    read(raw)
  (raw / "ratings_gold_standard" / "valence" / "dev_1.arff").unlink()
  with pytest.raises(UserError, match="no counterpart in .*valence"):
    read(raw)


def test_the_release_needs_a_partition(tmp_path):
  raw = release(tmp_path)
  path = raw / "partition.csv"
  path.write_text("participant,partition\nP16,train\n")
  with pytest.raises(UserError, match="does not place P17"):
    read(raw)
  path.write_text("participant,partition\nP16,validation\n")
  with pytest.raises(UserError, match="line 2 reads .*validation"):
    read(raw)
  path.unlink()
  with pytest.raises(UserError, match="partition.csv is missing"):
    read(raw)


def test_neither_package(tmp_path):
  audio(tmp_path / "x.wav", 1.0)
  with pytest.raises(UserError, match="has neither of"):
    read(tmp_path)


def test_a_set_of_ratings_needs_a_rated_corpus(corpora):
  first = emodb.read(corpora / "emodb", allow_partial=False)[0]
  with pytest.raises(UserError, match="no arousal and valence in time"):
    extract(FEATURE_SETS["adieu"], first, None)


def test_labels_of_another_recording_are_refused(tmp_path):
  window = read(avec(tmp_path))[0]
  cut = dataclasses.replace(window, contour=window.contour[:100])
  with pytest.raises(UserError, match="labelled for 100 frames .* has 150"):
    extract(FEATURE_SETS["adieu"], cut, None)


def test_shards_of_windows(tmp_path):
  raw, out = avec(tmp_path / "raw", 8.0), tmp_path / "shards"
  subprocess.run(
    [
      *(sys.executable, "-m", "data_prep.build", "--corpus=recola"),
      *(f"--raw={raw}", f"--out={out}", "--features=adieu"),
      *("--allow-partial", "--workers=0"),
    ],
    check=True,
    cwd=ROOT,
  )
  shards = open_shards(out)
  assert shards.metadata["inputs"]["contours"]["names"] == [
    "arousal",
    "valence",
  ]
  assert set(shards.table.sessions) == {"train", "dev"}
  assert (shards.table.frames["contours"] == 150).all()
  for index, window in enumerate(read(raw)):
    assert shards.table.ids[index] == window.id
    record = shards.read(index)
    np.testing.assert_array_equal(record["contours"], window.contour)
    assert record["waveform"].shape == (150, 640)
