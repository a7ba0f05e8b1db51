"""What a prediction needs of an experiment beside its weights.

    shards + folds -> Recipe, statistics -> inference.npz in the workdir

Training writes it, so that shards may be gone when a model is used; it is read
without JAX, in the processes that make features too.
"""

import dataclasses
import json
import math
import pathlib
import zipfile
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float, Int, Shaped

from ser_jax import atomic
from ser_jax.data.moments import moments
from ser_jax.data.recordings import as_float, moments_of, window_moments
from ser_jax.errors import UserError

FILE = "inference.npz"
# Utterances under which a speaker's mean and deviation say nothing.
LEAST_OF_SPEAKER = 5

Features = dict[str, Shaped[np.ndarray, "..."]]
Inputs = dict[str, Shaped[np.ndarray, "batch ..."]]
Lengths = dict[str, Int[np.ndarray, "batch"]]
FoldArrays = dict[str, dict[str, np.ndarray]]  # "median/NAME" ... by fold


@dataclasses.dataclass(frozen=True)
class Recipe:
  """From audio to inputs of a model, and from scores to words; plain data.

  Attributes:
    system: of the config, with its variant.
    corpus: what was trained on.
    classes: names by class index; of contours, where these are predicted.
    features: the feature set's name.
    made: its recipe at the time of training.
    inputs: per input name, `dim`, `frame_rate` and `dtype`.
    plans: per input name, how it is prepared; see `InputPlan`.
    pad_to: samples, at the set's rate, that audio is padded to; None for none.
    longest: seconds of the longest utterance of training; of contours, those
      of the frames that the model was made for.
    genders: of the corpus' speakers, by speaker.
    folds: names of those that are trained, in order.
    speakers: that a speaker head tells apart.
    contour_rate: frames a second of contours; None for classes.
  """

  system: str
  corpus: str
  classes: tuple[str, ...]
  features: str
  made: dict
  inputs: dict[str, dict]
  plans: dict[str, dict]
  pad_to: int | None
  longest: float
  genders: dict[str, str]
  folds: tuple[str, ...]
  speakers: int
  contour_rate: float | None = None

  @property
  def by_speaker(self) -> tuple[str, ...]:
    """Inputs that are standardised by each speaker's own statistics."""
    return self._by("speaker")

  @property
  def by_recording(self) -> tuple[str, ...]:
    """Inputs that are standardised by the whole recording's values."""
    return self._by("recording")

  def _by(self, whose: str) -> tuple[str, ...]:
    return tuple(
      name
      for name, plan in self.plans.items()
      if plan["standardize"] and plan["normalize"] == whose
    )


@dataclasses.dataclass(frozen=True)
class Predictor:
  """Trained runs as a function of features.

  Attributes:
    recipe: what they were trained with.
    runs: their names.
    batch_size: of every call; less is filled up.
    step: number of a run, inputs and lengths of a batch, to probabilities of
      its utterances, or contours in the units of their targets.
  """

  recipe: Recipe
  runs: tuple[str, ...]
  batch_size: int
  step: Callable[
    [int, Inputs, Lengths], Float[np.ndarray, "batch *frames classes"]
  ]

  def scores(
    self, examples: Sequence[Features]
  ) -> Float[np.ndarray, "runs examples *frames classes"]:
    """Predicts in batches of one size.

    Args:
      examples: the features of each utterance or window.

    Returns:
      Probabilities of every run, or contours, of which those of short
      examples are valid up to `contour_frames`.
    """
    found = []
    for first in range(0, len(examples), self.batch_size):
      some = examples[first : first + self.batch_size]
      inputs, lengths = pack(self.recipe, some, self.batch_size)
      found.append(
        [self.step(n, inputs, lengths) for n in range(len(self.runs))]
      )
    joined = np.concatenate(found, axis=1)
    return np.asarray(joined, np.float32)[:, : len(examples)]


def pack(
  recipe: Recipe, examples: Sequence[Features], size: int
) -> tuple[Inputs, Lengths]:
  """Pads features to the shapes that training had.

  Args:
    recipe: the shapes.
    examples: at most `size`, with their recordings' moments.
    size: of the batch; what lacks has length 0.

  Returns:
    Inputs `[size, time, dim]`, or `[size, dim]` for functionals, and lengths;
    of what is standardised by recording also mean and deviation `[size, 2]`.
  """
  inputs, lengths = {}, {}
  for name in map(moments_of, recipe.by_recording):
    inputs[name] = np.tile(np.float32([0.0, 1.0]), (size, 1))
    for row, example in enumerate(examples):
      inputs[name][row] = example[name]
  for name, spec in recipe.inputs.items():
    stored = recipe.plans[name]["stored"]
    sequence = spec["frame_rate"] is not None
    shape = (stored, spec["dim"]) if sequence else (spec["dim"],)
    # What is standardised already is no longer of 16 bits.
    dtype = "float32" if name in recipe.by_speaker else spec["dtype"]
    inputs[name] = np.zeros((size, *shape), dtype)
    lengths[name] = np.zeros(size, np.int32)
    for row, example in enumerate(examples):
      values = example[name][:stored] if sequence else example[name]
      kept = len(values) if sequence else 1
      lengths[name][row] = kept
      if sequence:
        inputs[name][row, :kept] = values
      else:
        inputs[name][row] = values
  return inputs, lengths


def contour_frames(recipe: Recipe, example: Features) -> int:
  """Frames of a contour that an example is long enough for."""
  name = next(iter(recipe.inputs))
  return min(len(example[name]), recipe.plans[name]["stored"])


