"""RECOLA: five minutes a speaker, arousal and valence every 40 ms -> windows.

Ringeval et al., EmoSPACE 2013. Two packages are read:

AVEC 2016's, with the gold standard ready: `recordings_audio/train_1.wav` and
`ratings_gold_standard/{arousal,valence}/train_1.arff`; partitions are in the
names. The release's, with the raters' traces: `P16.wav` anywhere and
`emotional_behaviour/{arousal,valence}/P16.csv`; partitions, which the release
does not have, in a `partition.csv` of the user's beside them.

An utterance is a window of 6 s, every 3 s, and one that ends where the
recording does; its session is the partition. Recordings without ratings (the
challenge's test part) are left out.
"""

import collections
import csv
import logging
import pathlib
import re

import numpy as np
from jaxtyping import Float

from data_prep.corpora import files, gold_standard
from data_prep.utterance import CONTOUR_SECONDS, Utterance
from ser_jax.errors import UserError

LOG = logging.getLogger(__name__)
WINDOW, STEP = 150, 75  # frames: 6 s, 3 s
DIMENSIONS = ("arousal", "valence")
PARTITIONS = ("train", "dev", "test")
# Rated speakers of each part of AVEC's package, without and with its test part.
SIZES = ((9, 9, 0), (9, 9, 9))
AVEC_NAME = re.compile(r"(train|dev|test)_\d+")
RELEASE_NAME = re.compile(r"P\d+")
PARTITION_FILE = "partition.csv"


def read(raw: pathlib.Path, *, allow_partial: bool) -> list[Utterance]:
  """Reads either package.

  Args:
    raw: the folder that it was unpacked into.
    allow_partial: accept other numbers of speakers than AVEC's, or a partition
      that no protocol takes.

  Returns:
    Windows, recording by recording.

  Raises:
    UserError: files missing, damaged or not in the package's format; a
      partition without training or development speakers.
  """
  avec = _tables(raw, "ratings_gold_standard", ".arff")
  release = _tables(raw, "emotional_behaviour", ".csv")
  if bool(avec) == bool(release):
    found = "both" if avec else "neither"
    raise UserError(
      f"--raw={raw} has {found} of ratings_gold_standard/*/*.arff (AVEC 2016) "
      "and emotional_behaviour/*/*.csv (the release of RECOLA): give the "
      "folder of one of them."
    )
  tables = avec or release
  name = AVEC_NAME if avec else RELEASE_NAME
  audio = {
    path.stem: path
    for path in files.find_audio(raw)
    if name.fullmatch(path.stem)
  }
  part_of = _partition_of(raw, release) if release else _part_in_name
  utterances = []
  for recording, paths in sorted(tables.items()):
    if not name.fullmatch(recording):
      scheme = "train_1, dev_1, test_1" if avec else "P16"
      raise files.unknown_name(paths[0], "RECOLA", scheme)
    if recording not in audio:
      raise UserError(
        f"{paths[0]} rates {recording}, of which there is no audio under "
        f"{raw}: unpack the recordings as well."
      )
    rows = gold_standard.read(
      recording, dict(zip(DIMENSIONS, paths, strict=True))
    )
    contour = _heard(recording, audio[recording], rows)
    utterances += _windows(
      recording, audio[recording], part_of(recording), contour
    )
  sizes = _sizes(utterances)
  LOG.info("RECOLA: %s rated speakers in train / dev / test", _join(sizes))
  if avec and not allow_partial:
    _check_published(sizes, raw)
  elif not allow_partial:
    _check_partition(sizes, raw / PARTITION_FILE)
  return utterances


def _tables(
  raw: pathlib.Path, folder: str, suffix: str
) -> dict[str, tuple[pathlib.Path, ...]]:
  """The files of both dimensions, by recording.

  Raises:
    UserError: a recording that is rated in one alone.
  """
  found = collections.defaultdict(dict)
  for dimension in DIMENSIONS:
    for path in sorted(raw.rglob(f"{folder}/{dimension}/*{suffix}")):
      if not path.name.startswith("._"):
        found[path.stem][dimension] = path
  for recording, paths in found.items():
    for dimension in DIMENSIONS:
      if dimension not in paths:
        (other,) = paths.values()
        raise UserError(
          f"{other} has no counterpart in {folder}/{dimension}: unpack the "
          f"ratings of {recording} again."
        )
  return {
    recording: tuple(paths[dimension] for dimension in DIMENSIONS)
    for recording, paths in found.items()
  }


def _part_in_name(recording: str) -> str:
  return recording.partition("_")[0]


