"""Augmentation of training batches, inside the compiled step.

Every example is drawn for by itself, by its place in the whole batch, and
whatever that is padded to: one device and many augment the same, and a resumed
run draws what it would have.
"""

import dataclasses
from collections.abc import Collection

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from ser_jax.batch import Batch
from ser_jax.data.contours import CONTOURS
from ser_jax.errors import UserError

# The input whose rows are stretches of samples, not features of a frame.
SAMPLES = "waveform"


@dataclasses.dataclass(frozen=True)
class Augmentation:
  """What is done to inputs with a time axis; zeros do nothing.

  Attributes:
    time_masks: stretches of frames set to zero, the mean of standardised
      features (SpecAugment, Park et al. 2019).
    time_width: the longest of them, as a share of the utterance.
    frequency_masks: bands of features set to zero.
    frequency_width: the widest of them, as a share of the features.
    speed: the largest change of speed, as a share: 0.1 plays between 0.9 and
      1.1 times as fast, by linear interpolation between frames. What is slower
      keeps its length and loses its end.
    noise: the deviation of Gaussian noise.
    gain: the deviation of a constant added to all values of an utterance: the
      loudness, for logarithmic spectra.
  """

  time_masks: int = 0
  time_width: float = 0.0
  frequency_masks: int = 0
  frequency_width: float = 0.0
  speed: float = 0.0
  noise: float = 0.0
  gain: float = 0.0

  def __post_init__(self):
    """Checks the numbers.

    Raises:
      UserError: one is out of range, or does nothing without another.
    """
    for name, value in dataclasses.asdict(self).items():
      most = {"time_width": 1.0, "frequency_width": 1.0, "speed": 0.5}.get(name)
      if value < 0 or (most is not None and value > most):
        raise UserError(
          f"config.augment.{name}={value} is out of range: it must be at least "
          f"0{'' if most is None else f' and at most {most}'}."
        )
    for masks, width in (
      ("time_masks", "time_width"),
      ("frequency_masks", "frequency_width"),
    ):
      count, share = getattr(self, masks), getattr(self, width)
      if bool(count) != bool(share):
        raise UserError(
          f"config.augment.{masks}={count} with {width}={share} does nothing: "
          "set both, or neither."
        )

  @property
  def active(self) -> bool:
    """Whether anything is done at all."""
    return any(dataclasses.astuple(self))


def check(config, in_time: Collection[str]) -> None:
  """Refuses what would part inputs from targets, or mean nothing.

  Args:
    config: the whole config.
    in_time: names of inputs that have frames.

  Raises:
    UserError: a speed that contours would not follow; what is of features
      over time (a speed, bands, the loudness of logarithmic spectra) asked of
      rows of samples; or anything where no input has frames.
  """
  how = Augmentation(**config.augment)
  if how.active and not set(in_time) & set(config.data.inputs):
    raise UserError(
      "config.augment is for inputs over time, which none of config.data."
      f"inputs ({', '.join(config.data.inputs)}) is: set its fields to 0."
    )
  if how.speed and config.data.target == CONTOURS:
    raise UserError(
      f"config.augment.speed={how.speed} does not go with config.data.target="
      f"{CONTOURS!r}: inputs would be played faster or slower than their "
      "targets. Set it to 0."
    )
  for field in ("speed", "frequency_masks", "gain"):
    value = getattr(how, field)
    if value and SAMPLES in config.data.inputs:
      raise UserError(
        f"config.augment.{field}={value} is for features of frames: the rows "
        f"of config.data.inputs.{SAMPLES} are samples, which it would distort. "
        "Set it to 0; time_masks and noise go with samples, too."
      )


def augment(
  batch: Batch,
  how: Augmentation,
  key: Key[Array, ""],
  axis_name: str | None = None,
) -> Batch:
  """Augments every input that has a time axis.

  Args:
    batch: ready for a model, or this device's part of it.
    how: what to do.
    key: of the step.
    axis_name: the mapped axis that the batch is split over, if any.

  Returns:
    The batch, zero beyond each (new) length.
  """
  if not how.active:
    return batch
  place = jnp.arange(len(batch.weight))
  if axis_name is not None:
    place += jax.lax.axis_index(axis_name) * len(batch.weight)
  keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, place)
  inputs, lengths = dict(batch.inputs), dict(batch.lengths)
  for number, name in enumerate(sorted(batch.inputs)):
    if (x := batch.inputs[name]).ndim == 3:
      inputs[name], lengths[name] = jax.vmap(
        lambda x, length, key, n=number: _augment_one(x, length, key, how, n)
      )(x, lengths[name], keys)
  return batch.replace(inputs=inputs, lengths=lengths)


def _augment_one(
  x: Float[Array, "time dim"],
  length: Int[Array, ""],
  key: Key[Array, ""],
  how: Augmentation,
  number: int,
) -> tuple[Float[Array, "time dim"], Int[Array, ""]]:
  """One input of an utterance, in the order speed, gain, noise, masks.

  All inputs of an utterance are as fast and as loud, and masked at the same
  places; noise each has its own, by its number.
  """
  pace, gain, noise, time, frequency = jax.random.split(key, 5)
  if how.speed:
    x, length = _change_speed(x, length, pace, how.speed)
  if how.gain:
    x += how.gain * jax.random.normal(gain, (), x.dtype)
  if how.noise:
    noise = jax.random.fold_in(noise, number)
    x += how.noise * jax.random.normal(noise, x.shape, x.dtype)
  valid = jnp.arange(x.shape[0]) < length
  valid &= ~_masks(
    time, x.shape[0], length, how.time_masks, how.time_width * length
  )
  bands = ~_masks(
    frequency,
    x.shape[1],
    x.shape[1],
    how.frequency_masks,
    how.frequency_width * x.shape[1],
  )
  return jnp.where(valid[:, None] & bands[None], x, 0.0), length


def _change_speed(
  x: Float[Array, "time dim"],
  length: Int[Array, ""],
  key: Key[Array, ""],
  most: float,
) -> tuple[Float[Array, "time dim"], Int[Array, ""]]:
  """Interpolates in time; what then exceeds the length is cut.

  Not what exceeds the batch, whose length is that of other utterances.
  """
  factor = jax.random.uniform(key, (), minval=1.0 - most, maxval=1.0 + most)
  position = jnp.arange(x.shape[0]) * factor
  last = jnp.maximum(length - 1, 0)
  below = jnp.clip(jnp.floor(position).astype(jnp.int32), 0, last)
  above = jnp.minimum(below + 1, last)
  share = (position - below)[:, None]
  new = jnp.floor(length / factor).astype(length.dtype)
  new = jnp.clip(new, jnp.minimum(length, 1), length)
  share = jnp.clip(share, 0.0, 1.0).astype(x.dtype)
  return x[below] * (1.0 - share) + x[above] * share, new


def _masks(
  key: Key[Array, ""],
  size: int,
  length: Int[Array, ""] | int,
  count: int,
  widest: Float[Array, ""] | float,
) -> Array:
  """True where one of some stretches lies; widths and starts are uniform."""
  width, start = jax.random.uniform(key, (2, max(count, 1)))
  width = width * widest * (count > 0)
  start = start * jnp.maximum(length - width, 0.0)
  position = jnp.arange(size)[:, None]
  inside = (position >= start[None]) & (position < (start + width)[None])
  return jnp.any(inside, axis=1)
