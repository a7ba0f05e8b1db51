"""Long one-dimensional convolutions, and the front end for raw waveforms.

`[batch, time, channels]`, as long after a convolution as before ('same', zeros
around). Two forms compute the same (tested):

    direct   one XLA convolution: short kernels, and what accelerators are for
    fft      products of spectra, block by block: kernels of some tens of taps
             and more on CPUs (40 x 40 channels x 40 taps: forwards 1.4, with
             gradients 2 times as fast on 2 cores), of thousands anywhere
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import scipy.fft
from jaxtyping import Array, Complex, Float, Int

from ser_jax.nn.masking import zero_padding

Signal = Float[Array, "batch time inputs"]
Filtered = Float[Array, "batch time outputs"]
Kernel = Float[Array, "taps inputs outputs"]
FORMS = ("direct", "fft")


def conv1d(
  x: Signal, kernel: Kernel | Float[Array, "taps 1 outputs"], form: str
) -> Filtered:
  """Convolves along time; output step t sees steps around t.

  Args:
    x: the signal.
    kernel: as many input channels as the signal, or one: then each channel has
      a filter of its own (depthwise).
    form: one of `FORMS`.

  Returns:
    A signal of equal length.
  """
  if form == "fft":
    single = (x.astype(jnp.float32), kernel.astype(jnp.float32))
    return _fft(*single).astype(x.dtype)
  taps, inputs, _ = kernel.shape
  return jax.lax.conv_general_dilated(
    x,
    kernel,
    (1,),
    [((taps - 1) // 2, taps // 2)],
    dimension_numbers=("NWC", "WIO", "NWC"),
    feature_group_count=x.shape[-1] // inputs,
  )


def _fft(x: Signal, kernel: Float[Array, "taps _ outputs"]) -> Filtered:
  """Overlap-save: spectra of blocks that share `taps - 1` samples."""
  taps, length = len(kernel), x.shape[1]
  size = scipy.fft.next_fast_len(max(4 * taps, 512), real=True)
  size = min(size, scipy.fft.next_fast_len(length + taps - 1, real=True))
  step = size - taps + 1
  count = -(-length // step)
  before = (taps - 1) // 2
  padded = size if count == 1 else (count + 1) * step
  x = jnp.pad(x, ((0, 0), (before, padded - length - before), (0, 0)))
  if count == 1:
    blocks = x[:, None]
  else:
    steps = x.reshape(len(x), count + 1, step, -1)
    blocks = jnp.concatenate([steps[:, :-1], steps[:, 1:, : taps - 1]], axis=2)
  spectra = jnp.fft.rfft(jnp.moveaxis(blocks, 2, -1))
  product = _multiply(
    spectra.reshape(-1, *spectra.shape[2:]),
    jnp.fft.rfft(jnp.moveaxis(kernel, 0, -1), size),
  )
  y = jnp.moveaxis(jnp.fft.irfft(product, size)[..., :step], 1, -1)
  return y.reshape(len(x), count * step, -1)[:, :length]


def _multiply(
  x: Complex[Array, "batch inputs frequency"],
  kernel: Complex[Array, "_ outputs frequency"],
) -> Complex[Array, "batch outputs frequency"]:
  """The spectra's product, conjugated: a correlation, as in all networks.

  One real matrix product a frequency, faster than a complex one on CPUs.
  """
  if len(kernel) == 1:
    each = kernel.shape[1] // x.shape[1]
    return jnp.repeat(x, each, axis=1) * jnp.conj(kernel)
  x, kernel = jnp.moveaxis(x, -1, 0), jnp.moveaxis(kernel, -1, 0)
  real, imaginary = kernel.real, kernel.imag
  whole = jnp.concatenate(
    [
      jnp.concatenate([real, -imaginary], axis=-1),
      jnp.concatenate([imaginary, real], axis=-1),
    ],
    axis=1,
  )
  y = jnp.concatenate([x.real, x.imag], axis=-1) @ whole
  real, imaginary = jnp.split(y, 2, axis=-1)
  return jnp.moveaxis(jax.lax.complex(real, imaginary), 0, -1)


class WaveformFrontEnd(nn.Module):
  """Samples in frames -> features in frames (Trigeorgis et al. 2016, 3.1).

  Convolution, rectification and max-pooling in time, twice a convolution, then
  max-pooling across neighbouring channels; what is left of a frame's steps and
  channels is flattened.

  Attributes:
    filters: of either convolution.
    taps: of either kernel, in samples at its rate.
    pool_time: steps that are pooled after the first convolution.
    pool_channels: channels that are pooled after the second.
    framed: whether each frame is convolved on its own, zeros around it, or the
      whole utterance at once.
    depthwise: whether the second convolution filters each channel alone.
    rectify: whether either convolution is rectified.
    forms: of either convolution, see `conv1d`.
  """

  filters: tuple[int, int] = (40, 40)
  taps: tuple[int, int] = (20, 40)
  pool_time: int = 2
  pool_channels: int = 10
  framed: bool = True
  depthwise: bool = False
  rectify: tuple[bool, bool] = (True, True)
  forms: tuple[str, str] = ("direct", "direct")

  def __post_init__(self):
    """Checks every choice.

    Raises:
      ValueError: a form that does not exist, or sizes that do not divide.
    """
    for form in self.forms:
      if form not in FORMS:
        raise ValueError(f"forms has {form!r}, which is none of {FORMS}")
    if self.filters[1] % self.pool_channels:
      raise ValueError(
        f"filters={self.filters} must end in a multiple of "
        f"pool_channels={self.pool_channels}"
      )
    if self.depthwise and self.filters[1] % self.filters[0]:
      raise ValueError(
        f"filters={self.filters} must be a multiple of each other, depthwise"
      )
    super().__post_init__()

  @nn.compact
  def __call__(
    self,
    x: Float[Array, "batch frames samples"],
    lengths: Int[Array, "batch"],
  ) -> Float[Array, "batch frames dim"]:
    """Filters utterances.

    Args:
      x: samples in frames, zero past each utterance.
      lengths: valid frames.

    Returns:
      `samples / pool_time * filters / pool_channels` features a frame, zero
      past each utterance.
    """
    shape = x.shape
    y = x.reshape(-1, shape[2] if self.framed else shape[1] * shape[2], 1)
    for number in range(2):
      y = self._filter(y, number)
      if number == 0:
        y = _max_pool(y, self.pool_time)
        # The bias fills the padding, which the next convolution would see.
        frames = y.reshape(*shape[:2], -1)
        y = zero_padding(frames, lengths).reshape(y.shape)
    pooled = y.reshape(*y.shape[:2], -1, self.pool_channels).max(axis=-1)
    return zero_padding(pooled.reshape(*shape[:2], -1), lengths)

  def _filter(self, x: Signal, number: int) -> Filtered:
    """One convolution, and its rectification."""
    outputs = self.filters[number]
    inputs = 1 if self.depthwise and number else x.shape[-1]
    draw = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
    kernel = self.param(
      f"kernel_{number}", draw, (self.taps[number], inputs, outputs)
    )
    bias = self.param(f"bias_{number}", nn.initializers.zeros, (outputs,))
    y = conv1d(x, kernel, self.forms[number]) + bias[None, None]
    return nn.relu(y) if self.rectify[number] else y


def _max_pool(
  x: Float[Array, "batch time dim"], size: int
) -> Float[Array, "batch pooled dim"]:
  """Max-pooling in time, without overlap."""
  return x.reshape(len(x), -1, size, x.shape[-1]).max(axis=2)
