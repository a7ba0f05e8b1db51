"""Shapes without data: a corpus of blank records, real or supposed.

Everything that depends on shapes alone then runs as it does in training. Where
there are shards, their table is taken and no record is read; where there are
none, the corpus is supposed to have its usual size.
"""

import dataclasses
import itertools

import numpy as np
from jaxtyping import Shaped

from ser_jax.data.dataset import shard_folder
from ser_jax.data.labels import CIRCUMPLEX, EMOTION
from ser_jax.data.protocols import SPEAKER_PAIRS
from ser_jax.data.shards import Shards, Table, open_shards
from ser_jax.errors import UserError
from ser_jax.features.sets import FEATURE_SETS
from ser_jax.train.optimizers import parse_arguments

# Utterances in use, speakers, sessions (0: each speaker is one).
CORPORA = {
  "synthetic": (200, 10, 5),
  "emodb": (535, 10, 0),
  "ravdess": (1440, 24, 0),
  "iemocap": (5531, 10, 5),
  "crema_d": (7438, 91, 0),
  "table": (1000, 10, 0),  # assumed, until there are shards
}


class Blank:
  """Shards whose records say nothing: the interface of `Shards`.

  Attributes:
    path: of the shards, or what stands for it in messages.
    metadata: as of shards.
    table: of the utterances.
  """

  def __init__(self, path: object, metadata: dict, table: Table):
    """Keeps what is known of the corpus.

    Args:
      path: see above.
      metadata: with `corpus`, `features` and `inputs`.
      table: see above.
    """
    self.path, self.metadata, self.table = path, metadata, table

  def __len__(self) -> int:
    return len(self.table.ids)

  def read(self, index: int) -> dict[str, Shaped[np.ndarray, "..."]]:
    """One frame an input, of zeros or ones: what reads it pads it.

    Neighbours differ, since features that never do are warned of.
    """
    return {
      name: np.full(
        spec["dim"] if spec["frame_rate"] is None else (1, spec["dim"]),
        index % 2,
        spec.get("dtype", "float32"),
      )
      for name, spec in self.metadata["inputs"].items()
    }


def blank_shards(config) -> Blank:
  """The corpus of a config, without its data.

  Args:
    config: the whole config, checked; `analysis.seconds` and `.frames` say how
      long utterances are where there are no shards.

  Returns:
    Blank records.

  Raises:
    UserError: no shards, and a corpus that is not known; shards, and frames
      beside them.
  """
  folder = shard_folder(config.data)
  if folder.exists():
    if config.analysis.frames:
      raise UserError(
        f"config.analysis.frames={config.analysis.frames!r} is for a corpus "
        f"without shards; those at {folder} tell how long utterances are: "
        "leave it out, or point config.data.shards at a folder that is not "
        "there."
      )
    found: Shards = open_shards(folder)
    return Blank(found.path, found.metadata, found.table)
  if config.data.corpus not in CORPORA:
    raise UserError(
      f"there are no shards at {folder}, and config.data.corpus="
      f"{config.data.corpus!r} is not one whose size is known "
      f"({', '.join(CORPORA)}): build the shards."
    )
  inputs = {
    name: dataclasses.asdict(spec)
    for name, spec in FEATURE_SETS[config.data.features].inputs.items()
  }
  metadata = {
    "corpus": config.data.corpus,
    "features": config.data.features,
    "inputs": inputs,
  }
  frames = utterance_frames(config.analysis, inputs)
  return Blank("(no shards)", metadata, _table(config, frames))


def utterance_frames(config, inputs: dict[str, dict]) -> dict[str, int]:
  """Frames of an utterance, by input.

  Args:
    config: `seconds`, and `frames`: keyword arguments by input name.
    inputs: `frame_rate` of each input, None for functionals.

  Returns:
    Frames; 1 for functionals.

  Raises:
    UserError: an input that does not exist, or a length below 1.
  """
  given = parse_arguments(
    config.frames, "config.analysis.frames", "mfcc=400,s1=500"
  )
  frames = {
    name: given.get(name, int(config.seconds * (spec["frame_rate"] or 0)) or 1)
    for name, spec in inputs.items()
  }
  unknown = given.keys() - inputs.keys()
  if unknown:
    raise UserError(
      f"config.analysis.frames names {', '.join(sorted(unknown))}: the feature "
      f"set's inputs are {', '.join(inputs)}."
    )
  bad = {n: v for n, v in frames.items() if not isinstance(v, int) or v < 1}
  if bad:
    raise UserError(
      f"config.analysis.frames has {bad}: lengths are whole numbers from 1 on."
    )
  return frames


def _table(config, frames: dict[str, int]) -> Table:
  """Utterances dealt to speakers and classes in turn."""
  corpus, protocol = config.data.corpus, config.protocol
  count, speakers, sessions = CORPORA[corpus]
  names = [f"speaker{number:03d}" for number in range(speakers)]
  if protocol.name == "fixed":
    names = [*protocol.train, *protocol.validation, *protocol.test]
  elif corpus in SPEAKER_PAIRS:
    names = list(itertools.chain.from_iterable(SPEAKER_PAIRS[corpus]))
  # Levels of an attribute come from ratings, or from all the categories.
  by_category = config.data.target == EMOTION
  words = list(config.data.classes if by_category else CIRCUMPLEX)
  speeds = (1.0, *config.data.speeds)
  number = np.tile(np.arange(count), len(speeds))
  speed = np.repeat(speeds, count)
  marks = np.array(["" if s == 1 else f"~{s:g}" for s in speed])
  who = number % len(names)
  which = number // len(names) % len(words)
  # All over the scale from 1 to 5, so that any binning has every level.
  scale = 1.0 + 4.0 * (which + 0.5) / len(words)
  return Table(
    corpus=corpus,
    ids=np.char.add([f"utterance{n:05d}" for n in number], marks),
    speakers=np.char.add(np.array(names)[who], marks),
    sessions=np.array(
      [f"session{n % sessions}" if sessions else names[n] for n in who]
    ),
    genders=np.array(["female", "male"])[who % 2],
    emotions=np.array(words)[which],
    origins=number,
    speeds=speed,
    digests=np.array([f"{n:05d}" for n in number]),
    attributes=np.repeat(scale[:, None], 3, axis=1).astype(np.float32),
    duration=np.full(len(number), config.analysis.seconds),
    frames={
      name: np.full(len(number), length, np.int32)
      for name, length in frames.items()
    },
  )
