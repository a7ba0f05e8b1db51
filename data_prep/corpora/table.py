"""A corpus of one's own: `utterances.csv` -> Utterances.

A row a recording, with a header. Columns:

    path          of the file (WAV or FLAC), from the table's folder
    speaker       who speaks, by any name
    emotion       a label, by any word
    utterance     its name; without it the path's
    session       of the recording; without it the speaker
    gender        female or male
    valence, activation, dominance   ratings from 1 to 5, all three or none

The first three are needed, the others may be left out or empty; further columns
are not read.
"""

import csv
import pathlib

from data_prep.corpora import files
from data_prep.utterance import ATTRIBUTES, GENDERS, Utterance
from ser_jax.errors import UserError

NAME = "utterances.csv"
NEEDED = ("path", "speaker", "emotion")
MARKS = "@~"  # in names they tell excerpts and copies apart


def read(raw: pathlib.Path, *, allow_partial: bool) -> list[Utterance]:
  """Reads the corpus.

  Args:
    raw: the folder with `utterances.csv`.
    allow_partial: leave out rows whose file is missing.

  Returns:
    Utterances by id.

  Raises:
    UserError: no table, a column or a value missing or amiss, a recording that
      is not there or is named twice.
  """
  path = raw / NAME
  found = {}
  for line, row in _rows(path):
    where = f"{path}, line {line}"
    utterance = _utterance(raw, row, where)
    if not utterance.path.is_file():
      if allow_partial:
        continue
      raise UserError(
        f"{where}: there is no file {utterance.path}. Correct the column path, "
        "or pass --allow-partial to go on with the recordings that are there."
      )
    if utterance.id in found:
      raise UserError(
        f"{where}: the utterance {utterance.id!r} is there twice: leave one "
        "out, or give each a name of its own in the column utterance."
      )
    found[utterance.id] = utterance
  if not found:
    raise UserError(f"{path} names no recording that is there: fill it in.")
  return [found[name] for name in sorted(found)]


def _rows(path: pathlib.Path) -> list[tuple[int, dict[str, str]]]:
  """Numbers of lines, and what stands in them."""
  if not path.is_file():
    raise UserError(
      f"--corpus=table reads {path}, which is not there: write a table with "
      f"the columns {', '.join(NEEDED)}, a row a recording, or give its folder "
      "as --raw."
    )
  try:
    with open(path, encoding="utf-8-sig", newline="") as file:
      reader = csv.DictReader(file, skipinitialspace=True)
      columns = reader.fieldnames or ()
      rows = [(reader.line_num, row) for row in reader]
  except (UnicodeDecodeError, csv.Error) as error:
    raise UserError(
      f"{path} cannot be read as a table ({error}): save it as CSV in UTF-8, "
      "with commas between the columns."
    ) from error
  missing = [name for name in NEEDED if name not in columns]
  if missing:
    raise UserError(
      f"{path} has no column {', '.join(missing)} (it has "
      f"{', '.join(columns) or 'nothing'}): the first line names the columns, "
      "with commas between."
    )
  named = [name for name in columns if name]
  if len(set(named)) < len(named):
    raise UserError(
      f"{path} has two columns of one name ({', '.join(named)}): rename one."
    )
  return rows


def _utterance(raw: pathlib.Path, row: dict[str, str], where: str) -> Utterance:
  """What a row says."""
  if any(row.pop(None, ())):  # values beyond the columns
    raise UserError(
      f"{where} has more values than the first line has columns: put values "
      "with commas in them in double quotes."
    )
  told = {name: value.strip() for name, value in row.items() if value}
  for name in NEEDED:
    if not told.get(name):
      raise UserError(f"{where}: {name} is empty: fill it in.")
  file = pathlib.PurePosixPath(told["path"])
  if file.suffix.lower() not in files.AUDIO_SUFFIXES:
    raise UserError(
      f"{where}: {file} is neither WAV nor FLAC: convert it, and correct the "
      "column path."
    )
  if told.get("gender", "") not in GENDERS:
    raise UserError(
      f"{where}: gender {told['gender']!r} is neither female nor male: leave "
      "it empty where it is not known."
    )
  name = told.get("utterance") or str(file.with_suffix("")).replace("/", "_")
  for value in (name, told["speaker"]):
    if set(MARKS) & set(value):
      raise UserError(
        f"{where}: {value!r} has one of {' '.join(MARKS)}, which mark excerpts "
        "and copies: name utterance and speaker without."
      )
  return Utterance(
    id=name,
    path=raw / file,
    speaker=told["speaker"],
    session=told.get("session") or told["speaker"],
    gender=told.get("gender", ""),
    emotion=told["emotion"],
    attributes=_ratings(told, where),
  )


def _ratings(told: dict[str, str], where: str) -> dict[str, float]:
  given = {name: told[name] for name in ATTRIBUTES if told.get(name)}
  if not given:
    return {}
  try:
    ratings = {name: float(given[name]) for name in ATTRIBUTES}
  except (KeyError, ValueError):
    ratings = {}
  if not ratings or not all(1 <= value <= 5 for value in ratings.values()):
    raise UserError(
      f"{where}: {', '.join(f'{k}={v}' for k, v in given.items())} must be "
      f"numbers from 1 to 5, all of {', '.join(ATTRIBUTES)} or none."
    )
  return ratings
