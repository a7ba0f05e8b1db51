"""Gradient reversal (Ganin and Lempitsky 2015): the adversary's only door."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


@jax.custom_vjp
def reverse_gradient(
  x: Float[Array, "*shape"], strength: Float[Array, ""]
) -> Float[Array, "*shape"]:
  """The identity, whose gradient is multiplied by minus the strength.

  What comes after learns at its full rate to do its work; what comes before
  learns, at a rate of `strength`, to undo it.

  Args:
    x: any values.
    strength: lambda, which may be traced, and -1 for no reversal at all; it
      gets no gradient.

  Returns:
    `x`.
  """
  del strength
  return x


def _forward(x, strength):
  return x, strength


def _backward(strength, gradient):
  return -strength.astype(gradient.dtype) * gradient, jnp.zeros_like(strength)


reverse_gradient.defvjp(_forward, _backward)
