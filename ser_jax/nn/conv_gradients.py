"""One-dimensional convolutions whose gradients CPUs can compute within loops.

XLA's fast convolution on CPUs takes one layout. XLA brings others into it, but
not within loops, and JAX's gradient by a kernel has another: in a scan over
training steps or microbatches it takes a hundred times as long.

    direct     XLA's convolution and JAX's gradients: for accelerators
    canonical  the same values, all in the layout `b0f_0io->b0f`: for CPUs

Either is a `conv_general_dilated` of `flax.linen.Conv`.
"""

import functools

import jax
from jaxtyping import Array, Float

Signal = Float[Array, "batch time inputs"]
Kernel = Float[Array, "kernel inputs outputs"]
Convolved = Float[Array, "batch out_time outputs"]

# Layouts in which what is asked for comes out of the canonical one.
_VALUE = ("NWC", "WIO", "NWC")
_OF_SIGNAL = ("NWC", "WOI", "NWC")
_OF_KERNEL = ("CWN", "IWO", "WNC")


def canonical(
  x: Signal, kernel: Kernel, strides, padding, **options
) -> Convolved:
  """`jax.lax.conv_general_dilated` in Flax's layout, differentiable backwards.

  Args:
    x: signals.
    kernel: filters.
    strides: as there.
    padding: as there.
    **options: as there; `dimension_numbers` are those of the shapes above.

  Returns:
    The filtered signals.
  """
  del options["dimension_numbers"]
  options |= {"window_strides": strides, "padding": padding}
  return _convolved(x, kernel, tuple(options.items()))


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _convolved(x: Signal, kernel: Kernel, options: tuple) -> Convolved:
  return _laid(x, kernel, options, _VALUE)


def _laid(x: Array, kernel: Array, options: tuple, layout: tuple) -> Array:
  return jax.lax.conv_general_dilated(
    x, kernel, dimension_numbers=layout, **dict(options)
  )


def _backward(options: tuple, saved, gradient: Convolved):
  x, kernel = saved
  turned, wide = kernel.transpose(0, 2, 1), kernel.transpose(1, 0, 2)
  of_x = jax.linear_transpose(
    lambda x: _laid(x, turned, options, _OF_SIGNAL), x
  )
  of_kernel = jax.linear_transpose(
    lambda k: _laid(x.transpose(2, 1, 0), k, options, _OF_KERNEL), wide
  )
  (to_x,) = of_x(gradient)
  (to_kernel,) = of_kernel(gradient.transpose(1, 0, 2))
  return to_x, to_kernel.transpose(1, 0, 2)


_convolved.defvjp(
  lambda x, kernel, options: (_convolved(x, kernel, options), (x, kernel)),
  _backward,
)

CONVOLUTIONS = {"direct": jax.lax.conv_general_dilated, "canonical": canonical}


def check_convolution(name: str) -> None:
  """Refuses what is not one of `CONVOLUTIONS`.

  Raises:
    ValueError: it is not.
  """
  if name not in CONVOLUTIONS:
    raise ValueError(
      f"convolution={name!r} must be one of {', '.join(CONVOLUTIONS)}"
    )
