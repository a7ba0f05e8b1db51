"""Valid frames: masks, and time reversal within each utterance."""

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


def reverse(
  x: Float[Array, "batch time dim"], lengths: Int[Array, "batch"]
) -> Float[Array, "batch time dim"]:
  """Reverses each utterance in time; frames past it stay where they are."""
  time = jnp.arange(x.shape[1])[None, :]
  source = jnp.where(time < lengths[:, None], lengths[:, None] - 1 - time, time)
  return jnp.take_along_axis(x, source[:, :, None], axis=1)
