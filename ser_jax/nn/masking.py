"""Valid frames: masks, and zeros past each utterance."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


def valid_frames(
  lengths: Int[Array, "batch"], time: int
) -> Bool[Array, "batch time"]:
  """True where a frame lies within its utterance."""
  return jnp.arange(time)[None, :] < lengths[:, None]


def zero_padding(
  x: Float[Array, "batch time *rest"], lengths: Int[Array, "batch"]
) -> Float[Array, "batch time *rest"]:
  """Sets every frame past its utterance to zero."""
  mask = valid_frames(lengths, x.shape[1])
  return jnp.where(mask.reshape(mask.shape + (1,) * (x.ndim - 2)), x, 0.0)
