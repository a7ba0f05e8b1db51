"""Predictions of recordings -> lines to read, a CSV or a JSON file."""

import contextlib
import csv
import dataclasses
import errno
import io
import json
import math
import pathlib
import tempfile
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float

from ser_jax import atomic
from ser_jax.demo.clips import Clip
from ser_jax.errors import UserError
from ser_jax.inference import Predictor, Recipe


@dataclasses.dataclass(frozen=True)
class Recording:
  """What is predicted of a file.

  Attributes:
    path: of the file.
    clips: its windows, without their features.
    scores: of each window, NaN for those without features; or the contour, a
      row a frame, NaN where no window has features.
  """

  path: pathlib.Path
  clips: list[Clip]
  scores: Float[np.ndarray, "rows classes"]

  @property
  def mean(self) -> Float[np.ndarray, "classes"]:
    """The average over the windows that have features."""
    return np.nanmean(self.scores, axis=0)

  @property
  def note(self) -> str:
    """Why the first window without features has none; empty if all have."""
    return next((clip.note for clip in self.clips if clip.note), "")


def require_writable(output: pathlib.Path) -> None:
  """Makes a file's folder, and tries to write there before there is work.

  Args:
    output: the file.

  Raises:
    UserError: the file could not be written.
  """
  with _writing(output), tempfile.TemporaryFile(dir=output.parent):
    pass


@contextlib.contextmanager
def _writing(output: pathlib.Path) -> Iterator[None]:
  """Makes a file's folder; what keeps the file from being written is told."""
  try:
    output.parent.mkdir(parents=True, exist_ok=True)
    if output.is_dir():
      raise IsADirectoryError(errno.EISDIR, "it is a folder")
    yield
  except OSError as error:
    raise UserError(
      f"--output={output} cannot be written ({error.strerror}): choose another."
    ) from error


def write(
  output: pathlib.Path,
  predictor: Predictor,
  recordings: Sequence[Recording],
  bad: dict[str, str],
) -> None:
  """Writes predictions, in the format that the file's name tells.

  Args:
    output: ends in .csv or .json.
    predictor: whose predictions they are.
    recordings: what was predicted.
    bad: reasons by path.

  Raises:
    UserError: the file cannot be written.
  """
  make = as_json if output.suffix == ".json" else as_csv
  with _writing(output):
    atomic.write_text(output, make(predictor, recordings, bad))


def as_line(recipe: Recipe, found: Recording) -> str:
  """A recording and what it is: its label, or means of its contours."""
  if recipe.contour_rate is None:
    best = int(found.mean.argmax())
    return f"{found.path}: {recipe.classes[best]} {found.mean[best]:.2f}"
  means = zip(recipe.classes, found.mean, strict=True)
  told = ", ".join(f"{name} {mean:.3g}" for name, mean in means)
  return f"{found.path}: {told} on average"


def as_csv(
  predictor: Predictor, recordings: Sequence[Recording], bad: dict[str, str]
) -> str:
  """A row a recording, and, of long ones, a row a window.

  Columns: `file`; `part`, which is `file` or `window`; `start` and `end` in
  seconds; `label`; a probability for each class; `note`. Of contours a row a
  frame: `file`, `time` of its start in seconds, a value for each, empty where
  there is none, `note`.
  """
  classes, rate = predictor.recipe.classes, predictor.recipe.contour_rate
  text = io.StringIO()
  table = csv.writer(text, lineterminator="\n")
  if rate is not None:
    table.writerow(["file", "time", *classes, "note"])
    for found in recordings:
      for number, values in enumerate(found.scores):
        time, unknown = f"{number / rate:.3f}", np.isnan(values).any()
        row = ["" if unknown else f"{v:.6f}" for v in values]
        note = found.note if unknown else ""
        table.writerow([found.path, time, *row, note])
    for path, reason in bad.items():
      table.writerow([path, "", *[""] * len(classes), reason])
    return text.getvalue()
  table.writerow(["file", "part", "start", "end", "label", *classes, "note"])
  for found in recordings:
    end = found.clips[-1].end
    table.writerow(
      [found.path, "file", *_row(classes, 0.0, end, found.mean), ""]
    )
    if len(found.clips) > 1:
      for clip, scores in zip(found.clips, found.scores, strict=True):
        row = _row(classes, clip.start, clip.end, scores)
        table.writerow([found.path, "window", *row, clip.note])
  for path, reason in bad.items():
    table.writerow([path, "file", "", "", "", *[""] * len(classes), reason])
  return text.getvalue()


def _row(classes, start: float, end: float, scores: np.ndarray) -> list[str]:
  """Times, label and probabilities; empty where there are no features."""
  times = [f"{start:.3f}", f"{end:.3f}"]
  if np.isnan(scores).any():
    return [*times, "", *[""] * len(classes)]
  return [*times, classes[scores.argmax()], *(f"{p:.6f}" for p in scores)]


def _rounded(values: Float[np.ndarray, "frames"]) -> list[float | None]:
  """Six decimals; None for NaN, which JSON has not."""
  rounded = values.astype(np.float64).round(6).tolist()
  return [None if math.isnan(value) else value for value in rounded]


def as_json(
  predictor: Predictor, recordings: Sequence[Recording], bad: dict[str, str]
) -> str:
  """The system, its runs, every recording with its windows, what was bad."""
  classes, rate = predictor.recipe.classes, predictor.recipe.contour_rate

  def described(start: float, end: float, scores: np.ndarray) -> dict:
    if np.isnan(scores).any():
      return {"start": start, "end": end, "label": None}
    return {
      "start": round(start, 3),
      "end": round(end, 3),
      "label": classes[scores.argmax()],
      "probabilities": {
        name: round(float(p), 6)
        for name, p in zip(classes, scores, strict=True)
      },
    }

  def contour(found: Recording) -> dict:
    times = np.arange(len(found.scores)) / rate
    columns = dict(zip(classes, found.scores.T, strict=True))
    return {
      name: _rounded(values)
      for name, values in ({"time": times} | columns).items()
    } | ({"note": found.note} if found.note else {})

  def emotions(found: Recording) -> dict:
    windows = [
      described(clip.start, clip.end, scores)
      | ({"note": clip.note} if clip.note else {})
      for clip, scores in zip(found.clips, found.scores, strict=True)
    ]
    whole = described(0.0, found.clips[-1].end, found.mean)
    return whole | {"windows": windows}

  of_recording = emotions if rate is None else contour
  listed = [
    {"file": str(found.path), **of_recording(found)} for found in recordings
  ]
  return json.dumps(
    {
      "system": predictor.recipe.system,
      "corpus": predictor.recipe.corpus,
      "runs": list(predictor.runs),
      "classes": list(classes),
      "recordings": listed,
      "unreadable": bad,
    },
    indent=2,
  )
