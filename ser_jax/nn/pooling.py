"""Pooling over valid frames, and maxima along an axis."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float, Int

from ser_jax.nn.masking import zero_padding

WINNERS = "winners"  # the name of what the backward pass of maxima needs


def masked_mean(
  x: Float[Array, "batch time dim"], lengths: Int[Array, "batch"]
) -> Float[Array, "batch dim"]:
  """The mean over valid frames, in float32; 0 for an utterance without any."""
  total = jnp.sum(zero_padding(x, lengths), axis=1, dtype=jnp.float32)
  return (total / jnp.maximum(lengths, 1)[:, None]).astype(x.dtype)


def statistics_pooling(
  x: Float[Array, "batch time dim"],
  lengths: Int[Array, "batch"],
) -> Float[Array, "batch two_dim"]:
  """Mean and standard deviation (ddof 1) over valid frames, concatenated.

  Args:
    x: frames.
    lengths: valid frames.

  Returns:
    Means, then deviations, computed in float32; the gradient of a zero
    deviation is zero.
  """
  dtype, x = x.dtype, x.astype(jnp.float32)
  mean = masked_mean(x, lengths)
  centred = zero_padding(x - mean[:, None], lengths)
  divisor = jnp.maximum(lengths - 1, 1)[:, None]
  variance = jnp.sum(jnp.square(centred), axis=1) / divisor
  positive = variance > 0
  deviation = jnp.where(
    positive, jnp.sqrt(jnp.where(positive, variance, 1.0)), 0.0
  )
  return jnp.concatenate([mean, deviation], axis=-1).astype(dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def axis_max(
  x: Float[Array, "*sizes"], axis: int, rectify: bool
) -> Float[Array, "*pooled"]:
  """Maxima along an axis, of the values and of 0 if they are rectified.

  As pooling by reshaping: JAX' own pooling is differentiated by selecting and
  scattering, twenty times slower on a CPU.

  The backward pass needs one byte a maximum (two of more than 255 values):
  which value won (the first, if several did).
  """
  return _axis_max_forward(x, axis, rectify)[0]


def _axis_max_forward(x, axis: int, rectify: bool):
  size = x.shape[axis]
  best, *others = (
    jax.lax.index_in_dim(x, number, axis, keepdims=False)
    for number in range(size)
  )
  kind = np.min_scalar_type(size)
  winner = jnp.zeros(best.shape, kind)
  for number, value in enumerate(others, start=1):
    winner = jnp.where(value > best, kind.type(number), winner)
    best = jnp.maximum(best, value)
  if rectify:
    winner = jnp.where(best > 0, winner, kind.type(size))
    best = jnp.maximum(best, 0)
  return best, (checkpoint_name(winner, WINNERS), size)


def _axis_max_backward(axis: int, rectify: bool, saved, gradient):
  winner, size = saved
  shape = (*winner.shape[:axis], size, *winner.shape[axis:])
  number = jax.lax.broadcasted_iota(winner.dtype, shape, axis)
  won = jnp.expand_dims(winner, axis) == number
  return (jnp.where(won, jnp.expand_dims(gradient, axis), 0),)


axis_max.defvjp(_axis_max_forward, _axis_max_backward)
