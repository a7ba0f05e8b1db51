"""Raw padded batch -> model-ready batch, inside the compiled step.

The same code runs for every data source, on the device, with the statistics
of one fold as traced values: folds share one executable.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ser_jax.batch import Batch
from ser_jax.data.statistics import InputPlan, Statistics


def resample_nearest(
  x: Float[Array, "batch stored dim"],
  lengths: Int[Array, "batch"],
  target: Int[Array, ""],
  frames: int,
) -> Float[Array, "batch frames dim"]:
  """Interpolates each utterance in time, frame i taken from floor(i T / N).

  Args:
    x: frames, valid up to `lengths`.
    lengths: valid frames T of each utterance.
    target: frames N to interpolate to, at most `frames`.
    frames: the static length of the result; frames from N on are undefined.

  Returns:
    The interpolated frames (DS-LSTM, section 2.2).
  """
  position = jnp.arange(frames, dtype=jnp.int32)
  source = position[None, :] * lengths[:, None] // target
  source = jnp.clip(source, 0, x.shape[1] - 1)
  return jnp.take_along_axis(x, source[:, :, None], axis=1)


def prepare(
  batch: Batch, statistics: Statistics, plans: dict[str, InputPlan]
) -> Batch:
  """Resamples, standardises, bounds and masks every input.

  Args:
    batch: as read, padded.
    statistics: of the fold's training part.
    plans: what to do with each input.

  Returns:
    The batch that models see: zero beyond each length, lengths 0 for filler.
    Its target `speaker` numbers the training speakers, -1 for others.
  """
  inputs, lengths = {}, {}
  for name, plan in plans.items():
    x, length = batch.inputs[name], batch.lengths[name]
    if plan.resample:
      target = statistics.median[name]
      x = resample_nearest(x, length, target, plan.frames)
      length = jnp.where(length > 0, target, 0)
    if plan.standardize:
      mean, deviation = statistics.mean[name], statistics.deviation[name]
      shape = (1,) * (x.ndim - 1) + mean.shape
      x = (x - mean.reshape(shape)) / deviation.reshape(shape)
      if plan.clip:
        x = jnp.clip(x, -plan.clip, plan.clip)
    if x.ndim == 3:
      valid = jnp.arange(x.shape[1])[None, :] < length[:, None]
      x = jnp.where(valid[:, :, None], x, 0.0)
    else:
      x = jnp.where((length > 0)[:, None], x, 0.0)
    inputs[name], lengths[name] = x, length
  speaker = statistics.speaker_class[batch.speaker]
  return batch.replace(
    inputs=inputs,
    lengths=lengths,
    targets={**batch.targets, "speaker": speaker},
  )
