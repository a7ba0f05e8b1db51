"""Utterances that are part of a file, and labels in time for their frames."""

import hashlib

import numpy as np
from jaxtyping import Float, Shaped

from data_prep.utterance import Utterance
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
  if utterance.origin:
    found["speed"] = utterance.speed
  if annotated(feature_set) and utterance.contour is not None:
    contour = np.ascontiguousarray(utterance.contour, np.float32)
    found["contour"] = hashlib.sha256(contour.tobytes()).hexdigest()
  return found


def load(
  utterance: Utterance, context: float
) -> tuple[Samples, int, tuple[int, int]]:
  """Reads a file, or the part of one that an utterance is.

  Args:
    utterance: whose audio is wanted.
    context: seconds to read on either side of a part, where the file has them.

  Returns:
    Samples in [-1, 1], the rate in Hz at which they are played, and how many
    of the samples are context, before the part and after it.

  Raises:
    UserError: see `audio.load`; or the file ends before the utterance does.
  """
  if utterance.seconds is None:
    samples, rate = audio.load(utterance.path)
    return samples, played(rate, utterance), (0, 0)
  start = max(0.0, utterance.start - context)
  samples, rate = audio.load(
    utterance.path,
    start=start,
    seconds=utterance.start - start + utterance.seconds + context,
  )
  before = round(utterance.start * rate) - round(start * rate)
  after = len(samples) - before - round(utterance.seconds * rate)
  if after < 0:
    raise UserError(
      f"{utterance.path} ends before {utterance.start + utterance.seconds:g} "
      f"s, up to which {utterance.id} is labelled: copy the file again from "
      "the corpus."
    )
  return samples, rate, (before, after)


def played(rate: int, utterance: Utterance) -> int:
  """The rate in Hz at which a file's samples are taken to be.

  At a speed of 1.05 a file of 16 kHz is one of 16.8.
  """
  return round(rate * utterance.speed)


def annotate(
  features: Features, feature_set: FeatureSet, utterance: Utterance
) -> Features:
  """Joins the labels in time that a set wants.

  Args:
    features: of an utterance.
    feature_set: theirs.
    utterance: whose they are.

  Returns:
    The features, and the labels; all that have their rate have as many frames.

  Raises:
    UserError: no labels, or fewer than the audio has frames.
  """
  if not annotated(feature_set):
    return features
  ((name, spec),) = (
    (n, s) for n, s in feature_set.inputs.items() if s.annotated
  )
  contour = _contour(utterance, feature_set)
  beside = {
    other: values
    for other, values in features.items()
    if feature_set.inputs[other].frame_rate == spec.frame_rate
  }
  longest = max(map(len, beside.values()))
  # A last frame that is not whole may have no label.
  if longest > len(contour) + 1:
    raise UserError(
      f"{utterance.id} is labelled for {len(contour)} frames of 40 ms, its "
      f"audio has {longest}: the labels belong to another recording, or are "
      "cut."
    )
  frames = min(len(contour), longest)
  cut = {other: values[:frames] for other, values in beside.items()}
  return features | cut | {name: contour[:frames]}


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
