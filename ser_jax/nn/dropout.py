"""Dropout and noise that do not know how the batch is split over devices."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key


def example_keys(
  module: nn.Module, count: int, axis_name: str | None
) -> Key[Array, "count"]:
  """A key for each example, by its place in the whole batch.

  Args:
    module: whose stream `dropout` is drawn from.
    count: examples on this device.
    axis_name: a mapped axis that the batch is split over, if any.

  Returns:
    The keys.
  """
  place = jnp.arange(count)
  # Parameters are drawn on one device, where there is no axis.
  if axis_name is not None and not module.is_initializing():
    place += jax.lax.axis_index(axis_name) * count
  return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(
    module.make_rng("dropout"), place
  )


class Dropout(nn.Module):
  """Dropout (Srivastava et al. 2014), drawn for each example by itself.

  An example's draw follows from the key and its place in the whole batch: one
  device and many drop the same.

  Attributes:
    rate: the share of values set to zero; the others are scaled up.
    shared: axes of `x` along which a draw is shared: `(1, 2)` drops whole
      channels of maps.
    axis_name: a mapped axis that the batch is split over, if any.
  """

  rate: float
  shared: tuple[int, ...] = ()
  axis_name: str | None = None

  @nn.compact
  def __call__(
    self, x: Float[Array, "batch ..."], *, train: bool
  ) -> Float[Array, "batch ..."]:
    """Drops in training, and is the identity otherwise."""
    if not train or self.rate == 0.0:
      return x
    shape = tuple(
      1 if axis in self.shared else size for axis, size in enumerate(x.shape)
    )
    keys = example_keys(self, len(x), self.axis_name)
    keep = jax.vmap(
      lambda key: jax.random.bernoulli(key, 1.0 - self.rate, shape[1:])
    )(keys)
    return jnp.where(jnp.broadcast_to(keep, x.shape), x / (1 - self.rate), 0.0)


class GaussianNoise(nn.Module):
  """Noise on inputs, drawn for each example by itself, as `Dropout` is.

  Attributes:
    deviation: of the noise.
    axis_name: a mapped axis that the batch is split over, if any.
  """

  deviation: float
  axis_name: str | None = None

  @nn.compact
  def __call__(
    self, x: Float[Array, "batch ..."], *, train: bool
  ) -> Float[Array, "batch ..."]:
    """Adds noise in training, and is the identity otherwise."""
    if not train or self.deviation == 0.0:
      return x
    keys = example_keys(self, len(x), self.axis_name)
    drawn = jax.vmap(lambda key: jax.random.normal(key, x.shape[1:], x.dtype))(
      keys
    )
    return x + self.deviation * drawn
