"""Convolution blocks over time and frequency, exact under padding.

`[batch, time, frequency, channels]`. A block is convolution, BatchNorm, an
activation and max-pooling; what its forms compute is the same (tested), how
they do is not. XLA's convolutions are slow on CPUs, where two forms replace
them by matrix products, one example at a time: what lies in between stays in
the cache, and reaching for memory, not arithmetic, is what a CPU waits for.

    direct    one XLA convolution: the plain form, and the one for accelerators
    patches   CPU, for one or few input channels: never holds the whole output
    blocked   CPU, for many input and few output channels
"""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Shaped

from ser_jax.batch import valid_frames
from ser_jax.nn.direct import convolution
from ser_jax.nn.dropout import Dropout
from ser_jax.nn.masking import zero_padding
from ser_jax.nn.normalization import (
  BatchNorm,
  Moments,
  combined,
  masked_moments,
  over_devices,
)

Maps = Float[Array, "batch time frequency inputs"]
Convolved = Float[Array, "batch out_time out_frequency outputs"]
Pooled = Float[Array, "batch half_time half_frequency outputs"]
Kernel = Float[Array, "kernel_time kernel_frequency inputs outputs"]
Mask = Bool[Array, "batch out_time"]
POOL = 2


def conv(x: Maps, kernel: Kernel, stride: int = 1) -> Convolved:
  """XLA's convolution without padding."""
  return convolution(x, kernel, (stride, stride), "VALID")


def _out(x: Maps, kernel: Kernel) -> tuple[int, int]:
  """Time steps and frequencies after a convolution."""
  return x.shape[1] - kernel.shape[0] + 1, x.shape[2] - kernel.shape[1] + 1


def max_pool(x: Convolved) -> Pooled:
  """Max-pooling 2 x 2 with stride 2; what is left over is dropped."""
  time, frequency = x.shape[1] // POOL * POOL, x.shape[2] // POOL * POOL
  x = jnp.maximum(x[:, 0:time:2], x[:, 1:time:2])
  return jnp.maximum(x[:, :, 0:frequency:2], x[:, :, 1:frequency:2])


def each(function: Callable, *arrays: Shaped[Array, "batch ..."]) -> Any:
  """Applies a function to one example after the other."""
  return jax.lax.map(lambda example: function(*example), arrays)


def _over_rows(
  x: Float[Array, "*rows a"], y: Float[Array, "*rows b"]
) -> Float[Array, "a b"]:
  """The sum over rows of `x' y`: in one axis, XLA on CPUs copies neither."""
  return x.reshape(-1, x.shape[-1]).T @ y.reshape(-1, y.shape[-1])


def _patches(
  x: Float[Array, "time frequency inputs"],
  kernel: Kernel,
  first: tuple[int, int],
  size: tuple[int, int],
  stride: int,
) -> Float[Array, "t f patch"]:
  """Patches laid out in memory, `[kernel_time, kernel_frequency, inputs]`."""
  (row, column), (time, frequency) = first, size
  slices = [
    x[
      row + i : row + i + stride * time : stride,
      column + j : column + j + stride * frequency : stride,
    ]
    for i, j in np.ndindex(kernel.shape[:2])
  ]
  return jnp.concatenate(slices, axis=-1)


def _phases(x: Float[Array, "time frequency inputs"], kernel: Kernel) -> list:
  """The patches of each of the four places in a pooling window."""
  time, frequency = _out(x[None], kernel)
  size = time // POOL, frequency // POOL
  return [
    _patches(x, kernel, place, size, POOL) for place in np.ndindex(POOL, POOL)
  ]


@jax.custom_vjp
def patches_max(x: Maps, kernel: Kernel) -> Pooled:
  """`max_pool(conv(x, kernel))`, one place of the window at a time.

  The backward pass needs one byte for each pooled value: which place won (the
  first, if several did).
  """
  return _patches_max_forward(x, kernel)[0]


def _patches_max_forward(x: Maps, kernel: Kernel):
  flat = kernel.reshape(-1, kernel.shape[-1])

  def maxima(x):
    best, *others = (patches @ flat for patches in _phases(x, kernel))
    winner = jnp.zeros(best.shape, jnp.uint8)
    for number, y in enumerate(others, start=1):
      winner = jnp.where(y > best, jnp.uint8(number), winner)
      best = jnp.maximum(best, y)
    return best, winner

  best, winner = each(maxima, x)
  return best, (x, kernel, winner)


def _patches_max_backward(saved, gradient: Pooled):
  x, kernel, winner = saved
  flat = kernel.reshape(-1, kernel.shape[-1])

  def gradients(x, winner, gradient):
    phases, back = jax.vjp(lambda x: _phases(x, kernel), x)
    shares = [
      jnp.where(winner == number, gradient, 0.0)
      for number in range(len(phases))
    ]
    of_kernel = sum(
      _over_rows(patches, share)
      for patches, share in zip(phases, shares, strict=True)
    )
    return back([share @ flat.T for share in shares])[0], of_kernel

  of_x, of_kernel = each(gradients, x, winner, gradient)
  return of_x, of_kernel.sum(axis=0).reshape(kernel.shape)


patches_max.defvjp(_patches_max_forward, _patches_max_backward)


