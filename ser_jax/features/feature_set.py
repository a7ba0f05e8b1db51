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
    compute: mono samples at `rate` to arrays; where there is context, also of
      how many of the samples that is, before the excerpt and after it.
    prepare: mono samples at `rate` to those that are padded and computed from.
    context: seconds on either side of an excerpt that its features hear, as
      far as its recording has them; not of sets that prepare or pad.
  """

  name: str
  rate: int
  least: int
  inputs: Mapping[str, InputSpec]
  recipe: Mapping[str, object]
  compute: Callable[..., Features]
  prepare: Callable[[Samples], Samples] | None = None
  context: float = 0.0

  @property
  def computed(self) -> dict[str, InputSpec]:
    """The inputs that are made of audio."""
    return {n: spec for n, spec in self.inputs.items() if not spec.annotated}

  def extract(
    self,
    samples: Samples,
    rate: int,
    *,
    around: tuple[int, int] = (0, 0),
    pad_to: int | None = None,
  ) -> Features:
    """Computes every input of the set that audio alone determines.

    Args:
      samples: mono, in [-1, 1]; of an excerpt and its context.
      rate: of the samples, in Hz.
      around: samples that are context, before the excerpt and after it; at
        most those of `context`.
      pad_to: samples, at the recipe's rate, to pad with zeros to once the
        audio is prepared.

    Returns:
      Input name to `[time, dim]`, or `[dim]` for functionals.

    Raises:
      UserError: audio that is empty, silent, not finite or too short.
    """
    audio.check(samples, source="the audio")
    # Silent where its context is not, an excerpt has no features either.
    audio.check(_inside(samples, *around), source="the audio")
    samples = audio.resample(samples, rate, self.rate)
    before, after = (round(count * self.rate / rate) for count in around)
    if self.prepare is not None:
      samples = self.prepare(samples)
    excerpt = _inside(samples, before, after)
    audio.require_samples(excerpt, self.least, self.name)
    if pad_to is not None and pad_to > len(samples):
      samples = np.pad(samples, (0, pad_to - len(samples)))
    return self.compute_inside(samples, before, after)

  def compute_inside(
    self, samples: Samples, before: int, after: int
  ) -> Features:
    """Computes the features of an excerpt, with context if they have any.

    Args:
      samples: of the excerpt and its context, at `rate`.
      before: samples that are context before the excerpt.
      after: samples that are context after it.

    Returns:
      See `extract`.
    """
    if self.context:
      return self.compute(samples, before, after)
    return self.compute(_inside(samples, before, after))


def _inside(
  samples: Samples, before: int, after: int
) -> Float[np.ndarray, "inside"]:
  return samples[before : len(samples) - after]
