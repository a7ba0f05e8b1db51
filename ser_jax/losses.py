"""Masked losses: arrays and weights in, (sum, count) out.

A loss is a sum and a count, never a mean, so that filler examples drop out and
so that devices can add both before dividing. `mean` is the one place that
divides.
"""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

SHORTEST = 1e-6  # Shorter vectors have no direction.
SMALLEST_SPREAD = 1e-12  # Below, both contours are one constant.


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


def binary_cross_entropy(
  logits: Float[Array, "batch"],
  wanted: float,
  weight: Float[Array, "batch"],
) -> tuple[Float[Array, ""], Float[Array, ""]]:
  """Sums the weighted cross-entropy of yes-or-no decisions.

  Args:
    logits: log-odds of yes.
    wanted: the probability of yes that is right for all: 1 for real examples,
      0 for fake ones.
    weight: 1 for an example, 0 for filler.

  Returns:
    The sum over the batch in nats, and the sum of the weights.
  """
  logits = logits.astype(jnp.float32)
  losses = jax.nn.softplus(logits) - wanted * logits
  return jnp.sum(losses * weight), jnp.sum(weight)


def squared_error(
  found: Float[Array, "batch *time dim"],
  wanted: Float[Array, "batch *time dim"],
  weight: Float[Array, "batch *time"],
) -> tuple[Float[Array, ""], Float[Array, ""]]:
  """Sums the weighted squared error, averaged over features.

  Args:
    found: reconstructions.
    wanted: what they reconstruct.
    weight: 1 for a vector that counts, 0 for filler and padding.

  Returns:
    The sum over vectors, and the sum of the weights.
  """
  error = found.astype(jnp.float32) - wanted.astype(jnp.float32)
  losses = jnp.mean(jnp.square(error), axis=-1)
  return jnp.sum(losses * weight), jnp.sum(weight)


def concordance(
  found: Float[Array, "batch time targets"],
  wanted: Float[Array, "batch time targets"],
  weight: Float[Array, "batch time"],
  *,
  per_sequence: bool = False,
  axis_name: str | None = None,
) -> tuple[Float[Array, ""], Float[Array, ""]]:
  """1 - CCC, averaged over targets (Trigeorgis et al. 2016, section 2.2).

  CCC = 2 cov / (var_found + var_wanted + (mean_found - mean_wanted)^2), with
  the moments of the population (Lin 1989). Where the denominator vanishes,
  both being constant and equal, it is 0, like its gradient.

  Args:
    found: predictions.
    wanted: the gold standard.
    weight: 1 for a frame that counts, 0 for padding and filler.
    per_sequence: moments of each sequence by itself; else of all frames of the
      batch together.
    axis_name: the mapped axis that the batch is split over, if any.

  Returns:
    The sum over sequences, and how many have frames; or this device's share of
    the one value, and of 1.
  """
  found, wanted = found.astype(jnp.float32), wanted.astype(jnp.float32)
  axes = (1,) if per_sequence else (0, 1)
  # A sequence lies on one device, a batch on all.
  across = None if per_sequence else axis_name

  def total(x):
    x = jnp.sum(x * weight[:, :, None], axis=axes, keepdims=True)
    return x if across is None else jax.lax.psum(x, across)

  count = total(jnp.ones_like(found))

  def moment(x):
    return total(x) / jnp.maximum(count, 1.0)

  means = moment(found), moment(wanted)
  one, other = found - means[0], wanted - means[1]
  spread = moment(one**2) + moment(other**2) + (means[0] - means[1]) ** 2
  defined = spread > SMALLEST_SPREAD
  ccc = jnp.where(
    defined, 2.0 * moment(one * other) / jnp.where(defined, spread, 1.0), 0.0
  )
  losses = jnp.mean(1.0 - ccc, axis=-1)
  present = (count[..., 0] > 0).astype(jnp.float32)
  if across is not None:
    # Every device has the whole value: together they are to have it once.
    present = present / jax.lax.psum(1.0, across)
  return jnp.sum(losses * present), jnp.sum(present)


def entropy(
  probabilities: Float[Array, "batch classes"],
) -> Float[Array, "batch"]:
  """The entropy of each distribution, in nats."""
  return -jnp.sum(jax.scipy.special.xlogy(probabilities, probabilities), -1)


def cosine_similarity(
  one: Float[Array, "batch dim"], other: Float[Array, "batch dim"]
) -> Float[Array, "batch"]:
  """The cosine between vectors; 0, like its gradient, where one has no length.

  Args:
    one: vectors.
    other: what each is compared with.

  Returns:
    Values in [-1, 1] (Huang et al., equation 2).
  """
  one, other = one.astype(jnp.float32), other.astype(jnp.float32)
  squares = [jnp.sum(jnp.square(x), axis=-1) for x in (one, other)]
  defined = jnp.minimum(*squares) > SHORTEST**2
  # Also where nothing is taken of it, a root must have a gradient.
  roots = [jnp.sqrt(jnp.where(defined, square, 1.0)) for square in squares]
  product = jnp.sum(one * other, axis=-1) / (roots[0] * roots[1])
  return jnp.where(defined, product, 0.0)


def complementary(
  cosine: Float[Array, "batch"],
  weight: Float[Array, "batch"],
  *,
  threshold: float | None = None,
) -> tuple[Float[Array, ""], Float[Array, ""]]:
  """Sums cosines that are to be low, or their distances from a threshold.

  Args:
    cosine: between two embeddings of each example.
    weight: 1 for an example, 0 for filler.
    threshold: what the cosine is to be, 0 for orthogonal embeddings (Huang et
      al., equation 4); None for as low as it gets (equation 3).

  Returns:
    The sum over the batch, and the sum of the weights.
  """
  losses = cosine if threshold is None else jnp.abs(cosine - threshold)
  return jnp.sum(losses * weight), jnp.sum(weight)


def accuracy(
  logits: Float[Array, "batch classes"],
  labels: Int[Array, "batch"],
  weight: Float[Array, "batch"],
) -> tuple[Float[Array, ""], Float[Array, ""]]:
  """How many of a batch are right, and of how many."""
  right = jnp.argmax(logits, axis=-1) == labels
  return jnp.sum(right * weight), jnp.sum(weight)


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
