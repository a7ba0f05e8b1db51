"""A speech-like corpus made from nothing: for tests, demos and benchmarks.

Shaped as IEMOCAP: five sessions of a woman and a man, four classes, attributes
on 1..5 that are means of two raters, and arousal and valence in time. The
voices are `synthesis.py`'s. `labels.json` beside the audio holds the labels
and the settings.
"""

import dataclasses
import json
import os
import pathlib
import shutil

import numpy as np
from jaxtyping import Float

from data_prep.corpora import files, synthesis
from data_prep.utterance import ATTRIBUTES, CONTOUR_SECONDS, Utterance
from ser_jax.errors import UserError

SESSIONS = 5
GENDERS = {"F": "female", "M": "male"}
# Mean (valence, activation, dominance) of each class; utterances scatter
# around it so that classes overlap, as they do in IEMOCAP.
CLASSES = {
  "angry": (1.8, 4.1, 4.1),
  "happy": (4.2, 3.7, 3.4),
  "neutral": (3.1, 2.8, 2.9),
  "sad": (2.0, 1.8, 2.2),
}
SCATTER = 0.35
LABELS = "labels.json"


@dataclasses.dataclass(frozen=True)
class Settings:
  """What determines the corpus, to the sample.

  Attributes:
    utterances: of each of the ten speakers.
    seconds: mean duration.
    seed: of everything drawn.
  """

  utterances: int = 20
  seconds: float = 2.0
  seed: int = 0

  def __post_init__(self):
    """Refuses settings that make no speech.

    Raises:
      UserError: a value out of range.
    """
    if self.utterances < 1 or not 0.5 <= self.seconds <= 60 or self.seed < 0:
      raise UserError(
        f"the synthetic corpus cannot have {self}: it needs at least one "
        "utterance a speaker, 0.5 to 60 seconds and a seed of at least 0."
      )


def is_absent(raw: pathlib.Path) -> bool:
  """Whether there is nothing at a path, or an empty folder."""
  return not raw.exists() or (raw.is_dir() and not any(raw.iterdir()))


def generate(raw: pathlib.Path, settings: Settings = Settings()) -> None:  # noqa: B008
  """Writes the corpus: 16-bit FLAC at 16 kHz and a table of labels.

  Args:
    raw: the folder to make; it is filled at once, when all is there.
    settings: size and seed.

  Raises:
    UserError: something is there already, or cannot be written.
  """
  if not is_absent(raw):
    raise UserError(
      f"{raw} exists: the synthetic corpus is generated into a folder of its "
      "own; give another one, or delete it."
    )
  # Two programs may want the corpus at once: each makes it, one names it.
  partial = raw.with_name(f"{raw.name}.{os.getpid()}.partial")
  try:
    (partial / "audio").mkdir(parents=True)
    rows = [
      _write_utterance(partial / "audio", settings, session, letter, number)
      for session in range(1, SESSIONS + 1)
      for letter in GENDERS
      for number in range(settings.utterances)
    ]
    table = {"settings": dataclasses.asdict(settings), "utterances": rows}
    (partial / LABELS).write_text(json.dumps(table, indent=1) + "\n")
    if is_absent(raw):
      partial.rename(raw)
  except OSError as error:
    raise UserError(
      f"the synthetic corpus could not be written to {raw}: {error}. Free "
      "disk space or choose another folder."
    ) from error
  finally:
    shutil.rmtree(partial, ignore_errors=True)


def read_settings(raw: pathlib.Path) -> Settings:
  """The settings that a folder was generated with.

  Raises:
    UserError: not a folder of this corpus.
  """
  return Settings(**_load(raw)["settings"])


def read(raw: pathlib.Path, *, allow_partial: bool) -> list[Utterance]:
  """Reads the corpus.

  Args:
    raw: a folder that `generate` made.
    allow_partial: leave out utterances whose audio is missing.

  Returns:
    Utterances by id.

  Raises:
    UserError: not such a folder, or audio missing.
  """
  table = _load(raw)
  audio = {path.stem: path for path in files.find_audio(raw / "audio")}
  utterances = [
    Utterance(
      id=row["id"],
      path=audio[row["id"]],
      speaker=row["speaker"],
      session=row["session"],
      gender=row["gender"],
      emotion=row["emotion"],
      attributes=row["attributes"],
      contour=np.array(row["contour"], np.float32),
    )
    for row in table["utterances"]
    if row["id"] in audio
  ]
  utterances.sort(key=lambda u: u.id)
  files.check_total(
    utterances,
    "the synthetic corpus",
    raw,
    len(table["utterances"]),
    allow_partial=allow_partial,
  )
  return utterances


def _load(raw: pathlib.Path) -> dict:
  path = raw / LABELS
  try:
    return json.loads(path.read_text())
  except (OSError, ValueError) as error:
    raise UserError(
      f"{path} cannot be read ({error}): {raw} is not a folder of the "
      "synthetic corpus. Give another --raw; it is generated if absent."
    ) from error


def _write_utterance(
  folder: pathlib.Path,
  settings: Settings,
  session: int,
  letter: str,
  number: int,
) -> dict:
  """Writes one recording and returns its row of the table."""
  import soundfile

  key = [settings.seed, session, ord(letter)]
  voice = synthesis.make_voice(np.random.default_rng(key), GENDERS[letter])
  # Utterances draw from their own streams: the first of a larger corpus are
  # those of a smaller one.
  rng = np.random.default_rng([*key, number])
  # Speakers start at different classes, so that few utterances cover all.
  emotion = list(CLASSES)[(number + session) % len(CLASSES)]
  felt = CLASSES[emotion] + SCATTER * rng.standard_normal(3)
  felt = np.clip(felt, 1, 5)
  seconds = settings.seconds * float(np.clip(rng.normal(1, 0.2), 0.6, 1.5))
  contour = _contour(rng, felt, seconds)
  samples = synthesis.speak(rng, voice, felt, contour, CONTOUR_SECONDS)
  name = f"S{session}{letter}_{number:04d}"
  soundfile.write(
    folder / f"{name}.flac", samples, synthesis.RATE, subtype="PCM_16"
  )
  return {
    "id": name,
    "speaker": f"{session:02d}{letter}",
    "session": f"session{session}",
    "gender": GENDERS[letter],
    "emotion": emotion,
    "attributes": dict(zip(ATTRIBUTES, _rate(rng, felt), strict=True)),
    "contour": np.round(contour, 4).tolist(),
  }


def _rate(rng: np.random.Generator, felt: np.ndarray) -> list[float]:
  """The mean of two raters' marks: fractional, as IEMOCAP's."""
  marks = np.round(felt + 0.3 * rng.standard_normal((2, 3)))
  return np.clip(marks, 1, 5).mean(axis=0).tolist()


def _contour(
  rng: np.random.Generator, felt: np.ndarray, seconds: float
) -> Float[np.ndarray, "frames 2"]:
  """Arousal and valence in -1..1, drifting about the utterance's own."""
  frames = max(int(seconds / CONTOUR_SECONDS), 2)
  time = np.arange(frames) * CONTOUR_SECONDS
  drift = np.zeros((frames, 2))
  for hertz in (0.15, 0.4, 0.9):
    phase = rng.uniform(0, 2 * np.pi, 2)
    drift += rng.normal(0, 0.1, 2) * np.sin(
      2 * np.pi * hertz * time[:, None] + phase
    )
  valence, activation, _ = (felt - 3) / 2
  return np.clip(np.array([activation, valence]) + drift, -1, 1)
