"""Long one-dimensional convolutions.

`[batch, time, channels]`, as long after a convolution as before ('same', zeros
around). Three forms compute the same (tested):

    direct   one XLA convolution: short kernels, and what accelerators are for
    blocked  CPU, for one or few input channels: one matrix product of blocks
             of samples with the kernel at every place in a block
    fft      products of spectra, block by block: kernels of some tens of taps
             and more on CPUs, of thousands anywhere

A form is a chain of steps, each linear in the signal and in what it holds of
the kernel, so that the kernel is laid out once for many signals.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import scipy.fft
from jaxtyping import Array, Complex, Float, Inexact

from ser_jax.nn.direct import convolution

Signal = Float[Array, "batch time inputs"]
Filtered = Float[Array, "batch time outputs"]
Kernel = Float[Array, "taps inputs outputs"]
Laid = tuple[Inexact[Array, "..."], ...]
# Real parts of all channels, then imaginary ones.
Spectra = Float[Array, "frequency blocks parts"]
FORMS = ("direct", "blocked", "fft")
BLOCK = 16  # steps that one row of a blocked product gives
SHORTEST = 320  # block of an FFT


class Step(NamedTuple):
  """One step of a convolution.

  Attributes:
    apply: of the kernel and a signal, or what the step before made of it.
    kernel: laid out for the step; empty if it needs none.
  """

  apply: Callable[[Laid, Any], Any]
  kernel: Laid = ()

  def __call__(self, x: Any) -> Any:
    """Applies the step."""
    return self.apply(self.kernel, x)


def prepare(
  kernel: Kernel, form: str, length: int, inputs: int
) -> tuple[Step, ...]:
  """The steps of a convolution along time; output step t sees steps around t.

  Args:
    kernel: as many input channels as the signals, or one: then each channel has
      a filter of its own (depthwise).
    form: one of `FORMS`.
    length: time steps of its signals.
    inputs: channels of its signals.

  Returns:
    The steps, to be applied one after the other.

  Raises:
    ValueError: a depthwise kernel in blocks.
  """
  if form == "fft":
    return _by_fft(kernel, length, inputs)
  if form == "blocked":
    if kernel.shape[1] != inputs:
      raise ValueError("depthwise kernels have no blocked form")
    return _by_blocks(kernel)
  return (Step(_direct, (kernel,)),)


def _direct(kernel: Laid, x: Signal) -> Filtered:
  taps, inputs, _ = kernel[0].shape
  padding = (((taps - 1) // 2, taps // 2),)
  groups = x.shape[2] // inputs
  return convolution(x, kernel[0], (1,), padding, feature_group_count=groups)


def _by_blocks(kernel: Kernel) -> tuple[Step]:
  """Rows of `BLOCK` steps and the steps they see, times a Toeplitz matrix."""
  taps, inputs, outputs = kernel.shape
  width = BLOCK + taps - 1
  shifts = -(-width // BLOCK)
  places = [
    jnp.pad(kernel, ((place, width - taps - place), (0, 0), (0, 0)))
    for place in range(BLOCK)
  ]
  matrix = jnp.stack(places, axis=2).reshape(width * inputs, BLOCK * outputs)

  def convolve(matrix: Laid, x: Signal) -> Filtered:
    batch, length, _ = x.shape
    count, before = -(-length // BLOCK), (taps - 1) // 2
    after = (count + shifts - 1) * BLOCK - length - before
    x = jnp.pad(x, ((0, 0), (before, after), (0, 0)))
    rows = x.reshape(batch, count + shifts - 1, BLOCK * inputs)
    seen = jnp.concatenate(
      [rows[:, shift : shift + count] for shift in range(shifts)], axis=-1
    )
    y = seen[..., : width * inputs].reshape(-1, width * inputs) @ matrix[0]
    return y.reshape(batch, count * BLOCK, outputs)[:, :length]

  return (Step(convolve, (matrix,)),)


def _by_fft(kernel: Kernel, length: int, inputs: int) -> tuple[Step, ...]:
  """Overlap-save: spectra of blocks that share `taps - 1` samples.

  Longer blocks share less, but have more frequencies, each with a matrix of
  its own to lay out and to sum gradients of. What is hardly longer than a
  block is one.
  """
  taps, _, outputs = kernel.shape
  size = scipy.fft.next_fast_len(max(4 * taps, SHORTEST), real=True)
  whole = scipy.fft.next_fast_len(length + taps - 1, real=True)
  size = whole if 4 * whole <= 5 * size else size
  step = size - taps + 1
  count = -(-length // step)
  before = (taps - 1) // 2
  padded = size if count == 1 else (count + 1) * step

  def spectra(_: Laid, x: Signal) -> Complex[Array, "blocks inputs frequency"]:
    y = x.astype(jnp.float32)
    y = jnp.pad(y, ((0, 0), (before, padded - length - before), (0, 0)))
    if count == 1:
      blocks = y[:, None]
    else:
      steps = y.reshape(len(y), count + 1, step, -1)
      blocks = jnp.concatenate(
        [steps[:, :-1], steps[:, 1:, : taps - 1]], axis=2
      )
    blocks = jnp.moveaxis(blocks, 2, -1).reshape(-1, inputs, size)
    return jnp.fft.rfft(blocks)

  def signal(
    _: Laid, y: Complex[Array, "blocks outputs frequency"]
  ) -> Filtered:
    y = jnp.moveaxis(jnp.fft.irfft(y, size)[..., :step], 1, 2)
    y = y.reshape(-1, count * step, outputs)[:, :length]
    return y.astype(kernel.dtype)

  found = jnp.fft.rfft(jnp.moveaxis(kernel.astype(jnp.float32), 0, -1), size)
  if kernel.shape[1] != inputs:
    return Step(spectra), Step(_each, (found[0],)), Step(signal)
  return (
    Step(lambda none, x: _parts(spectra(none, x))),
    _mixed(found),
    Step(lambda none, y: signal(none, _joined(y))),
  )


def _each(
  kernel: Laid, x: Complex[Array, "blocks inputs frequency"]
) -> Complex[Array, "blocks outputs frequency"]:
  """The product of spectra, conjugated, each channel with its own filters.

  A correlation, as in all networks.
  """
  times = kernel[0].shape[0] // x.shape[1]
  return jnp.repeat(x, times, axis=1) * jnp.conj(kernel[0])[None]


def _parts(x: Complex[Array, "blocks inputs frequency"]) -> Spectra:
  """Frequencies first, real and imaginary parts side by side."""
  x = jnp.moveaxis(x, -1, 0)
  return jnp.concatenate([x.real, x.imag], axis=-1)


def _joined(y: Spectra) -> Complex[Array, "blocks outputs frequency"]:
  """Undoes `_parts`."""
  return jnp.moveaxis(jax.lax.complex(*jnp.split(y, 2, axis=-1)), 0, -1)


def _mixed(kernel: Complex[Array, "inputs outputs frequency"]) -> Step:
  """The product of spectra, conjugated, over all channels.

  One real matrix product a frequency, faster than a complex one on CPUs.
  """
  kernel = jnp.moveaxis(kernel, -1, 0)
  real, imaginary = kernel.real, kernel.imag
  whole = jnp.concatenate(
    [
      jnp.concatenate([real, -imaginary], axis=-1),
      jnp.concatenate([imaginary, real], axis=-1),
    ],
    axis=1,
  )
  back = jnp.swapaxes(jax.lax.stop_gradient(whole), 1, 2)
  return Step(lambda kernel, x: _product(x, *kernel), (whole, back))


@jax.custom_vjp
def _product(
  x: Spectra,
  kernel: Float[Array, "frequency parts outputs"],
  back: Float[Array, "frequency outputs parts"],
) -> Float[Array, "frequency blocks outputs"]:
  """`x @ kernel`; `back` is the kernel transposed, for the backward pass.

  So it is laid out once, and not for every signal.
  """
  del back
  return x @ kernel


def _product_backward(saved, gradient):
  x, back = saved
  return gradient @ back, jnp.swapaxes(x, 1, 2) @ gradient, None


_product.defvjp(
  lambda x, kernel, back: (x @ kernel, (x, back)), _product_backward
)
