"""Scans whose weights' gradients are one matrix product each.

A scan's transpose adds `h_t' dz_t` to a weight's gradient in every step: a thin
product that reads and writes the whole gradient. All `h_t` and `dz_t` are known
when the backward scan is done, and give the same sum as one product over all
steps. The backward loop is left with what is sequential.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

Left = Float[Array, "batch _"]
# A matrix and a bias, or None for none.
Weight = tuple[Float[Array, "_ _"], Float[Array, "_"] | None]
Product = Callable[[str, Left], Float[Array, "batch _"]]
Step = Callable[[Product, PyTree, PyTree, PyTree], tuple[PyTree, PyTree]]


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def scan(
  step: Step,
  weights: dict[str, Weight],
  constants: PyTree,
  carry: PyTree,
  xs: PyTree,
) -> tuple[PyTree, PyTree]:
  """`jax.lax.scan` of a step that multiplies states by weights.

  Args:
    step: `(product, constants, carry, x) -> (carry, y)`, where
      `product(name, left)` is `left @ matrix + bias` of a weight, each once.
      It must not close over what is trained.
    weights: matrices, and biases where there are.
    constants: what else every step reads.
    carry: before the first step.
    xs: inputs, steps first.

  Returns:
    The carry after the last step, and the outputs of all steps.
  """

  def body(carry, x):
    return step(functools.partial(_product, weights), constants, carry, x)

  return jax.lax.scan(body, carry, xs)


def _product(weights: dict[str, Weight], name: str, left: Left):
  matrix, bias = weights[name]
  y = left @ matrix
  return y if bias is None else y + bias[None]


def _forward(step: Step, weights: dict[str, Weight], constants, carry, xs):
  def run(probes, constants, carry, xs):
    def body(carry, item):
      x, probe = item
      lefts = {}

      def product(name, left):
        lefts[name] = left
        return _watch(_product(weights, name, left), probe[name])

      carry, y = step(product, constants, carry, x)
      return carry, (y, lefts)

    carry, (ys, lefts) = jax.lax.scan(body, carry, (xs, probes))
    return (carry, ys), lefts

  probes = _zeros(step, weights, constants, carry, xs)
  out, back, lefts = jax.vjp(run, probes, constants, carry, xs, has_aux=True)
  return out, (back, lefts, weights)


@jax.custom_jvp
def _watch(product: jax.Array, probe: jax.Array) -> jax.Array:
  """The product alone, but what reaches it backwards reaches the probe, too.

  As `product + probe` would, without a probe that takes room forwards.
  """
  del probe
  return product


_watch.defjvp(lambda values, moves: (values[0], moves[0] + moves[1]))


def _zeros(step: Step, weights: dict[str, Weight], constants, carry, xs):
  """A zero for each value of each product."""

  def one(carry, x):
    found = {}

    def product(name, left):
      found[name] = _product(weights, name, left)
      return found[name]

    step(product, constants, carry, x)
    return found

  found = jax.eval_shape(one, carry, jax.tree.map(lambda x: x[0], xs))
  steps = len(jax.tree.leaves(xs)[0])
  return {
    name: jnp.zeros((steps, *y.shape), y.dtype) for name, y in found.items()
  }


def _backward(step: Step, saved, cotangents) -> tuple[Any, ...]:
  back, lefts, weights = saved
  products, *others = back(cotangents)

  def gradient(name: str) -> Weight:
    matrix, bias = weights[name]
    left, of_product = (
      x.reshape(-1, x.shape[-1]) for x in (lefts[name], products[name])
    )
    of_matrix = (left.T @ of_product).astype(matrix.dtype)
    of_bias = (
      None if bias is None else of_product.sum(axis=0).astype(bias.dtype)
    )
    return of_matrix, of_bias

  return {name: gradient(name) for name in weights}, *others


scan.defvjp(_forward, _backward)