def add_moments(
  recipe: Recipe, examples: Sequence[Features], starts: Sequence[float]
) -> list[Features]:
  """Adds what the recipe standardises by recording, as training does.

  Args:
    recipe: which inputs.
    examples: of the windows of one recording, in order.
    starts: of the windows, in seconds.

  Returns:
    Features with mean and deviation of all values of the recording beside them.
  """
  changed = [dict(example) for example in examples]
  for name in recipe.by_recording:
    rate = recipe.inputs[name]["frame_rate"]
    values = [
      (round(s * rate), e[name]) for s, e in zip(starts, examples, strict=True)
    ]
    whole = window_moments(values)
    for example in changed:
      example[moments_of(name)] = whole
  return changed


def standardize_speaker(
  recipe: Recipe, examples: Sequence[Features], left_out: Sequence[str] = ()
) -> list[Features]:
  """Standardises what the recipe standardises by speaker.

  Args:
    recipe: which inputs, and the bound of their values.
    examples: all that there is of one speaker.
    left_out: why there are not more.

  Returns:
    Features whose inputs have mean 0 and deviation 1 over the examples;
    constant ones are 0.

  Raises:
    UserError: too few examples.
  """
  if len(examples) < LEAST_OF_SPEAKER:
    raise UserError(
      f"{recipe.system} standardises features by their speaker's mean and "
      f"deviation: {len(examples)} readable recordings are too few, give at "
      f"least {LEAST_OF_SPEAKER} of one speaker."
      + "".join(f" Unreadable: {reason}" for reason in left_out)
    )
  changed = [dict(example) for example in examples]
  for name in recipe.by_speaker:
    rows = [np.atleast_2d(as_float(example[name])) for example in examples]
    mean, deviation = moments(np.concatenate(rows))
    bound = recipe.plans[name]["clip"] or math.inf
    for example in changed:
      values = (as_float(example[name]) - mean) / deviation
      example[name] = np.clip(values, -bound, bound).astype(np.float32)
  return changed


def make_recipe(config, dataset) -> Recipe:
  """Gathers what the shards and the config tell.

  Args:
    config: the whole config.
    dataset: its utterances, open.

  Returns:
    The recipe.
  """
  metadata, table = dataset.shards.metadata, dataset.shards.table
  plans = dataset.examples.plans
  inputs = {
    name: {"dtype": "float32", **metadata["inputs"][name]} for name in plans
  }
  return Recipe(
    system="-".join(part for part in (config.system, config.variant) if part),
    corpus=config.data.corpus,
    classes=tuple(dataset.classes),
    features=config.data.features,
    made=json.loads(json.dumps(metadata["recipe"])),
    inputs=inputs,
    plans={name: dataclasses.asdict(plan) for name, plan in plans.items()},
    pad_to=metadata["pad_to"],
    longest=_longest(dataset, inputs),
    genders=dict(
      zip(table.speakers.tolist(), table.genders.tolist(), strict=True)
    ),
    folds=dataset.protocol.chosen,
    speakers=dataset.count_speakers(config),
    contour_rate=dataset.contours and dataset.contours.rate,
  )


def samples_in(seconds: float, rate: int) -> int:
  """Whole samples, the last one begun.

  Durations are quotients of whole samples: what is off is rounding.
  """
  return math.ceil(round(seconds * rate, 3))


def _longest(dataset, inputs: dict[str, dict]) -> float:
  """Seconds of the longest utterance in use, or of the longest contour.

  Inputs that are cut short of that are cut in predictions, too, beside
  functionals of the whole. Contours cannot be: they have a value for every
  frame heard.
  """
  if dataset.contours is None:
    return float(dataset.shards.table.duration[dataset.examples.keep].max())
  plans = dataset.examples.plans
  return min(p.stored / inputs[name]["frame_rate"] for name, p in plans.items())


def to_json(recipe: Recipe) -> str:
  """A recipe as text."""
  return json.dumps(dataclasses.asdict(recipe))


def from_json(text: str) -> Recipe:
  """A recipe from its text."""
  fields = json.loads(text)
  lists = {"classes", "folds"}
  return Recipe(**{k: tuple(v) if k in lists else v for k, v in fields.items()})


def save(workdir: pathlib.Path, config, dataset, statistics: dict) -> None:
  """Writes the recipe and the statistics of every fold into a workdir.

  Args:
    workdir: of the experiment.
    config: the whole config.
    dataset: its utterances, open.
    statistics: `Statistics` by fold name.
  """
  arrays = {"recipe": np.array(to_json(make_recipe(config, dataset)))}
  for fold, found in statistics.items():
    arrays[f"{fold}/speaker_class"] = found.speaker_class
    for kind in ("median", "mean", "deviation"):
      for name, values in getattr(found, kind).items():
        arrays[f"{fold}/{kind}/{name}"] = values
  atomic.write_arrays(workdir / FILE, arrays)


def load(workdir: pathlib.Path) -> tuple[Recipe, FoldArrays]:
  """Reads what `save` wrote.

  Args:
    workdir: of the experiment.

  Returns:
    The recipe, and each fold's arrays by `KIND/INPUT` or `speaker_class`.

  Raises:
    UserError: the file is damaged.
  """
  path = workdir / FILE
  try:
    with np.load(path) as stored:
      arrays = dict(stored)
    recipe = from_json(str(arrays.pop("recipe")))
  except (OSError, ValueError, KeyError, TypeError, EOFError,
          zipfile.BadZipFile) as error:  # fmt: skip
    raise UserError(
      f"{path} is damaged ({error}): delete it and repeat the training command "
      "with --mode=evaluate, which writes it again."
    ) from error
  folds: FoldArrays = {fold: {} for fold in recipe.folds}
  for name, values in arrays.items():
    fold, kind = name.split("/", 1)
    folds[fold][kind] = values
  return recipe, folds
