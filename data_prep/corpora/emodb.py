"""Berlin Database of Emotional Speech: `wav/03a01Wa.wav` -> Utterances.

Burkhardt et al., Interspeech 2005: 535 utterances, 10 speakers, 7 emotions,
German. The session of an utterance is its speaker.
"""

import pathlib
import re

from data_prep.corpora import files
from data_prep.utterance import Utterance

EMOTIONS = {
  "W": "angry",
  "L": "boredom",
  "E": "disgust",
  "A": "fear",
  "F": "happy",
  "T": "sad",
  "N": "neutral",
}
GENDERS = {
  "03": "male",
  "08": "female",
  "09": "female",
  "10": "male",
  "11": "male",
  "12": "male",
  "13": "female",
  "14": "female",
  "15": "male",
  "16": "female",
}
COUNTS = {
  "angry": 127,
  "boredom": 81,
  "disgust": 46,
  "fear": 69,
  "happy": 71,
  "sad": 62,
  "neutral": 79,
}
# Speaker, text, emotion, version.
NAME = re.compile(r"(\d\d)([ab]\d\d)([WLEAFTN])([a-z])")


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
    if match is None or match[1] not in GENDERS:
      raise files.unknown_name(path, "Emo-DB", "03a01Wa")
    utterances.append(
      Utterance(
        id=path.stem,
        path=path,
        speaker=match[1],
        session=match[1],
        gender=GENDERS[match[1]],
        emotion=EMOTIONS[match[3]],
      )
    )
  files.check_total(utterances, "Emo-DB", raw, 535, allow_partial=allow_partial)
  files.check_labels(
    (u.emotion for u in utterances),
    "Emo-DB",
    COUNTS,
    allow_partial=allow_partial,
  )
  return utterances