def patches_moments(
  x: Maps, kernel: Kernel, mask: Mask, axis_name: str | None
) -> Moments:
  """Moments of `conv(x, kernel)` from those of its patches.

  The mean of a linear map is the map of the mean, its covariance K' C K: no
  pass over the output, forwards or backwards. C adds the scatter within each
  example to that of the examples' means.
  """
  size = _out(x, kernel)

  def within(x, mask):
    patches = _patches(x.astype(jnp.float32), kernel, (0, 0), size, 1)
    mask = mask[:, None, None]
    count = jnp.sum(mask) * float(size[1])
    total = jnp.sum(jnp.where(mask, patches, 0.0), axis=(0, 1))
    mean = total / jnp.maximum(count, 1.0)
    centred = jnp.where(mask, patches - mean[None, None], 0.0)
    # K' C K cancels where a filter takes differences: no less than float32.
    scatter = jnp.einsum("tfp,tfq->pq", centred, centred, precision="highest")
    return mean, scatter, count

  mean, scatter, count = combined(*each(within, x, mask))
  if axis_name is not None:
    mean, scatter, count = over_devices(mean, scatter, count, axis_name)
  flat = kernel.reshape(-1, kernel.shape[-1]).astype(jnp.float32)
  covariance = scatter / jnp.maximum(count, 1.0)
  spread = jnp.matmul(covariance, flat, precision="highest")
  variance = jnp.sum(flat * spread, axis=0)
  mean = jnp.matmul(mean, flat, precision="highest")
  return mean, jnp.maximum(variance, 0.0), count


@jax.custom_vjp
def blocked(x: Maps, kernel: Kernel) -> Convolved:
  """`conv(x, kernel)` as one product with all of the kernel's taps.

  The product gives what each place contributes to every place around it; the
  contributions are added, shifted.
  """
  outputs, (time, frequency) = kernel.shape[-1], _out(x, kernel)
  taps = _taps(kernel)

  def convolve(x):
    shares = x @ taps
    return sum(
      shares[i : i + time, j : j + frequency, n * outputs : (n + 1) * outputs]
      for n, (i, j) in enumerate(np.ndindex(kernel.shape[:2]))
    )

  return each(convolve, x)


def _taps(kernel: Kernel) -> Float[Array, "inputs taps_outputs"]:
  """The kernel's taps side by side."""
  return kernel.transpose(2, 0, 1, 3).reshape(kernel.shape[2], -1)


def _blocked_backward(saved, gradient: Convolved):
  x, kernel = saved
  high, wide, inputs, outputs = kernel.shape
  taps = _taps(kernel)

  def gradients(x, gradient):
    shares = jnp.concatenate(
      [
        jnp.pad(gradient, ((i, high - 1 - i), (j, wide - 1 - j), (0, 0)))
        for i, j in np.ndindex(high, wide)
      ],
      axis=-1,
    )
    return shares @ taps.T, _over_rows(x, shares)

  of_x, of_taps = each(gradients, x, gradient)
  of_taps = of_taps.sum(axis=0).reshape(inputs, high, wide, outputs)
  return of_x, of_taps.transpose(1, 2, 0, 3)


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


def check_forms(forms: tuple[str, ...]) -> None:
  """Refuses forms that are not two of `FORMS`.

  Raises:
    ValueError: they are not.
  """
  if len(forms) != 2 or not set(forms) <= set(FORMS):
    raise ValueError(f"forms={forms!r} must be two of {', '.join(FORMS)}")


def conv_lengths(
  lengths: Int[Array, "batch"], kernel: int, padding: int, stride: int = 1
) -> Int[Array, "batch"]:
  """Valid frames after a convolution; 0 stays 0."""
  after = (lengths + 2 * padding - kernel) // stride + 1
  return jnp.where(lengths > 0, jnp.maximum(after, 0), 0)


class ConvBlock(nn.Module):
  """Convolution -> BatchNorm -> dropout -> activation -> max-pool 2 x 2.

  BatchNorm's statistics are those of the convolution's whole output, but its
  scaling and what follows, all monotone in each channel, come after the
  pooling: four times fewer values are normalised and kept. Where the scale is
  negative, minima are wanted: such a channel's filter is negated before and
  its maxima after.

  Attributes:
    channels: output channels.
    kernel: extent in time and frequency.
    padding: zeros on either side, in time and frequency.
    stride: of the convolution, in time and frequency.
    activation: a monotone function that leaves 0 as it is.
    dropout: the share of whole channels dropped.
    form: a key of `FORMS`; strides other than 1 are for `direct` alone.
    bias: whether the convolution has a bias. BatchNorm removes it from all but
      the running mean; it is there to count parameters as PyTorch does.
    axis_name: a mapped axis that the batch is split over, if any.
  """

  channels: int
  kernel: tuple[int, int]
  padding: tuple[int, int] = (0, 0)
  stride: int = 1
  activation: Callable = nn.relu
  dropout: float = 0.0
  form: str = "direct"
  bias: bool = False
  axis_name: str | None = None

  def __post_init__(self):
    """Checks the form.

    Raises:
      ValueError: a form that does not exist, or not with such a stride.
    """
    if self.form not in FORMS or (self.stride != 1 and self.form != "direct"):
      raise ValueError(
        f"form={self.form!r} with stride={self.stride}: forms are "
        f"{', '.join(FORMS)}, and strides other than 1 need direct"
      )
    super().__post_init__()

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
    time, frequency = self.padding
    x = jnp.pad(x, ((0, 0), (time, time), (frequency, frequency), (0, 0)))
    lengths = conv_lengths(lengths, self.kernel[0], time, self.stride)
    mask = valid_frames(
      lengths, (x.shape[1] - self.kernel[0]) // self.stride + 1
    )
    sign = jnp.where(scale >= 0, 1.0, -1.0)
    form = FORMS[self.form]
    if self.stride != 1:
      form = _pooled(functools.partial(conv, stride=self.stride))
    pooled, (mean, variance, count) = form(
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
    out = pooled * factor[None, None, None] + (offset + shift)[None, None, None]
    out = self.activation(
      Dropout(self.dropout, (1, 2), self.axis_name)(out, train=train)
    )
    lengths = lengths // POOL
    return zero_padding(out.astype(x.dtype), lengths), lengths