def _partition_of(raw: pathlib.Path, tables: dict):
  """The user's partition of the release.

  Raises:
    UserError: no such file, or one that does not place every recording.
  """
  path = raw / PARTITION_FILE
  advice = (
    "write one row a recording under the header participant,partition, such as "
    "P16,train (train, dev or test); neither the release nor the paper lists "
    "its 16 / 15 / 15"
  )
  if not path.is_file():
    raise UserError(f"{path} is missing: {advice}.")
  with path.open(newline="", encoding="utf-8-sig") as file:
    rows = list(csv.DictReader(file))
  part = {}
  for line, row in enumerate(rows, start=2):
    if row.get("partition") not in PARTITIONS or not row.get("participant"):
      raise UserError(
        f"{path}, line {line} reads {list(row.values())}: {advice}."
      )
    part[row["participant"]] = row["partition"]
  missing = sorted(set(tables) - set(part))
  if missing:
    raise UserError(f"{path} does not place {', '.join(missing)}: {advice}.")
  return part.__getitem__


def _heard(
  recording: str,
  audio: pathlib.Path,
  rows: Float[np.ndarray, "rows 2"],
) -> Float[np.ndarray, "frames 2"]:
  """The rows that label audio: row k that from 40 k ms on, for 40 ms.

  Five minutes have 7501 rows, from 0 to 300 s: the last labels nothing.

  Raises:
    UserError: the audio is shorter than the ratings or than a window.
  """
  import soundfile

  try:
    seconds = soundfile.info(audio).duration
  except (OSError, soundfile.LibsndfileError) as error:
    raise UserError(
      f"{audio} cannot be read as audio ({error}): copy the file again from "
      "the corpus."
    ) from error
  frames = min(len(rows), int(seconds / CONTOUR_SECONDS + 1e-6))
  if len(rows) > frames + 1:
    raise UserError(
      f"{audio} lasts {seconds:.2f} s, but {recording} is rated up to "
      f"{(len(rows) - 1) * CONTOUR_SECONDS:.2f} s: the file is cut, or the "
      "ratings are of another one; unpack both again."
    )
  if frames < WINDOW:
    raise UserError(
      f"{audio}: {frames * CONTOUR_SECONDS:.2f} s are rated, a window takes "
      f"{WINDOW * CONTOUR_SECONDS:g} s: move {recording} out of the raw folder."
    )
  return rows[:frames]


def _windows(
  recording: str,
  audio: pathlib.Path,
  part: str,
  contour: Float[np.ndarray, "frames 2"],
) -> list[Utterance]:
  """Windows every `STEP` frames, the last one flush with the end."""
  last = len(contour) - WINDOW
  firsts = [*range(0, last, STEP), last]
  return [
    Utterance(
      id=f"{recording}@{first * CONTOUR_SECONDS:07.2f}",
      path=audio,
      speaker=recording,
      session=part,
      gender="",
      emotion="undecided",
      contour=contour[first : first + WINDOW],
      start=first * CONTOUR_SECONDS,
      seconds=WINDOW * CONTOUR_SECONDS,
    )
    for first in firsts
  ]


def _sizes(utterances: list[Utterance]) -> tuple[int, int, int]:
  """Speakers of each of `PARTITIONS`."""
  speakers = {(u.session, u.speaker) for u in utterances}
  return tuple(sum(s == part for s, _ in speakers) for part in PARTITIONS)


def _join(sizes: tuple[int, int, int]) -> str:
  return " / ".join(map(str, sizes))


def _check_published(sizes: tuple[int, int, int], raw: pathlib.Path) -> None:
  """Compares AVEC's numbers of speakers with the published ones.

  Raises:
    UserError: other numbers.
  """
  if sizes not in SIZES:
    raise UserError(
      f"{raw} has {_join(sizes)} rated speakers in train / dev / test; AVEC "
      f"2016 has {' or '.join(map(_join, SIZES))}: unpack the corpus again, or "
      "pass --allow-partial to go on with what is there."
    )


def _check_partition(sizes: tuple[int, int, int], path: pathlib.Path) -> None:
  """Refuses a partition that one cannot train, validate and test with.

  How many speakers each part has is the user's matter: copies of the release
  have other numbers of them.

  Raises:
    UserError: a part has too few speakers.
  """
  train, dev, test = sizes
  # Without a test part, half of the development speakers are it.
  if not train or dev < (1 if test else 2):
    raise UserError(
      f"{path} places {_join(sizes)} rated speakers in train / dev / test: "
      "place at least one in train, one in dev and one in test, or two in dev; "
      "or pass --allow-partial for another protocol than partition."
    )
