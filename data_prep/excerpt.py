"""Utterances that are part of a file, and labels in time for their frames."""

import hashlib
import math

import numpy as np
from jaxtyping import Float, Shaped

from data_prep.utterance import CONTOUR_SECONDS, Utterance
from ser_jax.errors import UserError
from ser_jax.features import audio
from ser_jax.features.sets import FeatureSet

Samples = Float[np.ndarray, "samples"]
Features = dict[str, Shaped[np.ndarray, "..."]]


def annotated(feature_set: FeatureSet) -> bool:
  """Whether a set wants labels in time of the corpus."""
  return any(spec.annotated for spec in feature_set.inputs.values())


def key(utterance: Utterance, feature_set: FeatureSet) -> dict:
  """What the features depend on beside the file and the recipe."""
  found = {}
  if utterance.seconds is not None:
    found |= {"start": utterance.start, "seconds": utterance.seconds}
  if annotated(feature_set) and utterance.contour is not None:
    contour = np.ascontiguousarray(utterance.contour, np.float32)
    found["contour"] = hashlib.sha256(contour.tobytes()).hexdigest()
  return found


def load(utterance: Utterance, context: float) -> tuple[Samples, int, float]:
  """Reads an utterance, and what lies around it.

  Args:
    utterance: a file or part of one.
    context: seconds to read on either side, as far as the file has them.

  Returns:
    Samples in [-1, 1], the rate in Hz, and the seconds read before the
    utterance.

  Raises:
    UserError: see `audio.load`; or the file ends before the utterance does.
  """
  if utterance.seconds is None:
    return *audio.load(utterance.path), 0.0
  before = min(context, utterance.start)
  samples, rate = audio.load(
    utterance.path,
    start=utterance.start - before,
    seconds=before + utterance.seconds + context,
  )
  if len(samples) < round((before + utterance.seconds) * rate):
    raise UserError(
      f"{utterance.path} ends before {utterance.start + utterance.seconds:g} "
      f"s, up to which {utterance.id} is labelled: copy the file again from "
      "the corpus."
    )
  return samples, rate, before


def align(
  features: Features,
  feature_set: FeatureSet,
  utterance: Utterance,
  before: float,
) -> Features:
  """Cuts what lies around the utterance off, and joins its labels in time.

  Args:
    features: of what `load` read.
    feature_set: theirs.
    utterance: whose they are.
    before: seconds of `features` before the utterance.

  Returns:
    Features of the utterance; with labels, all inputs at their rate have as
    many frames.

  Raises:
    UserError: no labels, or of another duration than the audio.
  """
  features = {
    name: _cut(values, feature_set.inputs[name].frame_rate, utterance, before)
    for name, values in features.items()
  }
  labels = [n for n, spec in feature_set.inputs.items() if spec.annotated]
  if not labels:
    return features
  (name,) = labels
  contour = _contour(utterance, feature_set)
  beside = [
    other
    for other in features
    if feature_set.inputs[other].frame_rate == 1 / CONTOUR_SECONDS
  ]
  # A last frame that is not whole may have no label.
  frames = min(len(contour), *(len(features[other]) for other in beside))
  if any(len(features[other]) > frames + 1 for other in beside):
    raise UserError(
      f"{utterance.id} is labelled for {len(contour)} frames of 40 ms, its "
      f"audio has {max(len(features[n]) for n in beside)}: the labels belong "
      "to another recording, or are cut."
    )
  cut = {other: features[other][:frames] for other in beside}
  return features | cut | {name: contour[:frames]}


def _cut(values, rate: float | None, utterance: Utterance, before: float):
  """The frames of the utterance among those of what was read around it."""
  if utterance.seconds is None or rate is None:
    return values
  first = round(before * rate)
  return values[first : first + math.ceil(utterance.seconds * rate - 1e-6)]


def _contour(
  utterance: Utterance, feature_set: FeatureSet
) -> Float[np.ndarray, "frames 2"]:
  if utterance.contour is None:
    raise UserError(
      f"{utterance.id} has no arousal and valence in time, which "
      f"{feature_set.name} is made of: choose a corpus that has (recola, "
      "synthetic), or the same set with _prosody, whose targets are computed "
      "from the audio."
    )
  return np.ascontiguousarray(utterance.contour, np.float32)
