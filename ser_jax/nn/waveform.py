"""Long one-dimensional convolutions, and the front end for raw waveforms.

`[batch, time, channels]`, as long after a convolution as before ('same', zeros
around). Three forms compute the same (tested):

    direct   one XLA convolution: short kernels, and what accelerators are for
    blocked  CPU, for one or few input channels: one matrix product of blocks
             of samples with the kernel at every place in a block
    fft      products of spectra, block by block: kernels of some tens of taps
             and more on CPUs, of thousands anywhere

Behind a blocked first convolution a front end takes one utterance after the
other, and computes again in the backward pass what is cheaper to compute than
to keep: what lies in between stays in the cache, and a CPU waits for memory
rather than for arithmetic.
"""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import scipy.fft
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Complex, Float, Int

from ser_jax.nn.masking import zero_padding
from ser_jax.nn.pooling import WINNERS, axis_max

Signal = Float[Array, "batch time inputs"]
Filtered = Float[Array, "batch time outputs"]
Kernel = Float[Array, "taps inputs outputs"]
Convolution = Callable[[Signal], Filtered]
FORMS = ("direct", "blocked", "fft")
BLOCK = 16  # steps that one row of a blocked product gives
KEPT = "kept"  # what the backward pass of an utterance finds in memory


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

  Raises:
    ValueError: a depthwise kernel in blocks.
  """
  return _prepare(kernel, form, *x.shape[1:])(x)


def _prepare(
  kernel: Kernel, form: str, length: int, inputs: int
) -> Convolution:
  """A convolution of signals of one length; the kernel is laid out once."""
  if form == "fft":
    return _by_fft(kernel, length)
  if form == "blocked":
    if kernel.shape[1] != inputs:
      raise ValueError("depthwise kernels have no blocked form")
    return _by_blocks(kernel)
  taps = len(kernel)

  def convolve(x: Signal) -> Filtered:
    return jax.lax.conv_general_dilated(
      x,
      kernel,
      (1,),
      [((taps - 1) // 2, taps // 2)],
      dimension_numbers=("NWC", "WIO", "NWC"),
      feature_group_count=inputs // kernel.shape[1],
    )

  return convolve


def _by_blocks(kernel: Kernel) -> Convolution:
  """Rows of `BLOCK` steps and the steps they see, times a Toeplitz matrix."""
  taps, inputs, outputs = kernel.shape
  shifts = -(-(BLOCK + taps - 1) // BLOCK)
  width = shifts * BLOCK
  places = [
    jnp.pad(kernel, ((place, width - taps - place), (0, 0), (0, 0)))
    for place in range(BLOCK)
  ]
  matrix = jnp.stack(places, axis=2).reshape(width * inputs, BLOCK * outputs)

  def convolve(x: Signal) -> Filtered:
    batch, length, _ = x.shape
    count, before = -(-length // BLOCK), (taps - 1) // 2
    after = (count + shifts - 1) * BLOCK - length - before
    x = jnp.pad(x, ((0, 0), (before, after), (0, 0)))
    rows = x.reshape(batch, count + shifts - 1, BLOCK * inputs)
    seen = jnp.concatenate(
      [rows[:, shift : shift + count] for shift in range(shifts)], axis=-1
    )
    y = seen.reshape(-1, width * inputs) @ matrix
    return y.reshape(batch, count * BLOCK, outputs)[:, :length]

  return convolve


def _by_fft(kernel: Kernel, length: int) -> Convolution:
  """Overlap-save: spectra of blocks that share `taps - 1` samples."""
  taps = len(kernel)
  size = scipy.fft.next_fast_len(max(4 * taps, 512), real=True)
  size = min(size, scipy.fft.next_fast_len(length + taps - 1, real=True))
  step = size - taps + 1
  count = -(-length // step)
  before = (taps - 1) // 2
  padded = size if count == 1 else (count + 1) * step
  single = kernel.astype(jnp.float32)
  multiply = _by_spectrum(jnp.fft.rfft(jnp.moveaxis(single, 0, -1), size))

  def convolve(x: Signal) -> Filtered:
    y = jnp.pad(
      x.astype(jnp.float32),
      ((0, 0), (before, padded - length - before), (0, 0)),
    )
    if count == 1:
      blocks = y[:, None]
    else:
      steps = y.reshape(len(y), count + 1, step, -1)
      blocks = jnp.concatenate(
        [steps[:, :-1], steps[:, 1:, : taps - 1]], axis=2
      )
    spectra = jnp.fft.rfft(jnp.moveaxis(blocks, 2, -1))
    product = multiply(spectra.reshape(-1, *spectra.shape[2:]))
    y = jnp.moveaxis(jnp.fft.irfft(product, size)[..., :step], 1, -1)
    return y.reshape(len(x), count * step, -1)[:, :length].astype(x.dtype)

  return convolve


def _by_spectrum(kernel: Complex[Array, "_ outputs frequency"]) -> Callable:
  """The spectra's product, conjugated: a correlation, as in all networks.

  One real matrix product a frequency, faster than a complex one on CPUs.
  """
  if len(kernel) == 1:

    def each(x):
      times = kernel.shape[1] // x.shape[1]
      return jnp.repeat(x, times, axis=1) * jnp.conj(kernel)

    return each
  kernel = jnp.moveaxis(kernel, -1, 0)
  real, imaginary = kernel.real, kernel.imag
  whole = jnp.concatenate(
    [
      jnp.concatenate([real, -imaginary], axis=-1),
      jnp.concatenate([imaginary, real], axis=-1),
    ],
    axis=1,
  )

  def multiply(x: Complex[Array, "batch inputs frequency"]):
    x = jnp.moveaxis(x, -1, 0)
    x = checkpoint_name(jnp.concatenate([x.real, x.imag], axis=-1), KEPT)
    real, imaginary = jnp.split(x @ whole, 2, axis=-1)
    return jnp.moveaxis(jax.lax.complex(real, imaginary), 0, -1)

  return multiply


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
    forms: of either convolution, see above.
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
    if self.depthwise and self.forms[1] == "blocked":
      raise ValueError("depthwise kernels have no blocked form")
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
    layers = [self._layer(number, x.shape) for number in range(2)]

    def filtered(x, lengths):
      shape = x.shape
      y = x.reshape(-1, self._length(shape), 1)
      for number, (convolve, bias) in enumerate(layers):
        y = convolve(y) + bias[None, None]
        if number == 0:
          y = y.reshape(len(y), -1, self.pool_time, y.shape[-1])
          y = axis_max(y, 2, self.rectify[0])
          # The bias fills the padding, which the next convolution would see.
          frames = y.reshape(*shape[:2], -1)
          y = zero_padding(frames, lengths).reshape(y.shape)
          y = checkpoint_name(y, KEPT)
      y = y.reshape(*y.shape[:2], -1, self.pool_channels)
      y = axis_max(y, 3, self.rectify[1])
      return zero_padding(y.reshape(*shape[:2], -1), lengths)

    if self.forms[0] != "blocked":
      return filtered(x, lengths)
    keep = jax.checkpoint_policies.save_only_these_names(KEPT, WINNERS)
    one = jax.checkpoint(
      lambda x, n: filtered(x[None], n[None])[0], policy=keep
    )
    return jax.lax.map(lambda utterance: one(*utterance), (x, lengths))

  def _length(self, shape: tuple[int, ...]) -> int:
    """Samples that are convolved as one signal."""
    return shape[2] if self.framed else shape[1] * shape[2]

  def _layer(
    self, number: int, shape: tuple[int, ...]
  ) -> tuple[Convolution, Float[Array, "outputs"]]:
    """One convolution and its bias."""
    length, channels, outputs = self._length(shape), 1, self.filters[number]
    if number:
      length, channels = length // self.pool_time, self.filters[0]
    inputs = 1 if self.depthwise and number else channels
    draw = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
    kernel = self.param(
      f"kernel_{number}", draw, (self.taps[number], inputs, outputs)
    )
    bias = self.param(f"bias_{number}", nn.initializers.zeros, (outputs,))
    return _prepare(kernel, self.forms[number], length, channels), bias
