"""Convolution blocks over time and frequency, exact under padding.

`[batch, time, frequency, channels]`. A convolution has one plain form and, for
CPUs whose direct convolutions are slow, two forms made of matrix products; all
compute the same (tested), the faster one is a matter of measurement.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ser_jax.nn.masking import valid_frames, zero_padding
from ser_jax.nn.normalization import BatchNorm

Maps = Float[Array, "batch time frequency channels"]
Kernel = Float[Array, "kernel_time kernel_frequency inputs outputs"]
FORMULATIONS = ("direct", "patches", "blocked")


def direct(x: Maps, kernel: Kernel) -> Maps:
  """XLA's convolution, without padding."""
  return jax.lax.conv_general_dilated(
    x, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
  )


def patches(x: Maps, kernel: Kernel) -> Maps:
  """Every patch laid out in memory, then one matrix product.

  Good for few input channels; memory grows by the kernel's area.
  """
  high, wide, inputs, outputs = kernel.shape
  time, frequency = x.shape[1] - high + 1, x.shape[2] - wide + 1
  slices = [
    x[:, i : i + time, j : j + frequency]
    for i in range(high)
    for j in range(wide)
  ]
  stacked = jnp.concatenate(slices, axis=-1)
  return stacked @ kernel.reshape(high * wide * inputs, outputs)


def blocked(x: Maps, kernel: Kernel) -> Maps:
  """Patches along frequency, all of the kernel's time taps in one product.

  The product gives each tap's share; the shares are added, shifted in time.
  Good for many input and few output channels.
  """
  high, wide, inputs, outputs = kernel.shape
  time, frequency = x.shape[1] - high + 1, x.shape[2] - wide + 1
  stacked = jnp.concatenate(
    [x[:, :, j : j + frequency] for j in range(wide)], axis=-1
  )
  taps = kernel.transpose(1, 2, 0, 3).reshape(wide * inputs, high * outputs)
  shares = stacked @ taps
  return sum(
    shares[:, i : i + time, :, i * outputs : (i + 1) * outputs]
    for i in range(high)
  )


_FORMS = {"direct": direct, "patches": patches, "blocked": blocked}


def max_pool(x: Maps, size: int = 2) -> Maps:
  """Max-pooling with equal window and stride; what is left over is dropped."""
  batch, time, frequency, channels = x.shape
  time, frequency = time // size, frequency // size
  x = x[:, : time * size, : frequency * size]
  x = x.reshape(batch, time, size, frequency, size, channels)
  return x.max(axis=(2, 4))


def conv_lengths(
  lengths: Int[Array, "batch"], kernel: int, padding: int
) -> Int[Array, "batch"]:
  """Valid frames after a convolution; 0 stays 0."""
  after = jnp.maximum(lengths + 2 * padding - kernel + 1, 0)
  return jnp.where(lengths > 0, after, 0)


class ConvBlock(nn.Module):
  """Convolution -> BatchNorm -> ReLU -> max-pool 2 x 2.

  BatchNorm's statistics are those of the convolution's whole output, but its
  scaling, monotone in each channel, is applied after the pooling (of maxima or
  minima, by the sign of the factor): four times fewer values are normalised
  and kept for the backward pass.

  Attributes:
    channels: output channels.
    kernel: extent in time and frequency.
    padding: zeros on every side.
    formulation: `direct`, `patches` or `blocked`.
    bias: whether the convolution has a bias. BatchNorm removes it from all but
      the running mean, so it is there to count parameters as PyTorch does.
    axis_name: a mapped axis that the batch is split over, if any.
  """

  channels: int
  kernel: tuple[int, int]
  padding: int = 0
  formulation: str = "direct"
  bias: bool = False
  axis_name: str | None = None

  @nn.compact
  def __call__(
    self, x: Maps, lengths: Int[Array, "batch"], *, train: bool
  ) -> tuple[Maps, Int[Array, "batch"]]:
    """Applies the block; frames past the new lengths are zero.

    Args:
      x: maps, zero past each utterance.
      lengths: valid frames.
      train: batch statistics if true, else the running ones.

    Returns:
      Pooled maps and their lengths.
    """
    shape = (*self.kernel, x.shape[-1], self.channels)
    draw = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
    kernel = self.param("kernel", draw, shape)
    if self.padding:
      around = (self.padding, self.padding)
      x = jnp.pad(x, ((0, 0), around, around, (0, 0)))
    y = _FORMS[self.formulation](x, kernel)
    if self.bias:
      y = (
        y
        + self.param("bias", nn.initializers.zeros, (self.channels,))[
          None, None, None
        ]
      )
    lengths = conv_lengths(lengths, self.kernel[0], self.padding)
    mask = valid_frames(lengths, y.shape[1])
    factor, offset = BatchNorm(self.axis_name, name="bn").coefficients(
      y, mask, train=train
    )
    sign = jnp.where(factor >= 0, 1.0, -1.0)[None, None, None]
    pooled = max_pool(y * sign) * sign
    out = nn.relu(pooled * factor[None, None, None] + offset[None, None, None])
    lengths = lengths // 2
    return zero_padding(out, lengths), lengths
