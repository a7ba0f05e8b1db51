"""CREMA-D: `AudioWAV/1001_DFA_ANG_XX.wav` -> Utterances.

Cao et al., IEEE Transactions on Affective Computing 2014: 7442 utterances, 91
actors, 6 emotions, as acted. The session of an utterance is its speaker.
Genders are in the release's `VideoDemographics.csv`; without that file they
are left unknown. The release's defective recordings are counted and left out.
"""

import csv
import logging
import pathlib
import re

from data_prep.corpora import files
from data_prep.utterance import Utterance
from ser_jax.errors import UserError

LOG = logging.getLogger(__name__)
EMOTIONS = {
  "ANG": "angry",
  "DIS": "disgust",
  "FEA": "fear",
  "HAP": "happy",
  "NEU": "neutral",
  "SAD": "sad",
}
ACTORS = 91
# Actor, sentence, emotion, level; one name of the release has a single X.
NAME = re.compile(
  r"(10\d\d)_([A-Z]{3})_(ANG|DIS|FEA|HAP|NEU|SAD)_(LO|MD|HI|XX|X)"
)
DEMOGRAPHICS = "VideoDemographics.csv"
DEFECTIVE = (
  "1064_IEO_DIS_MD",  # a minute: the sentence in every emotion, not disgust
  "1064_TIE_SAD_XX",  # has no duration
  "1076_MTI_NEU_XX",  # nearly empty
  "1076_MTI_SAD_XX",  # has no audio
)


def read(raw: pathlib.Path, *, allow_partial: bool) -> list[Utterance]:
  """Reads the corpus.

  Args:
    raw: the folder with the audio, nested or flat.
    allow_partial: accept other counts than the published ones.

  Returns:
    Utterances by id, without those of `DEFECTIVE` recordings.

  Raises:
    UserError: files missing, misnamed or there twice.
  """
  paths = files.find_audio(raw)
  genders = _genders(raw)
  utterances = []
  for path in paths:
    match = NAME.fullmatch(path.stem)
    if match is None:
      raise files.unknown_name(path, "CREMA-D", "1001_DFA_ANG_XX")
    actor = match[1]
    if genders and actor not in genders:
      raise UserError(
        f"{DEMOGRAPHICS} under {raw} has no row for actor {actor} of {path}: "
        "unpack the release's file again."
      )
    utterances.append(
      Utterance(
        id=path.stem,
        path=path,
        speaker=actor,
        session=actor,
        gender=genders.get(actor, ""),
        emotion=EMOTIONS[match[3]],
      )
    )
  files.check_total(
    utterances, "CREMA-D", raw, 7442, allow_partial=allow_partial
  )
  actors = len({u.speaker for u in utterances})
  if actors != ACTORS and not allow_partial:
    raise UserError(
      f"CREMA-D has {ACTORS} actors, {raw} has {actors}: unpack the corpus "
      "again, or pass --allow-partial to go on with what is there."
    )
  return _without_defective(utterances)


def _without_defective(utterances: list[Utterance]) -> list[Utterance]:
  """Utterances that can be used; what is left out is logged."""
  left_out = [u.id for u in utterances if u.id in DEFECTIVE]
  if left_out:
    LOG.warning(
      "CREMA-D: left out %s, defective as released", ", ".join(left_out)
    )
  return [u for u in utterances if u.id not in DEFECTIVE]


def _genders(raw: pathlib.Path) -> dict[str, str]:
  """Gender by actor; empty where the release's table is not there."""
  tables = [
    path
    for path in sorted(raw.rglob(DEMOGRAPHICS))
    if not path.name.startswith("._")
  ]
  if not tables:
    return {}
  with tables[0].open(newline="", encoding="utf-8-sig") as file:
    rows = list(csv.DictReader(file))
  if not rows or not {"ActorID", "Sex"} <= set(rows[0]):
    raise UserError(
      f"{tables[0]} should have the columns ActorID and Sex: unpack the "
      "release's file again."
    )
  return {row["ActorID"].strip(): row["Sex"].strip().lower() for row in rows}
