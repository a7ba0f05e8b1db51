"""Pooling over the valid frames of each utterance."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ser_jax.nn.masking import zero_padding


def masked_mean(
  x: Float[Array, "batch time dim"], lengths: Int[Array, "batch"]
) -> Float[Array, "batch dim"]:
  """The mean over valid frames; 0 for an utterance without any."""
  total = jnp.sum(zero_padding(x, lengths), axis=1)
  return total / jnp.maximum(lengths, 1)[:, None].astype(x.dtype)


def statistics_pooling(
  x: Float[Array, "batch time dim"],
  lengths: Int[Array, "batch"],
  *,
  ddof: int = 1,
) -> Float[Array, "batch two_dim"]:
  """Mean and standard deviation over valid frames, concatenated.

  Args:
    x: frames.
    lengths: valid frames.
    ddof: what the divisor of the variance lacks of the length.

  Returns:
    Means, then deviations; the gradient of a zero deviation is zero.
  """
  mean = masked_mean(x, lengths)
  centred = zero_padding(x - mean[:, None], lengths)
  divisor = jnp.maximum(lengths - ddof, 1)[:, None].astype(x.dtype)
  variance = jnp.sum(jnp.square(centred), axis=1) / divisor
  positive = variance > 0
  deviation = jnp.where(
    positive, jnp.sqrt(jnp.where(positive, variance, 1.0)), 0.0
  )
  return jnp.concatenate([mean, deviation], axis=-1)
