"""What a fold knows of its data: figures of its *training* part only."""

import dataclasses

import flax.struct
import numpy as np
from jaxtyping import Array, Float, Int

from ser_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class InputPlan:
  """How one input is brought to a static shape.

  Attributes:
    frames: the longest length that a model sees, in frames.
    stored: the longest length before resampling; `frames` where there is none.
    resample: nearest-neighbour interpolation in time to the median number of
      frames of the training part (DS-LSTM, section 2.2).
    standardize: zero mean and unit deviation by training-part statistics.
    buckets: lengths that a batch may be padded to, ending in `stored`.
    clip: bound of the standardised values; 0 for none.
  """

  frames: int
  stored: int
  resample: bool
  standardize: bool
  buckets: tuple[int, ...]
  clip: float = 0.0

  def bucket(self, longest: int) -> int:
    """The smallest bucket that holds the longest utterance of a batch."""
    return next(size for size in self.buckets if size >= longest)


@flax.struct.dataclass
class Statistics:
  """Figures of one fold's training part, by input name.

  Attributes:
    median: frames, for inputs that are resampled.
    mean: of each feature, for inputs that are standardised.
    deviation: likewise.
    speaker_class: of each speaker of the corpus, its number among the training
      speakers; -1 for the others.
  """

  median: dict[str, Int[Array | np.ndarray, "*runs"]]
  mean: dict[str, Float[Array | np.ndarray, "*runs dim"]]
  deviation: dict[str, Float[Array | np.ndarray, "*runs dim"]]
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
    config: `inputs` (name to `resample`, `standardize`, `buckets` and, if
      standardised values are to be bounded, `clip`) and `max_frames`
      (utterances are cut there; 0 for never).
    folds: all folds of the experiment.
    keep: indices of the utterances in use.

  Returns:
    Plans by input name.

  Raises:
    UserError: the shards lack an input, or a bound that is none.
  """
  plans = {}
  for name, wanted in config.inputs.items():
    if name not in shards.table.frames:
      raise UserError(
        f"config.data.inputs names {name!r}, which the shards at {shards.path} "
        f"do not have (they have {', '.join(shards.table.frames)}): build "
        "shards of the feature set that the config names."
      )
    clip = getattr(wanted, "clip", 0.0)
    if clip < 0 or (clip and not wanted.standardize):
      raise UserError(
        f"config.data.inputs.{name}.clip={clip} bounds standardised values: it "
        "must be positive, with standardize=True; 0 turns it off."
      )
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
      clip=clip,
    )
  return plans


def fold_statistics(shards, plans: dict[str, InputPlan], fold) -> Statistics:
  """Computes a fold's statistics from its training part.

  Args:
    shards: the corpus.
    plans: what is needed of each input.
    fold: whose training part to read.

  Returns:
    Medians, means and deviations, as NumPy arrays without a run axis.
    Deviations of constant features are 1.
  """
  median = {
    name: np.int32(median_frames(shards.table.frames[name], fold.train))
    for name, plan in plans.items()
    if plan.resample
  }
  wanted = [name for name, plan in plans.items() if plan.standardize]
  count = dict.fromkeys(wanted, 0)
  mean = dict.fromkeys(wanted, 0.0)
  scatter = dict.fromkeys(wanted, 0.0)
  for index in fold.train if wanted else ():
    record = shards.read(int(index))
    for name in wanted:
      values = np.atleast_2d(record[name]).astype(np.float64)
      # Chan's update: exact for long corpora, where sums of squares are not.
      total = count[name] + len(values)
      shift = values.mean(axis=0) - mean[name]
      scatter[name] += ((values - values.mean(axis=0)) ** 2).sum(axis=0)
      scatter[name] += shift**2 * count[name] * len(values) / total
      mean[name] += shift * len(values) / total
      count[name] = total
  deviation = {name: np.sqrt(scatter[name] / count[name]) for name in wanted}
  _, speakers = np.unique(shards.table.speakers, return_inverse=True)
  return Statistics(
    speaker_class=speaker_classes(speakers, fold.train),
    median=median,
    mean={name: mean[name].astype(np.float32) for name in wanted},
    deviation={
      name: np.where(d > 1e-8, d, 1.0).astype(np.float32)
      for name, d in deviation.items()
    },
  )
