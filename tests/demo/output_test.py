"""What has no prediction is empty in CSV and null in JSON."""

import csv
import json
import types

import numpy as np
import pytest

from ser_jax.demo import output
from ser_jax.demo.clips import Clip
from ser_jax.errors import UserError
from tests.demo.files_test import CONTOURS

MODEL = types.SimpleNamespace(recipe=CONTOURS, runs=("fold0-seed0",))


@pytest.fixture
def recording(tmp_path):
  """Silent at first."""
  scores = np.float32([[np.nan], [0.25], [-1.0]])
  clips = [Clip(0.0, 0.2, None, "it is silent"), Clip(0.1, 0.3, None)]
  return output.Recording(tmp_path / "a.wav", clips, scores)


def test_unknown_frames_are_empty_cells(recording):
  text = output.as_csv(MODEL, [recording], {})
  rows = list(csv.DictReader(text.splitlines()))
  assert [(row["time"], row["arousal"], row["note"]) for row in rows] == [
    ("0.000", "", "it is silent"),
    ("0.100", "0.250000", ""),
    ("0.200", "-1.000000", ""),
  ]


def test_unknown_frames_are_null(recording):
  text = output.as_json(MODEL, [recording], {})
  assert "NaN" not in text
  (found,) = json.loads(text)["recordings"]
  assert found["time"] == [0, 0.1, 0.2]
  assert found["arousal"] == [None, 0.25, -1]
  assert found["note"] == "it is silent"


def test_a_place_that_can_be_written_is_left_as_it_was(tmp_path):
  path = tmp_path / "new" / "out.csv"
  output.require_writable(path)
  assert not list(path.parent.iterdir())
  path.write_text("as it was")
  output.require_writable(path)
  assert path.read_text() == "as it was"


@pytest.mark.parametrize(
  "make",
  [
    lambda path: path.parent.write_text("a file where the folder belongs"),
    lambda path: path.mkdir(parents=True),
  ],
)
def test_a_place_that_cannot_be_written_is_refused(tmp_path, make):
  path = tmp_path / "folder" / "out.csv"
  make(path)
  with pytest.raises(UserError, match="out.csv cannot be written"):
    output.require_writable(path)
