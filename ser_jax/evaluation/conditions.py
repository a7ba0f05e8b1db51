"""What rows of a table were measured under, beside what the table file says.

ROW/report.json, ROW/config.json, the row's config -> warnings, changes
"""

import json
import pathlib
from collections.abc import Callable, Sequence

from ser_jax import atomic, workdir
from ser_jax.evaluation.markdown import protocol_warnings

# Fields, and starts of fields, that tell a reader nothing of a figure: what may
# change when a training is resumed, where and how it was computed otherwise,
# and what the table's columns have already.
SILENT = (
  *(*workdir.RESUMABLE, *workdir.ASIDE),
  *("data.source", "steps_per_execution", "parallel."),
  *("protocol.folds", "paper."),
)
# A baseline has an input of its own.
OF_BASELINE = ("data.features", "data.inputs.", "data.speeds")
# What a baseline has in common with what is trained.
SHARED = ("data.", "protocol.", "selection.metric")


def read(rows: list[dict], folder: pathlib.Path) -> dict[str, dict]:
  """Reports of a table's rows, each with how its config was changed.

  Args:
    rows: of the table, with the configs of the table file.
    folder: with a folder for each row.

  Returns:
    By row name, the content of `report.json`; further `fields`, the config
    that was run, and its `changes`: by field that both configs have, the value
    that was run and the table file's. Rows without a report are left out.
  """
  found = {}
  for row in rows:
    path = folder / row["name"]
    if not (path / "report.json").exists():
      continue
    silent = SILENT + (OF_BASELINE if "baseline" in row else ())
    config = atomic.read_json(
      path / workdir.CONFIG, "copy it again from where the row was trained."
    )
    report = atomic.read_json(
      path / "report.json",
      "delete it and repeat the command, which rebuilds it.",
    )
    run = _fields(config, silent)
    own = _fields(json.loads(json.dumps(row["config"].to_dict())), silent)
    found[row["name"]] = report | {
      "fields": run,
      "changes": {
        name: [run[name], own[name]]
        for name in sorted(run.keys() & own.keys())
        if run[name] != own[name]
      },
    }
  return found


def _fields(config: dict, silent: tuple[str, ...]) -> dict:
  """What of a config may tell of figures, as `a.b.c` -> value."""
  flat = workdir.flatten(config)
  return {k: v for k, v in flat.items() if not k.startswith(silent)}


def differ(ours: dict, theirs: dict) -> list[str]:
  """In what two rows differ, but for what the table file has them differ in.

  Args:
    ours: a report, see `read`.
    theirs: another; of a baseline, which has no epochs, what trains a network
      is no matter.

  Returns:
    The fields that were changed in either and now differ; `protocol` where the
    folds do.
  """
  changed = ours.get("changes", {}).keys() | theirs.get("changes", {}).keys()
  names = {
    name
    for name in changed
    if ours["fields"].get(name) != theirs["fields"].get(name)
  }
  if not theirs["epochs"]:
    names = {name for name in names if name.startswith(SHARED)}
  if _folds(ours) != _folds(theirs):
    names = {name for name in names if not name.startswith("protocol.")}
    names.add("protocol")
  return sorted(names)


def _folds(report: dict) -> dict:
  """The protocol, without what it notes of labels and of training parts."""
  return {k: v for k, v in report["protocol"].items() if k != "notes"}


def told(row: dict, report: dict) -> dict:
  """What a table keeps of a row's conditions.

  Args:
    row: see `configs/tables/rows.py`.
    report: see `read`.

  Returns:
    `trained`, whether it is no baseline; `warnings` of its protocol; `changes`.
  """
  return {
    "trained": "baseline" not in row,
    "warnings": protocol_warnings(report),
    "changes": report.get("changes", {}),
  }


def render(rows: list[dict], notes: Sequence[str] = ()) -> str:
  """Notes under a table: warnings, changes, and comparisons left out.

  Args:
    rows: of the table, with what `told` and `pairing.against` keep of them.
    notes: what else is to be known of the figures; empty ones are left out.

  Returns:
    Markdown that ends with an empty line; empty where there is no note.
  """
  rows = [row for row in rows if "warnings" in row]
  lines = [note for note in notes if note]
  lines += [
    text if len(labels) == len(rows) else f"{text} Rows: {'; '.join(labels)}."
    for text, labels in _by_text(rows, lambda row: row["warnings"]).items()
  ]
  changes = {}
  for text, labels in _by_text(rows, _changes).items():
    changes.setdefault(tuple(labels), []).append(text)
  every = {
    tuple(row["label"] for row in rows if row["trained"]): "every trained row",
    tuple(row["label"] for row in rows): "every row",
  }
  lines += [
    f"Changed in {every.get(labels, '; '.join(labels))}: {', '.join(texts)}."
    for labels, texts in changes.items()
  ]
  lines += [
    f"No difference of {row['label']}: the row that it is compared with was "
    f"measured with another {', '.join(row['differ'])}."
    for row in rows
    if row.get("differ")
  ]
  lines += [
    f"Differences of {'; '.join(labels)} are {text}."
    for text, labels in _by_text(rows, _runs_of_both).items()
  ]
  return "".join(f"> **Note.** {line}\n>\n" for line in lines) + (
    "\n" if lines else ""
  )


def _runs_of_both(row: dict) -> list[str]:
  if "runs_of_both" not in row:
    return []
  return [
    f"over the {row['runs_of_both']} runs that both rows have, not of the "
    "figures printed, which are of all runs of each"
  ]


def _changes(row: dict) -> list[str]:
  return [
    f"{name} {run!r} instead of {own!r}"
    for name, (run, own) in row["changes"].items()
  ]


def _by_text(
  rows: list[dict], texts: Callable[[dict], list[str]]
) -> dict[str, list[str]]:
  """Labels of the rows that have each of some texts."""
  found = {}
  for row in rows:
    for text in texts(row):
      found.setdefault(text, []).append(row["label"])
  return found
