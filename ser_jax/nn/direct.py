"""XLA's convolution, whose gradients CPUs compute fast within loops, too.

XLA's fast convolution on CPUs takes one layout, `b0f_0io->b0f`. XLA brings
others into it, but not within loops, and JAX's gradient by a kernel has
another: in a scan over training steps or microbatches it takes a hundred times
as long. Here it is computed in that layout where the devices are CPUs; its
values are the same.
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Maps = Float[Array, "batch *space inputs"]
# Of grouped filters, the inputs of a group.
Kernel = Float[Array, "*kernel filtered outputs"]
Convolved = Float[Array, "batch *out_space outputs"]


def convolution(
  x: Maps, kernel: Kernel, strides, padding, **options
) -> Convolved:
  """`jax.lax.conv_general_dilated`, differentiated backwards alone.

  Gradients of grouped filters are JAX's.

  Args:
    x: channels last, as Flax has them.
    kernel: filters.
    strides: as there.
    padding: as there.
    **options: as there; `dimension_numbers` are those of the shapes above. For
      `conv_general_dilated` of `flax.linen.Conv`.

  Returns:
    The filtered signals or maps.
  """
  options |= {"window_strides": strides, "padding": padding}
  options["dimension_numbers"] = _layout("N*C", "*IO", "N*C", x.ndim)
  if options.get("feature_group_count", 1) > 1:
    return jax.lax.conv_general_dilated(x, kernel, **options)
  return _convolution(x, kernel, tuple(options.items()))


def _layout(x: str, kernel: str, out: str, rank: int) -> tuple[str, str, str]:
  """The names of dimensions, `*` being those of space."""
  space = "HWD"[: rank - 2]
  return tuple(names.replace("*", space) for names in (x, kernel, out))


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _convolution(x: Maps, kernel: Kernel, options: tuple) -> Convolved:
  return jax.lax.conv_general_dilated(x, kernel, **dict(options))


def _forward(x: Maps, kernel: Kernel, options: tuple):
  return _convolution(x, kernel, options), (x, kernel)


def _backward(options: tuple, saved, gradient: Convolved):
  return jax.lax.platform_dependent(
    *(*saved, gradient),
    cpu=functools.partial(_canonical, dict(options)),
    default=functools.partial(_usual, dict(options)),
  )


def _usual(options: dict, x: Maps, kernel: Kernel, gradient: Convolved):
  convolve = functools.partial(jax.lax.conv_general_dilated, **options)
  (of_x,) = jax.linear_transpose(lambda x: convolve(x, kernel), x)(gradient)
  by_kernel = jax.linear_transpose(lambda k: convolve(x, k), kernel)
  return of_x, *by_kernel(gradient)


def _canonical(options: dict, x: Maps, kernel: Kernel, gradient: Convolved):
  """Transposes of convolutions from whose layouts the canonical one comes."""

  def convolve(x, kernel, *layout):
    layout = {"dimension_numbers": _layout(*layout, x.ndim)}
    return jax.lax.conv_general_dilated(x, kernel, **options | layout)

  turned = jnp.swapaxes(kernel, -2, -1)
  by_x = jax.linear_transpose(
    lambda x: convolve(x, turned, "N*C", "*OI", "N*C"), x
  )
  swapped, wide = jnp.swapaxes(x, 0, -1), jnp.moveaxis(kernel, -2, 0)
  by_kernel = jax.linear_transpose(
    lambda k: convolve(swapped, k, "C*N", "I*O", "*NC"), wide
  )
  (of_x,) = by_x(gradient)
  (of_kernel,) = by_kernel(jnp.moveaxis(gradient, 0, -2))
  return of_x, jnp.moveaxis(of_kernel, 0, -2)


_convolution.defvjp(_forward, _backward)
