"""Attention over the valid steps of each utterance."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ser_jax.batch import valid_frames


def masked_softmax(
  scores: Float[Array, "batch time"], lengths: Int[Array, "batch"]
) -> Float[Array, "batch time"]:
  """Softmax over valid steps; 0 past them, and all 0 where there are none."""
  valid = valid_frames(lengths, scores.shape[1])
  scores = jnp.where(valid, scores.astype(jnp.float32), -jnp.inf)
  highest = jnp.max(scores, axis=1, keepdims=True)
  highest = jnp.where(jnp.isfinite(highest), highest, 0.0)
  powers = jnp.exp(scores - highest)
  total = jnp.sum(powers, axis=1, keepdims=True)
  return powers / jnp.where(total > 0, total, 1.0)


class Attention(nn.Module):
  """Weights of steps by their product with one learned vector.

  Mirsamadi et al. 2017, equation 8. The vector starts at 0: equal weights.
  """

  @nn.compact
  def __call__(
    self, x: Float[Array, "batch time dim"], lengths: Int[Array, "batch"]
  ) -> Float[Array, "batch time"]:
    """Weighs the steps of each utterance; the weights add up to 1."""
    vector = self.param("vector", nn.initializers.zeros, (x.shape[-1],))
    return masked_softmax(x @ vector, lengths)
