"""Raw padded batch -> model-ready batch, inside the compiled step.

The same code runs for every data source, on the device, with the statistics
of one fold as traced values: folds share one executable.
"""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ser_jax.batch import Batch, valid_frames
from ser_jax.data.contours import CONTOURS
from ser_jax.data.recordings import as_float, moments_of
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


def _utterance_moments(
  x: Float[Array, "batch *time dim"], valid: Bool[Array, "batch *time"]
) -> tuple[Array, Array]:
  """Mean and deviation of all valid values of each utterance."""
  axes = tuple(range(1, x.ndim))
  weight = valid[..., None].astype(x.dtype)
  count = jnp.sum(weight, axis=axes, keepdims=True) * x.shape[-1]
  count = jnp.maximum(count, 1.0)
  mean = jnp.sum(x * weight, axis=axes, keepdims=True) / count
  centred = (x - mean) * weight
  scatter = jnp.sum(jnp.square(centred), axis=axes, keepdims=True)
  deviation = jnp.sqrt(scatter / count)
  return mean, jnp.where(deviation > 1e-8, deviation, 1.0)


def _moments(
  name: str, plan: InputPlan, statistics: Statistics, batch: Batch
) -> tuple[Array, Array]:
  """Mean and deviation by which an input is standardised, to broadcast."""
  mean, deviation = statistics.mean[name], statistics.deviation[name]
  leading = (1,)
  if plan.normalize == "speaker":
    mean, deviation = mean[batch.speaker], deviation[batch.speaker]
    leading = (len(batch.speaker),)
  between = (1,) * (batch.inputs[name].ndim - 2)
  shape = (*leading, *between, mean.shape[-1])
  return mean.reshape(shape), deviation.reshape(shape)


def prepare(
  batch: Batch, statistics: Statistics, plans: dict[str, InputPlan]
) -> Batch:
  """Resamples, standardises, bounds and masks every input.

  Args:
    batch: as read, padded.
    statistics: of the fold.
    plans: what to do with each input.

  Returns:
    The batch that models see: zero beyond each length, lengths 0 for filler.
    Its target `speaker` numbers the training speakers, -1 for others; contours
    are standardised.
  """
  inputs, lengths = {}, {}
  for name, plan in plans.items():
    x, length = as_float(batch.inputs[name]), batch.lengths[name]
    if plan.resample:
      target = statistics.median[name]
      x = resample_nearest(x, length, target, plan.frames)
      length = jnp.where(length > 0, target, 0)
    valid = length > 0
    if x.ndim == 3:
      valid = valid_frames(length, x.shape[1])
    if plan.standardize:
      whole = batch.targets.get(moments_of(name))
      if whole is not None:  # of a recording that was cut into windows
        shape = (len(x), *(1,) * (x.ndim - 1))
        mean, deviation = (column.reshape(shape) for column in whole.T)
      elif plan.normalize in ("recording", "utterance"):
        mean, deviation = _utterance_moments(x, valid)
      else:
        mean, deviation = _moments(name, plan, statistics, batch)
      x = (x - mean) / deviation
      if plan.clip:
        x = jnp.clip(x, -plan.clip, plan.clip)
    inputs[name], lengths[name] = jnp.where(valid[..., None], x, 0.0), length
  targets = {
    **batch.targets,
    "speaker": statistics.speaker_class[batch.speaker],
  }
  if CONTOURS in targets:
    mean, deviation = (
      x[CONTOURS][None, None] for x in (statistics.mean, statistics.deviation)
    )
    targets[CONTOURS] = (targets[CONTOURS] - mean) / deviation
  return batch.replace(
    inputs=inputs,
    lengths=lengths,
    targets=targets,
  )
