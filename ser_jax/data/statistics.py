"""What a fold knows of its data: figures of its *training* part only."""

import dataclasses
import logging

import flax.struct
import numpy as np
from jaxtyping import Array, Float, Int

from ser_jax.data.moments import Running
from ser_jax.data.recordings import (
  MARK,
  as_float,
  recording_of,
  start_of,
  window_moments,
)
from ser_jax.errors import UserError

LOG = logging.getLogger(__name__)
# Constant features named in the log.
LISTED = 10
NORMALIZE = ("train", "speaker", "recording", "utterance")


@dataclasses.dataclass(frozen=True)
class InputPlan:
  """How one input is brought to a static shape.

  Attributes:
    frames: the longest length that a model sees, in frames.
    stored: the longest length before resampling; `frames` where there is none.
    resample: nearest-neighbour interpolation in time to the median number of
      frames of the training part (DS-LSTM, section 2.2).
    standardize: zero mean and unit deviation, by the statistics of `normalize`.
    buckets: lengths that a batch may be padded to, ending in `stored`.
    clip: bound of the standardised values; 0 for none.
    normalize: whose statistics: `train` (each feature's, over the training
      part), `speaker` (each feature's, over all utterances of the speaker,
      test speakers included: transductive), `recording` (all values of the
      recording that the utterance is a window of) or `utterance` (all values
      of the utterance).
  """

  frames: int
  stored: int
  resample: bool
  standardize: bool
  buckets: tuple[int, ...]
  clip: float = 0.0
  normalize: str = "train"

  def bucket(self, longest: int) -> int:
    """The smallest bucket that holds the longest utterance of a batch."""
    return next(size for size in self.buckets if size >= longest)


@flax.struct.dataclass
class Statistics:
  """Figures of one fold's training part, or of its speakers, by input name.

  Attributes:
    median: frames, for inputs that are resampled.
    mean: of each feature, for inputs that are standardised by the training
      part or, then with an axis of speakers, by the speaker.
    deviation: likewise.
    speaker_class: of each speaker of the corpus, its number among the training
      speakers; -1 for the others.
  """

  median: dict[str, Int[Array | np.ndarray, "*runs"]]
  mean: dict[str, Float[Array | np.ndarray, "*axes dim"]]
  deviation: dict[str, Float[Array | np.ndarray, "*axes dim"]]
  speaker_class: Int[Array | np.ndarray, "*runs speakers"]


def speaker_classes(
  speakers: Int[np.ndarray, "all"], train: Int[np.ndarray, "n"]
) -> Int[np.ndarray, "speakers"]:
  """Numbers the speakers of the training part; -1 for those of no use."""
  classes = np.full(speakers.max() + 1, -1, np.int32)
  present = np.unique(speakers[train])
  classes[present] = np.arange(len(present))
  return classes


