"""What every corpus is read into: one record an utterance, one vocabulary."""

import dataclasses
import pathlib

import numpy as np
from jaxtyping import Float

EMOTIONS = (
  "angry",
  "boredom",
  "calm",
  "disgust",
  "excited",
  "fear",
  "frustrated",
  "happy",
  "neutral",
  "other",
  "sad",
  "surprise",
  "undecided",
)
GENDERS = ("female", "male", "")
ATTRIBUTES = ("valence", "activation", "dominance")

CONTOUR_SECONDS = 0.04


@dataclasses.dataclass(frozen=True)
class Utterance:
  """One recording and what its corpus says of it.

  Attributes:
    id: unique within the corpus.
    path: the audio file.
    speaker: unique within the corpus.
    session: recording session, or the speaker where there are none.
    gender: of the speaker, one of `GENDERS`; empty if the corpus is silent.
    emotion: one of `EMOTIONS`, or a word of the corpus' own, which no other
      shares and the circumplex has no place for.
    attributes: the raters' mean of each of `ATTRIBUTES`, or nothing.
    contour: arousal and valence every `CONTOUR_SECONDS`, where annotated.
    start: where in the file it begins, in seconds.
    seconds: how long it lasts; None for the whole file.
    speed: how many times as fast it is played.
    origin: id of the utterance that this is a copy of, at another speed; empty
      for what the corpus has.
  """

  id: str
  path: pathlib.Path
  speaker: str
  session: str
  gender: str
  emotion: str
  attributes: dict[str, float] = dataclasses.field(default_factory=dict)
  contour: Float[np.ndarray, "frames 2"] | None = None
  start: float = 0.0
  seconds: float | None = None
  speed: float = 1.0
  origin: str = ""

  def __post_init__(self):
    """Keeps readers to what every corpus has.

    Raises:
      ValueError: no emotion, or a gender or attributes that do not exist.
    """
    if not self.emotion or self.gender not in GENDERS:
      raise ValueError(
        f"{self.id}: emotion {self.emotion!r} is empty, or gender "
        f"{self.gender!r} is not one of data_prep.utterance."
      )
    if self.attributes and set(self.attributes) != set(ATTRIBUTES):
      raise ValueError(
        f"{self.id}: attributes {sorted(self.attributes)} should be "
        f"{sorted(ATTRIBUTES)}, or none."
      )
