"""IEMOCAP: `SessionN/dialog/EmoEvaluation/*.txt` -> Utterances.

Busso et al., Language Resources and Evaluation 2008: 10,039 utterances, five
sessions of two speakers. All ten emotions are kept, and `undecided` where the
raters did not agree; which of them make classes is the training config's
business.
"""

import pathlib
import re

from data_prep.corpora import files
from data_prep.utterance import ATTRIBUTES, Utterance
from ser_jax.errors import UserError

EMOTIONS = {
  "neu": "neutral",
  "hap": "happy",
  "sad": "sad",
  "ang": "angry",
  "sur": "surprise",
  "fea": "fear",
  "dis": "disgust",
  "fru": "frustrated",
  "exc": "excited",
  "oth": "other",
  "xxx": "undecided",
}
TOTAL = 10039
# The four classes in common use: 5531 with excited counted as happy.
COUNTS = {
  "angry": 1103,
  "happy": 595,
  "excited": 1041,
  "neutral": 1708,
  "sad": 1084,
}
GENDERS = {"F": "female", "M": "male"}
# [start - end] TAB turn TAB emotion TAB [valence, activation, dominance]
LINE = re.compile(
  r"\[(?P<start>[\d.]+) - (?P<end>[\d.]+)\]\t(?P<turn>\S+)\t(?P<code>\w+)\t"
  r"\[(?P<attributes>[^\]]*)\]"
)
# Ses01F_impro01_F000, Ses01F_script01_1_M003: the first letter tells who wears
# the markers, the last who speaks.
TURN = re.compile(
  r"Ses0(?P<session>[1-5])[FM]_(?:impro|script)\w*_(?P<letter>[FM])[0-9A-Z]+"
)


def read(raw: pathlib.Path, *, allow_partial: bool) -> list[Utterance]:
  """Reads the corpus.

  Args:
    raw: the release's folder, or one above it.
    allow_partial: accept other counts than the published ones, and leave out
      labelled turns without audio.

  Returns:
    Utterances by id.

  Raises:
    UserError: files missing, there twice, or not in the release's format.
  """
  audio = {path.stem: path for path in files.find_audio(raw, "Ses0*")}
  tables = [
    path
    for path in sorted(raw.rglob("EmoEvaluation/*.txt"))
    if not path.name.startswith("._")
  ]
  if not tables:
    raise UserError(
      f"--raw={raw} has no Session*/dialog/EmoEvaluation/*.txt: give the "
      "folder that IEMOCAP_full_release was unpacked into."
    )
  utterances, missing = [], []
  for table in tables:
    for turn, label in _labels(table).items():
      if turn in audio:
        utterances.append(_utterance(turn, audio[turn], table, *label))
      else:
        missing.append(turn)
  if missing and not allow_partial:
    raise UserError(
      f"{len(missing)} labelled turns have no audio under {raw}, the first "
      f"being {missing[0]} (expected SessionN/sentences/wav/DIALOG/TURN.wav): "
      "unpack the corpus again, or pass --allow-partial to leave them out."
    )
  utterances.sort(key=lambda u: u.id)
  files.check_total(
    utterances, "IEMOCAP", raw, TOTAL, allow_partial=allow_partial
  )
  files.check_labels(
    (u.emotion for u in utterances),
    "IEMOCAP",
    COUNTS,
    allow_partial=allow_partial,
  )
  return utterances


def _labels(table: pathlib.Path) -> dict[str, tuple[str, list[float]]]:
  """Emotion code and attributes of every turn of a dialog.

  Raters' own lines (`C-E2:`, `A-E3:`, ...) and the header do not match.
  """
  labels = {}
  # Only the raters' comments, which are not read, stray from ASCII.
  text = table.read_text(encoding="utf-8", errors="replace")
  for line in text.splitlines():
    match = LINE.match(line)
    if match is None:
      if line.startswith("["):
        raise UserError(
          f"{table} has the line {line!r}, which is not '[start - end] TAB "
          "turn TAB emotion TAB [valence, activation, dominance]': unpack the "
          "release's file again."
        )
      continue
    values = [float(value) for value in match["attributes"].split(",")]
    labels[match["turn"]] = (match["code"], values)
  return labels


def _utterance(
  turn: str,
  path: pathlib.Path,
  table: pathlib.Path,
  code: str,
  values: list[float],
) -> Utterance:
  match = TURN.fullmatch(turn)
  if match is None or code not in EMOTIONS or len(values) != len(ATTRIBUTES):
    raise UserError(
      f"{table}: turn {turn!r}, emotion {code!r}, attributes {values}: "
      "expected a turn such as Ses01F_impro01_F000, one of "
      f"{', '.join(EMOTIONS)} and three attributes; unpack the release's file "
      "again."
    )
  session, letter = match["session"], match["letter"]
  return Utterance(
    id=turn,
    path=path,
    speaker=f"0{session}{letter}",
    session=f"session{session}",
    gender=GENDERS[letter],
    emotion=EMOTIONS[code],
    attributes=dict(zip(ATTRIBUTES, values, strict=True)),
  )
