"""Convolution blocks over time and frequency, exact under padding.

`[batch, time, frequency, channels]`. A block is convolution, BatchNorm, ReLU
and max-pooling; what its forms compute is the same (tested), how they do is
not, since XLA's direct convolutions are slow on CPUs:

    direct    one XLA convolution: the plain form, and the one for accelerators
    patches   for one or few input channels: never holds the unpooled output
    blocked   for many input and few output channels: products of large matrices
"""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ser_jax.nn.masking import valid_frames, zero_padding
from ser_jax.nn.normalization import BatchNorm, Moments, masked_moments

Maps = Float[Array, "batch time frequency inputs"]
Convolved = Float[Array, "batch out_time out_frequency outputs"]
Pooled = Float[Array, "batch half_time half_frequency outputs"]
Kernel = Float[Array, "kernel_time kernel_frequency inputs outputs"]
Mask = Bool[Array, "batch out_time"]
POOL = 2


def conv(
  x: Maps, kernel: Kernel, padding: tuple[int, int] = (0, 0)
) -> Convolved:
  """XLA's convolution with unit stride."""
  around = [(size, size) for size in padding]
  return jax.lax.conv_general_dilated(
    x, kernel, (1, 1), around, dimension_numbers=("NHWC", "HWIO", "NHWC")
  )


def _out(x: Maps, kernel: Kernel) -> tuple[int, int]:
  """Time steps and frequencies after a convolution."""
  return x.shape[1] - kernel.shape[0] + 1, x.shape[2] - kernel.shape[1] + 1


def max_pool(x: Convolved) -> Pooled:
  """Max-pooling 2 x 2 with stride 2; what is left over is dropped."""
  time, frequency = x.shape[1] // POOL * POOL, x.shape[2] // POOL * POOL
  x = jnp.maximum(x[:, 0:time:2], x[:, 1:time:2])
  return jnp.maximum(x[:, :, 0:frequency:2], x[:, :, 1:frequency:2])


def _patches(
  x: Maps, kernel: Kernel, first: tuple[int, int], size: tuple[int, int],
  stride: int,
) -> Float[Array, "batch t f patch"]:  # fmt: skip
  """Patches laid out in memory, `[kernel_time, kernel_frequency, inputs]`."""
  (row, column), (time, frequency) = first, size
  slices = [
    x[
      :,
      row + i : row + i + stride * time : stride,
      column + j : column + j + stride * frequency : stride,
    ]
    for i in range(kernel.shape[0])
    for j in range(kernel.shape[1])
  ]
  return jnp.concatenate(slices, axis=-1)


