"""Batch normalisation over valid frames, one device or many.

Statistics are float32, over the frames of a mask alone. Under `axis_name` the
sums behind them are added over the mapped axis, so that every device holds the
statistics of the whole batch.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

# Mean, biased variance and count.
Moments = tuple[Float[Array, "dim"], Float[Array, "dim"], Float[Array, ""]]
MOMENTUM = 0.1  # the share of the new statistic, as PyTorch counts it
EPSILON = 1e-5


def masked_moments(
  x: Float[Array, "batch *rest dim"],
  mask: Bool[Array, "batch *rest"] | Bool[Array, "batch *some"],
  axis_name: str | None = None,
) -> Moments:
  """Mean, biased variance and count of the frames of a mask.

  Args:
    x: values; axes that the mask lacks are averaged over too.
    mask: over the leading axes of `x`.
    axis_name: a mapped axis to add over.

  Returns:
    Mean, variance (both 0 where the mask is empty) and count.
  """
  x = x.astype(jnp.float32)
  inner = x.shape[mask.ndim : -1]
  axes = tuple(range(x.ndim - 1))
  weight = mask.astype(jnp.float32).reshape(
    mask.shape + (1,) * (x.ndim - mask.ndim)
  )
  count = jnp.sum(weight)
  for size in inner:
    count = count * size
  mean = jnp.sum(x * weight, axis=axes) / jnp.maximum(count, 1.0)
  centred = (x - mean.reshape((1,) * (x.ndim - 1) + mean.shape)) * weight
  scatter = jnp.sum(jnp.square(centred), axis=axes)
  if axis_name is not None:
    mean, scatter, count = over_devices(mean, scatter, count, axis_name)
  return mean, scatter / jnp.maximum(count, 1.0), count


def combined(
  means: Float[Array, "parts dim"],
  scatters: Float[Array, "parts dim *dims"],
  counts: Float[Array, "parts"],
) -> tuple[Float[Array, "dim"], Float[Array, "dim *dims"], Float[Array, ""]]:
  """Mean, scatter and count of values from those of their parts.

  The scatter about the common mean is that about their own plus that of their
  means (Chan et al. 1979).

  Args:
    means: of the values of each part.
    scatters: sums of squares about it, or of products of two features.
    counts: of values.

  Returns:
    Mean, scatter and count of all values.
  """
  counts = counts[:, None]
  count = jnp.sum(counts)
  mean = jnp.sum(counts * means, axis=0) / jnp.maximum(count, 1.0)
  apart = means - mean[None]
  if scatters.ndim == 2:
    between = jnp.sum(counts * jnp.square(apart), axis=0)
  else:
    between = jnp.matmul((counts * apart).T, apart, precision="highest")
  return mean, jnp.sum(scatters, axis=0) + between, count


def over_devices(
  mean: Float[Array, "dim"],
  scatter: Float[Array, "dim *dims"],
  count: Float[Array, ""],
  axis_name: str,
) -> tuple[Float[Array, "dim"], Float[Array, "dim *dims"], Float[Array, ""]]:
  """What devices found of their shares, as if one had seen all of them.

  One collective, where sums of values and then of squares about their mean
  would take two, one after the other.

  Args:
    mean: of the device's values.
    scatter: see `combined`.
    count: of values.
    axis_name: the mapped axis.

  Returns:
    Mean, scatter and count of all devices' values.
  """
  dim = len(mean)
  every = jax.lax.all_gather(
    jnp.concatenate([mean, scatter.ravel(), count[None]]), axis_name
  )
  scatters = every[:, dim:-1].reshape(-1, *scatter.shape)
  return combined(every[:, :dim], scatters, every[:, -1])


def running_update(
  old: tuple[Array, Array],
  mean: Float[Array, "*steps dim"],
  variance: Float[Array, "*steps dim"],
  count: Float[Array, "*steps"],
) -> tuple[Array, Array]:
  """Moves running statistics; those of one value or none stay as they are.

  One value has no variance. The running variance is unbiased (times
  n / (n - 1)), as PyTorch keeps it.
  """
  count = count[..., None]
  unbiased = variance * count / jnp.maximum(count - 1.0, 1.0)
  share = jnp.where(count > 1, MOMENTUM, 0.0)
  return (
    old[0] + share * (mean - old[0]),
    old[1] + share * (unbiased - old[1]),
  )


class BatchNorm(nn.Module):
  """Batch normalisation (Ioffe and Szegedy 2015) with a mask.

  Attributes:
    axis_name: a mapped axis that the batch is split over, if any.
    affine: whether to scale and shift.
  """

  axis_name: str | None = None
  affine: bool = True

  def __call__(
    self,
    x: Float[Array, "batch *rest dim"],
    mask: Bool[Array, "batch *some"],
    *,
    train: bool,
  ) -> Float[Array, "batch *rest dim"]:
    """Normalises each feature.

    Args:
      x: values, features last.
      mask: over the leading axes of `x`; what it leaves out is normalised too,
        but counts for nothing.
      train: batch statistics if true, else the running ones.

    Returns:
      The normalised values.
    """
    moments = masked_moments(x, mask, self.axis_name if train else None)
    factor, offset = self.coefficients(moments, train=train)
    shape = (1,) * (x.ndim - 1) + factor.shape
    y = x * factor.reshape(shape) + offset.reshape(shape)
    return y.astype(x.dtype)

  @nn.compact
  def coefficients(
    self, moments: Moments, *, train: bool
  ) -> tuple[Float[Array, "dim"], Float[Array, "dim"]]:
    """Factor and offset that normalise, for callers that defer them.

    Args:
      moments: of the whole batch; unused (and not computed under jit) unless
        training.
      train: batch statistics if true, else the running ones.

    Returns:
      What to multiply by, then what to add.
    """
    dim = moments[0].shape[-1]
    mean_of = self.variable("batch_stats", "mean", jnp.zeros, (dim,))
    variance_of = self.variable("batch_stats", "variance", jnp.ones, (dim,))
    mean, variance = mean_of.value, variance_of.value
    if train:
      mean, variance, count = moments
      mean_of.value, variance_of.value = running_update(
        (mean_of.value, variance_of.value), mean, variance, count
      )
    factor = jax.lax.rsqrt(variance + EPSILON)
    if not self.affine:
      return factor, -mean * factor
    factor = factor * self.param("scale", nn.initializers.ones, (dim,))
    bias = self.param("bias", nn.initializers.zeros, (dim,))
    return factor, bias - mean * factor
