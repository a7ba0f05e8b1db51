"""RAVDESS: `Actor_01/03-01-06-01-02-01-12.wav` -> Utterances.

Livingstone and Russo, PLoS ONE 2018: the audio-only speech, 1440 utterances,
24 actors, 8 emotions. The session of an utterance is its speaker. Songs and
videos of the full release are not of this corpus and are passed over.
"""

import pathlib
import re

from data_prep.corpora import files
from data_prep.utterance import Utterance

EMOTIONS = {
  "01": "neutral",
  "02": "calm",
  "03": "happy",
  "04": "sad",
  "05": "angry",
  "06": "fear",
  "07": "disgust",
  "08": "surprise",
}
COUNTS = {name: 96 if name == "neutral" else 192 for name in EMOTIONS.values()}
# Modality, channel, emotion, intensity, statement, repetition, actor.
NAME = re.compile(
  r"(0[1-3])-(0[12])-(0[1-8])-(0[12])-(0[12])-(0[12])-([01]\d|2[0-4])"
)
AUDIO_ONLY, SPEECH = "03", "01"


def read(raw: pathlib.Path, *, allow_partial: bool) -> list[Utterance]:
  """Reads the corpus.

  Args:
    raw: the folder with the audio, nested or flat.
    allow_partial: accept other counts than the published ones.

  Returns:
    Utterances by id.

  Raises:
    UserError: files missing, misnamed or there twice.
  """
  utterances = []
  for path in files.find_audio(raw):
    match = NAME.fullmatch(path.stem)
    if match is None:
      raise files.unknown_name(path, "RAVDESS", "03-01-06-01-02-01-12")
    modality, channel, emotion, *_, actor = match.groups()
    if (modality, channel) != (AUDIO_ONLY, SPEECH):
      continue
    utterances.append(
      Utterance(
        id=path.stem,
        path=path,
        speaker=actor,
        session=actor,
        gender="male" if int(actor) % 2 else "female",
        emotion=EMOTIONS[emotion],
      )
    )
  files.check_total(
    utterances, "RAVDESS", raw, 1440, allow_partial=allow_partial
  )
  files.check_labels(
    (u.emotion for u in utterances),
    "RAVDESS",
    COUNTS,
    allow_partial=allow_partial,
  )
  return utterances
