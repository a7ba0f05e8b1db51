"""Batch normalisation with running statistics of its own for every time step.

The statistics live outside the recurrence, as arrays with a slot for each step
of the longest batch seen at initialisation. Past the longest step that training
has moved, evaluation uses that step's slot. A scan takes the slots as inputs
and returns the new ones as outputs.
"""

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ser_jax.nn.normalization import EPSILON, masked_moments, running_update


class StepStatistics(NamedTuple):
  """Running mean and variance, `[time, dim]` or `[dim]` within a step."""

  mean: Float[Array, "*time dim"]
  variance: Float[Array, "*time dim"]


Store = Callable[[StepStatistics], None]


def normalize_step(
  x: Float[Array, "batch dim"],
  valid: Bool[Array, "batch"],
  running: StepStatistics,
  *,
  scale: Float[Array, "dim"],
  bias: Float[Array, "dim"],
  train: bool,
  axis_name: str | None,
) -> tuple[Float[Array, "batch dim"], StepStatistics]:
  """Normalises one time step over the batch.

  Args:
    x: values of the step.
    valid: utterances that reach this step.
    running: the step's slot.
    scale: shared by all steps.
    bias: shared by all steps.
    train: batch statistics if true, else the running ones.
    axis_name: a mapped axis that the batch is split over, if any.

  Returns:
    The normalised values and the slot's next content.
  """
  mean, variance = running.mean, running.variance
  if train:
    mean, variance, count = masked_moments(x, valid, axis_name)
    running = StepStatistics(
      *running_update((running.mean, running.variance), mean, variance, count)
    )
  factor = jax.lax.rsqrt(variance + EPSILON) * scale
  y = x * factor[None] + (bias - mean * factor)[None]
  return y.astype(x.dtype), running


class RecurrentBatchNorm(nn.Module):
  """Slots, scale and shift of a recurrent batch normalisation.

  Cooijmans et al. 2016, section 3, with one mean and variance for each time
  step and one scale and shift for all.

  Attributes:
    dim: features.
    scale_init: start of the scale (.1 there and in DS-LSTM).
  """

  dim: int
  scale_init: float = 0.1

  @nn.compact
  def __call__(
    self, time: int, *, train: bool
  ) -> tuple[Array, Array, StepStatistics, Store]:
    """Gives what a scan over `time` steps needs.

    Args:
      time: steps of the batch.
      train: each step's own slot if true, else none that training never moved.

    Returns:
      Scale, shift, the slot of every step, and a function that takes the
      slots back when the scan is done.
    """
    scale = self.param(
      "scale", nn.initializers.constant(self.scale_init), (self.dim,)
    )
    bias = self.param("bias", nn.initializers.zeros, (self.dim,))
    shape = (time, self.dim)
    mean = self.variable("batch_stats", "mean", jnp.zeros, shape)
    variance = self.variable("batch_stats", "variance", jnp.ones, shape)
    last = len(mean.value) - 1
    if not train:
      moved = jnp.any(variance.value != 1.0, axis=-1)
      last = jnp.max(jnp.where(moved, jnp.arange(len(moved)), 0))
    slot = jnp.minimum(jnp.arange(time), last)

    def store(slots: StepStatistics) -> None:
      steps = min(time, len(mean.value))
      mean.value = mean.value.at[:steps].set(slots.mean[:steps])
      variance.value = variance.value.at[:steps].set(slots.variance[:steps])

    running = StepStatistics(mean.value[slot], variance.value[slot])
    return scale, bias, running, store
