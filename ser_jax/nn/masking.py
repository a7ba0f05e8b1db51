"""Zeros past each utterance."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ser_jax.batch import valid_frames


def zero_padding(
  x: Float[Array, "batch time *rest"], lengths: Int[Array, "batch"]
) -> Float[Array, "batch time *rest"]:
  """Sets every frame past its utterance to zero."""
  mask = valid_frames(lengths, x.shape[1])
  return jnp.where(mask.reshape(mask.shape + (1,) * (x.ndim - 2)), x, 0.0)
