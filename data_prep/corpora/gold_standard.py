"""Ratings in time -> one gold standard a recording; bad rows by file and line.

What AVEC 2016 distributes is used as it is. Of the raters' own traces the gold
standard is their mean after a centring that weights raters by agreement
(Ringeval et al., AV+EC 2015, section 3): with the concordance c_nm of raters n
and m, w_n the mean of c_nm over the others, cut at 0 and scaled to sum 1, and
m_n the mean over time of rater n's trace y_n,

  gold(t) = mean over n of (y_n(t) - m_n)  +  sum over n of w_n m_n
"""

import pathlib

import numpy as np
from jaxtyping import Float

from data_prep.utterance import CONTOUR_SECONDS
from ser_jax.errors import UserError

ARFF_ATTRIBUTES = ("instance_name", "frametime", "goldstandard")
AGAIN = "unpack the file again"


def read(
  recording: str, paths: dict[str, pathlib.Path]
) -> Float[np.ndarray, "rows 2"]:
  """The gold standard of a recording.

  Args:
    recording: its name.
    paths: a table of ratings (.arff or .csv) for each dimension.

  Returns:
    A column for each dimension, a row every 40 ms from 0 s on.

  Raises:
    UserError: a table that is not what its package distributes.
  """
  columns = {
    dimension: _from_arff(recording, path)
    if path.suffix == ".arff"
    else _from_raters(path)
    for dimension, path in paths.items()
  }
  lengths = {dimension: len(column) for dimension, column in columns.items()}
  if len(set(lengths.values())) > 1:
    rows = " and ".join(f"{n} rows of {name}" for name, n in lengths.items())
    raise UserError(
      f"{recording} has {rows}; they must be equal: "
      f"one of {', '.join(map(str, paths.values()))} is cut; {AGAIN}."
    )
  return np.stack(list(columns.values()), axis=1).astype(np.float32)


def _from_arff(recording: str, path: pathlib.Path) -> Float[np.ndarray, "rows"]:
  """Instance name, time and value, separated by commas."""
  attributes, rows, numbers = [], [], []
  in_data = False
  for number, line in _lines(path):
    word = line.split()[0].lower()
    if not in_data:
      in_data = word == "@data"
      if word == "@attribute":
        attributes.append(line.split()[1].lower())
      continue
    cells = [cell.strip().strip("'\"") for cell in line.split(",")]
    if len(cells) != 3 or cells[0] != recording:
      raise _bad(path, number, line, f"{recording},TIME,VALUE")
    rows.append(_floats(path, number, line, cells[1:]))
    numbers.append(number)
  if tuple(attributes) != ARFF_ATTRIBUTES:
    raise UserError(
      f"{path} has the attributes {attributes}, not {list(ARFF_ATTRIBUTES)}: "
      f"it is no gold standard of AVEC 2016; {AGAIN}."
    )
  return _checked(path, rows, numbers)[:, 0]


def _from_raters(path: pathlib.Path) -> Float[np.ndarray, "rows"]:
  """Time and a column for every rater, separated by semicolons."""
  header, rows, numbers = None, [], []
  for number, line in _lines(path):
    cells = [cell.strip() for cell in line.rstrip(";").split(";")]
    if header is None:
      header = cells
      if header[0].lower() != "time" or len(header) < 3:
        raise _bad(
          path, number, line, "time;FM1 ;FM2 ;... (two raters or more)"
        )
      continue
    if len(cells) != len(header):
      raise _bad(path, number, line, f"{len(header)} cells, as in the header")
    rows.append(_floats(path, number, line, cells))
    numbers.append(number)
  return combine(_checked(path, rows, numbers), path)


def _lines(path: pathlib.Path):
  """Numbered lines that are neither empty nor comments."""
  text = path.read_text(encoding="utf-8-sig", errors="replace")
  for number, line in enumerate(text.splitlines(), start=1):
    if line.strip() and not line.startswith("%"):
      yield number, line.strip()


def _bad(path: pathlib.Path, number: int, line: str, wanted: str) -> UserError:
  return UserError(
    f"{path}, line {number} reads {line!r}, expected {wanted}: {AGAIN}."
  )


def _floats(
  path: pathlib.Path, number: int, line: str, cells: list[str]
) -> list[float]:
  try:
    values = [float(cell) for cell in cells]
  except ValueError as error:
    raise _bad(path, number, line, "numbers") from error
  if not np.isfinite(values).all():
    raise _bad(path, number, line, "finite numbers (a rating is missing)")
  return values


def _checked(
  path: pathlib.Path, rows: list[list[float]], numbers: list[int]
) -> Float[np.ndarray, "rows columns"]:
  """The columns beside the time, once that is every 40 ms from 0 on.

  Raises:
    UserError: too few rows, another rate, or rows missing between others.
  """
  if len(rows) < 2:
    raise UserError(f"{path} has {len(rows)} rows of ratings: {AGAIN}.")
  values = np.array(rows, np.float64)
  time = values[:, 0]
  steps = np.diff(time)
  usual = float(np.median(steps))
  if abs(usual - CONTOUR_SECONDS) > 1e-3:
    raise UserError(
      f"{path} has a row every {usual:g} s, expected every {CONTOUR_SECONDS} "
      "s: interpolate the ratings to 25 a second first."
    )
  due = np.arange(len(time)) * CONTOUR_SECONDS
  late = np.flatnonzero(np.abs(time - due) > 0.5 * CONTOUR_SECONDS)
  if len(late):
    row = late[0]
    raise UserError(
      f"{path}, line {numbers[row]} is at {time[row]:g} s, where "
      f"{due[row]:g} s is due: rows are missing or there twice; {AGAIN}."
    )
  return values[:, 1:]


def combine(
  ratings: Float[np.ndarray, "rows raters"], source: object
) -> Float[np.ndarray, "rows"]:
  """The mean of the raters' traces after weighted centring.

  Args:
    ratings: a column for every rater.
    source: what messages call them.

  Returns:
    The gold standard (the module's equation).

  Raises:
    UserError: no rater agrees with the others.
  """
  mean = ratings.mean(axis=0)
  agreement = _concordance(ratings)
  np.fill_diagonal(agreement, 0.0)
  weight = np.maximum(agreement.sum(axis=1), 0.0)
  if not weight.sum():
    raise UserError(
      f"{source}: no rater's trace agrees with the others' (concordance at or "
      "below 0), so that none can be weighted: move the recording out of the "
      "raw folder."
    )
  return (ratings - mean).mean(axis=1) + weight @ mean / weight.sum()


def _concordance(
  ratings: Float[np.ndarray, "rows raters"],
) -> Float[np.ndarray, "raters raters"]:
  """Lin's coefficient of every pair; 0 where both are constant."""
  mean = ratings.mean(axis=0)
  covariance = np.cov(ratings, rowvar=False, ddof=0)
  variance = np.diag(covariance)
  spread = variance[:, None] + variance + (mean[:, None] - mean) ** 2
  return np.divide(
    2 * covariance, spread, out=np.zeros_like(covariance), where=spread > 0
  )
