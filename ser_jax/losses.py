"""Masked losses: arrays and weights in, (sum, count) out.

A loss is a sum and a count, never a mean, so that filler examples drop out and
so that devices can add both before dividing. `mean` is the one place that
divides.
"""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int


def cross_entropy(
  logits: Float[Array, "batch classes"],
  labels: Int[Array, "batch"],
  weight: Float[Array, "batch"],
  *,
  label_smoothing: float = 0.0,
) -> tuple[Float[Array, ""], Float[Array, ""]]:
  """Sums the weighted cross-entropy of a batch.

  Args:
    logits: unnormalised log-probabilities.
    labels: class indices.
    weight: 1 for an example, 0 for filler.
    label_smoothing: the share of probability spread evenly over the classes.

  Returns:
    The sum over the batch in nats, and the sum of the weights.
  """
  logits = logits.astype(jnp.float32)
  wanted = jax.nn.one_hot(labels, logits.shape[-1])
  wanted = optax.smooth_labels(wanted, label_smoothing)
  losses = optax.softmax_cross_entropy(logits, wanted)
  return jnp.sum(losses * weight), jnp.sum(weight)


def mean(
  total: Float[Array, ""],
  count: Float[Array, ""],
  axis_name: str | None = None,
) -> Float[Array, ""]:
  """Divides a sum by the count of the whole batch.

  Under `axis_name` every device gets its own share of the mean: the shares
  (and their gradients) are to be added over the axis.
  """
  if axis_name is not None:
    count = jax.lax.psum(count, axis_name)
  return total / jnp.maximum(count, 1.0)
