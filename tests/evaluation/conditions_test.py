"""Rows of a table measured under other conditions than its file says."""

import json

import pytest
from ml_collections import ConfigDict

from ser_jax.evaluation import conditions, tables
from tests.evaluation import tables_test


def own(epochs=100, gamma=0.0):
  """A row's config in the table file."""
  return ConfigDict(
    {
      "epochs": epochs,
      "seeds": (0,),
      "protocol": {"name": "leave_two_speakers_out", "folds": ()},
      "parallel": {"runs": "loop"},
      "task": {"gamma": gamma},
    }
  )


@pytest.fixture
def rows(tmp_path):
  """Three rows; those of a and b differ in gamma by design."""
  found = []
  for name, gamma in (("a", 0.0), ("b", 2.5), ("c", 2.5)):
    row = tables_test.row(name, None if name == "a" else "a")
    found.append(row | {"config": own(gamma=gamma)})
  return found


def measure(folder, rows, *, report=None, **changes):
  """Writes reports of rows that were run with some fields changed."""
  for row in rows:
    config = row["config"].copy_and_resolve_references()
    config.update_from_flattened_dict(
      {name.replace("__", "."): value for name, value in changes.items()}
    )
    path = folder / row["name"]
    path.mkdir()
    (path / "config.json").write_text(json.dumps(config.to_dict()))
    found = tables_test.report(tables_test.A) | (report or {})
    (path / "report.json").write_text(json.dumps(found))


def text_of(rows, folder):
  """The table, and its rows by name."""
  found = tables.compare(rows, conditions.read(rows, folder), "wa")
  text = tables.render(found, "Table 1", "emodb", "iemocap")
  return text, {row["name"]: row for row in found["rows"]}


def test_nothing_is_said_of_rows_as_the_file_has_them(rows, tmp_path):
  measure(
    *(tmp_path, rows),
    parallel__runs="vmap",
    seeds=(0, 1),
    steps_per_execution=4,
  )
  text, found = text_of(rows, tmp_path)
  assert "Note" not in text
  assert {name for name, row in found.items() if "p" in row} == {"b", "c"}


def test_what_all_rows_share_is_said_once(rows, tmp_path):
  measure(tmp_path, rows, epochs=25)
  text, found = text_of(rows, tmp_path)
  assert "Changed in every row: epochs 25 instead of 100." in text
  assert text.count("Note") == 1 and "p" in found["b"]


def test_rows_of_other_conditions_are_not_compared(rows, tmp_path):
  measure(tmp_path, rows[:2], epochs=25)
  measure(tmp_path, rows[2:])
  text, found = text_of(rows, tmp_path)
  assert "Changed in row a; row b: epochs 25 instead of 100." in text
  assert "No difference of row c" in text and "another epochs" in text
  assert "p" in found["b"] and "p" not in found["c"]


def test_protocols_are_labelled_and_not_mixed(rows, tmp_path):
  measure(tmp_path, rows[:1])
  measure(
    tmp_path,
    rows[1:],
    report={
      "speaker_independent": False,
      "protocol": {"folds": 5, "name": "random"},
    },
    protocol__name="random",
  )
  text, found = text_of(rows, tmp_path)
  assert "SPEAKER-DEPENDENT" in text and "Rows: row b; row c." in text
  assert "p" not in found["b"] and "another protocol" in text


def test_notes_on_training_parts_do_not_part_rows(rows, tmp_path):
  """A row with copies at other speeds tests as one without does."""
  measure(tmp_path, rows[:1])
  noted = {"folds": 5, "notes": ["Training parts have copies."]}
  measure(tmp_path, rows[1:], report={"protocol": noted})
  text, found = text_of(rows, tmp_path)
  assert "p" in found["b"] and "another protocol" not in text


def test_few_speakers_are_told_of(rows, tmp_path):
  measure(tmp_path, rows, report={"speakers": 2})
  assert "2 test speakers are too few" in text_of(rows, tmp_path)[0]