def median_frames(
  frames: Int[np.ndarray, "all"], train: Int[np.ndarray, "n"]
) -> int:
  """The (lower) median number of frames of the training part."""
  return int(np.sort(frames[train])[(len(train) - 1) // 2])


def make_plans(shards, config, folds, keep) -> dict[str, InputPlan]:
  """One plan an input, shared by all folds so that all share shapes.

  Args:
    shards: the corpus.
    config: `inputs` (name to `resample`, `standardize`, `normalize`, `clip` and
      `buckets`) and `max_frames` (utterances are cut there; 0 for never).
    folds: all folds of the experiment.
    keep: indices of the utterances in use.

  Returns:
    Plans by input name.

  Raises:
    UserError: the shards lack an input, or a bound that is none, or a
      normalisation that does not exist.
  """
  plans = {}
  for name, wanted in config.inputs.items():
    if name not in shards.table.frames:
      raise UserError(
        f"config.data.inputs names {name!r}, which the shards at {shards.path} "
        f"do not have (they have {', '.join(shards.table.frames)}): build "
        "shards of the feature set that the config names."
      )
    if wanted.clip and not wanted.standardize:
      raise UserError(
        f"config.data.inputs.{name}.clip={wanted.clip} bounds standardised "
        "values: set standardize=True, or clip to 0."
      )
    _check_normalize(name, wanted)
    frames = shards.table.frames[name]
    stored = int(frames[keep].max())
    if config.max_frames:
      stored = min(stored, config.max_frames)
    longest = stored
    if wanted.resample:
      longest = max(median_frames(frames, fold.train) for fold in folds)
    plans[name] = InputPlan(
      frames=longest,
      stored=stored,
      resample=wanted.resample,
      standardize=wanted.standardize,
      buckets=(*sorted(b for b in wanted.buckets if b < stored), stored),
      clip=wanted.clip,
      normalize=wanted.normalize,
    )
  return plans


def _check_normalize(name: str, wanted) -> None:
  """Refuses what no statistics could be taken of."""
  normalize = wanted.normalize
  if normalize not in NORMALIZE:
    raise UserError(
      f"config.data.inputs.{name}.normalize={normalize!r} is unknown: choose "
      f"from {', '.join(NORMALIZE)}."
    )
  if normalize != "train" and (wanted.resample or not wanted.standardize):
    raise UserError(
      f"config.data.inputs.{name}.normalize={normalize!r} needs "
      "standardize=True and resample=False."
    )


def _moments(
  shards, names: list[str], indices: Int[np.ndarray, "n"]
) -> dict[str, tuple[Float[np.ndarray, "dim"], Float[np.ndarray, "dim"]]]:
  """Mean and deviation of inputs over utterances; 1 for constant features."""
  running = {name: Running() for name in names}
  for index in indices if names else ():
    record = shards.read(int(index))
    for name in names:
      running[name].add(np.atleast_2d(as_float(record[name])))
  return {
    name: tuple(figure.astype(np.float32) for figure in each.moments())
    for name, each in running.items()
  }


def fold_statistics(shards, plans: dict[str, InputPlan], fold) -> Statistics:
  """Computes a fold's statistics from its training part.

  Those of speakers are from all utterances of the fold.

  Args:
    shards: the corpus.
    plans: what is needed of each input.
    fold: whose parts to read.

  Returns:
    Medians, means and deviations, as NumPy arrays without a run axis.
    Deviations of constant features are 1.
  """
  median = {
    name: np.int32(median_frames(shards.table.frames[name], fold.train))
    for name, plan in plans.items()
    if plan.resample
  }
  _, speakers = np.unique(shards.table.speakers, return_inverse=True)
  found = _moments(shards, _wanted(plans, "train"), fold.train)
  for name, (_, deviation) in found.items():
    constant = np.flatnonzero(deviation == 1.0)
    if len(constant):
      LOG.info(
        "%s: of %s, %d features are constant in training and teach nothing, "
        "counted from 0: %s%s",
        fold.name,
        name,
        len(constant),
        ", ".join(map(str, constant[:LISTED])),
        ", ..." if len(constant) > LISTED else "",
      )
  found |= _speaker_moments(shards, _wanted(plans, "speaker"), speakers, fold)
  return Statistics(
    speaker_class=speaker_classes(speakers, fold.train),
    median=median,
    mean={name: mean for name, (mean, _) in found.items()},
    deviation={name: deviation for name, (_, deviation) in found.items()},
  )


def _wanted(plans: dict[str, InputPlan], normalize: str) -> list[str]:
  """Inputs that are standardised so."""
  return [
    name
    for name, plan in plans.items()
    if plan.standardize and plan.normalize == normalize
  ]


def _speaker_moments(
  shards, names: list[str], speakers: Int[np.ndarray, "all"], fold
) -> dict[str, tuple[Array, Array]]:
  """`_moments` of each speaker; 0 and 1 for those not in the fold."""
  everyone = np.concatenate([fold.train, fold.validation, fold.test])
  each = {
    speaker: _moments(shards, names, everyone[speakers[everyone] == speaker])
    for speaker in (np.unique(speakers[everyone]) if names else ())
  }
  stacked = {}
  for name in names:
    shape = (speakers.max() + 1, shards.metadata["inputs"][name]["dim"])
    stacked[name] = np.zeros(shape, np.float32), np.ones(shape, np.float32)
    for speaker, found in each.items():
      for whole, part in zip(stacked[name], found[name], strict=True):
        whole[speaker] = part
  return stacked


def recording_moments(shards, name: str) -> Float[np.ndarray, "all 2"] | None:
  """Mean and deviation of all values of each utterance's recording.

  Windows overlap: no frame is counted twice.

  Args:
    shards: the corpus.
    name: of an input with a frame rate.

  Returns:
    A row for each utterance, the deviation of a constant being 1; None where
    no recording was cut.
  """
  ids = [str(i) for i in shards.table.ids]
  if not any(MARK in i for i in ids):
    return None
  rate = shards.metadata["inputs"][name]["frame_rate"]
  windows: dict[str, list[int]] = {}
  for index in sorted(range(len(ids)), key=lambda i: start_of(ids[i], rate)):
    windows.setdefault(recording_of(ids[index]), []).append(index)
  found = np.zeros((len(ids), 2), np.float32)
  for indices in windows.values():
    found[indices] = window_moments(
      (start_of(ids[index], rate), shards.read(index)[name])
      for index in indices
    )
  return found
