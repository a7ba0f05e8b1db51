"""What a feature set is: a recipe, and what its shards hold."""

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np
from jaxtyping import Float, Shaped

from ser_jax.features import audio

Samples = Float[np.ndarray, "samples"]
Features = dict[str, Shaped[np.ndarray, "..."]]


@dataclasses.dataclass(frozen=True)
class InputSpec:
  """One array that a set makes.

  Attributes:
    dim: features a frame, or in all.
    frame_rate: frames a second; None for functionals, one vector an utterance.
    dtype: as kept in shards; 16-bit samples are float32 in [-1, 1) to models.
    names: of the features, where they are targets.
    annotated: a corpus' labels in time, not computed from audio.
  """

  dim: int
  frame_rate: float | None
  dtype: str = "float32"
  names: tuple[str, ...] = ()
  annotated: bool = False


@dataclasses.dataclass(frozen=True)
class FeatureSet:
  """A named recipe.

  Attributes:
    name: as in `config.data.features`.
    rate: the rate in Hz that the recipe works at.
    least: samples at that rate that one frame needs.
    inputs: what its shards hold.
    recipe: all that determines the result, as plain data; `pad_to` may be
      "longest_raw": of a corpus' recordings, in samples at `rate`.
    compute: mono samples at `rate` to arrays.
    prepare: mono samples at `rate` to those that are padded and computed from.
  """

  name: str
  rate: int
  least: int
  inputs: Mapping[str, InputSpec]
  recipe: Mapping[str, object]
  compute: Callable[[Samples], Features]
  prepare: Callable[[Samples], Samples] | None = None

  @property
  def computed(self) -> dict[str, InputSpec]:
    """The inputs that are made of audio."""
    return {n: spec for n, spec in self.inputs.items() if not spec.annotated}

  def extract(
    self, samples: Samples, rate: int, *, pad_to: int | None = None
  ) -> Features:
    """Computes every input of the set that audio alone determines.

    Args:
      samples: mono, in [-1, 1].
      rate: of the samples, in Hz.
      pad_to: samples, at the recipe's rate, to pad with zeros to once the
        audio is prepared.

    Returns:
      Input name to `[time, dim]`, or `[dim]` for functionals.

    Raises:
      UserError: audio that is empty, silent, not finite or too short.
    """
    samples = audio.check(samples, source="the audio")
    samples = audio.resample(samples, rate, self.rate)
    if self.prepare is not None:
      samples = self.prepare(samples)
    audio.require_samples(samples, self.least, self.name)
    if pad_to is not None and pad_to > len(samples):
      samples = np.pad(samples, (0, pad_to - len(samples)))
    return self.compute(samples)