def _phases(x: Maps, kernel: Kernel) -> list[Float[Array, "batch t f patch"]]:
  """The patches of each of the four places in a pooling window."""
  time, frequency = _out(x, kernel)
  return [
    _patches(x, kernel, (a, b), (time // POOL, frequency // POOL), POOL)
    for a in range(POOL)
    for b in range(POOL)
  ]


@jax.custom_vjp
def patches_max(x: Maps, kernel: Kernel) -> Pooled:
  """`max_pool(conv(x, kernel))`, one place of the window at a time.

  The unpooled output is never held, and the backward pass needs of it one byte
  for each pooled value: which place won (the first, if several did).
  """
  return _patches_max_forward(x, kernel)[0]


def _patches_max_forward(x: Maps, kernel: Kernel):
  flat = kernel.reshape(-1, kernel.shape[-1])
  best = winner = None
  for number, patches in enumerate(_phases(x, kernel)):
    y = patches @ flat
    if best is None:
      best, winner = y, jnp.zeros(y.shape, jnp.uint8)
    else:
      winner = jnp.where(y > best, jnp.uint8(number), winner)
      best = jnp.maximum(best, y)
  return best, (x, kernel, winner)


def _patches_max_backward(saved, gradient: Pooled):
  x, kernel, winner = saved
  flat = kernel.reshape(-1, kernel.shape[-1])
  shares = [
    jnp.where(winner == number, gradient, 0.0) for number in range(POOL * POOL)
  ]
  phases, back = jax.vjp(lambda x: _phases(x, kernel), x)
  of_kernel = sum(
    jnp.einsum("btfp,btfo->po", patches, share)
    for patches, share in zip(phases, shares, strict=True)
  )
  (of_x,) = back([share @ flat.T for share in shares])
  return of_x, of_kernel.reshape(kernel.shape)


patches_max.defvjp(_patches_max_forward, _patches_max_backward)


def patches_moments(
  x: Maps, kernel: Kernel, mask: Mask, axis_name: str | None
) -> Moments:
  """Moments of `conv(x, kernel)` from those of its patches.

  The mean of a linear map is the map of the mean, its covariance K' C K: no
  pass over the output, forwards or backwards.
  """
  flat = kernel.reshape(-1, kernel.shape[-1])
  patches = _patches(x, kernel, (0, 0), _out(x, kernel), 1)
  weight = mask.astype(jnp.float32)[:, :, None, None]
  total = jnp.sum(patches * weight, axis=(0, 1, 2))
  count = jnp.sum(weight) * patches.shape[2]
  if axis_name is not None:
    total, count = jax.lax.psum((total, count), axis_name)
  safe = jnp.maximum(count, 1.0)
  mean = total / safe
  centred = (patches - mean[None, None, None]) * weight
  covariance = jnp.einsum("btfp,btfq->pq", centred, centred)
  if axis_name is not None:
    covariance = jax.lax.psum(covariance, axis_name)
  variance = jnp.sum(flat * (covariance / safe @ flat), axis=0)
  return mean @ flat, jnp.maximum(variance, 0.0), count


@jax.custom_vjp
def blocked(x: Maps, kernel: Kernel) -> Convolved:
  """`conv(x, kernel)` as one product over patches along frequency.

  The product gives the share of each of the kernel's time taps; the shares are
  added, shifted in time. The kernel's gradient is a product too.
  """
  high, wide, inputs, outputs = kernel.shape
  time, frequency = _out(x, kernel)
  stacked = jnp.concatenate(
    [x[:, :, j : j + frequency] for j in range(wide)], axis=-1
  )
  taps = kernel.transpose(1, 2, 0, 3).reshape(wide * inputs, high * outputs)
  shares = stacked @ taps
  return sum(
    shares[:, i : i + time, :, i * outputs : (i + 1) * outputs]
    for i in range(high)
  )


def _blocked_backward(saved, gradient: Convolved):
  x, kernel = saved
  high, wide, inputs, outputs = kernel.shape
  time, frequency = _out(x, kernel)
  flipped = kernel[::-1, ::-1].transpose(0, 1, 3, 2)
  of_x = conv(gradient, flipped, (high - 1, wide - 1))
  padded = jnp.pad(gradient, ((0, 0), (high - 1, high - 1), (0, 0), (0, 0)))
  shifted = jnp.concatenate(
    [padded[:, high - 1 - i : high - 1 - i + x.shape[1]] for i in range(high)],
    axis=-1,
  )
  of_kernel = jnp.stack(
    [
      jnp.einsum("btfc,btfo->co", x[:, :, j : j + frequency], shifted)
      for j in range(wide)
    ]
  ).reshape(wide, inputs, high, outputs)
  return of_x, of_kernel.transpose(2, 0, 1, 3)


blocked.defvjp(lambda x, kernel: (blocked(x, kernel), (x, kernel)),
               _blocked_backward)  # fmt: skip


def _pooled(convolve: Callable) -> Callable:
  """A form that convolves, then pools."""

  def form(x: Maps, kernel: Kernel, mask: Mask, axis_name: str | None):
    y = convolve(x, kernel)
    return max_pool(y), masked_moments(y, mask, axis_name)

  return form


def _patches_form(x: Maps, kernel: Kernel, mask: Mask, axis_name: str | None):
  moments = patches_moments(x, kernel, mask, axis_name)
  return patches_max(x, kernel), moments


# Each gives the pooled maxima and the moments of the unpooled output.
FORMS = {
  "direct": _pooled(conv),
  "patches": _patches_form,
  "blocked": _pooled(blocked),
}


def conv_lengths(
  lengths: Int[Array, "batch"], kernel: int, padding: int
) -> Int[Array, "batch"]:
  """Valid frames after a convolution; 0 stays 0."""
  after = jnp.maximum(lengths + 2 * padding - kernel + 1, 0)
  return jnp.where(lengths > 0, after, 0)


class ConvBlock(nn.Module):
  """Convolution -> BatchNorm -> ReLU -> max-pool 2 x 2.

  BatchNorm's statistics are those of the convolution's whole output, but its
  scaling, monotone in each channel, comes after the pooling: four times fewer
  values are normalised and kept. Where the scale is negative, minima are
  wanted: such a channel's filter is negated before and its maxima after.

  Attributes:
    channels: output channels.
    kernel: extent in time and frequency.
    padding: zeros on every side.
    form: a key of `FORMS`.
    bias: whether the convolution has a bias. BatchNorm removes it from all but
      the running mean; it is there to count parameters as PyTorch does.
    axis_name: a mapped axis that the batch is split over, if any.
  """

  channels: int
  kernel: tuple[int, int]
  padding: int = 0
  form: str = "direct"
  bias: bool = False
  axis_name: str | None = None

  @nn.compact
  def __call__(
    self, x: Maps, lengths: Int[Array, "batch"], *, train: bool
  ) -> tuple[Pooled, Int[Array, "batch"]]:
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
    bias = jnp.zeros(self.channels)
    if self.bias:
      bias = self.param("bias", nn.initializers.zeros, (self.channels,))
    scale = self.param("scale", nn.initializers.ones, (self.channels,))
    shift = self.param("shift", nn.initializers.zeros, (self.channels,))
    if self.padding:
      around = (self.padding, self.padding)
      x = jnp.pad(x, ((0, 0), around, around, (0, 0)))
    lengths = conv_lengths(lengths, self.kernel[0], self.padding)
    mask = valid_frames(lengths, x.shape[1] - self.kernel[0] + 1)
    sign = jnp.where(scale >= 0, 1.0, -1.0)
    pooled, (mean, variance, count) = FORMS[self.form](
      x,
      kernel * sign[None, None, None],
      mask,
      self.axis_name if train else None,
    )
    # In terms of the negated filters, `sign * y`, the scale is its size.
    factor, offset = BatchNorm(affine=False, name="bn").coefficients(
      (mean * sign + bias, variance, count), train=train
    )
    factor, offset = factor * jnp.abs(scale), (bias * factor + offset) * scale
    out = nn.relu(
      pooled * factor[None, None, None] + (offset + shift)[None, None, None]
    )
    lengths = lengths // POOL
    return zero_padding(out, lengths), lengths
