"""Scans whose weights' gradients are one matrix product each.

A scan's transpose adds `h_t' dz_t` to a weight's gradient in every step: a thin
product that reads and writes the whole gradient. All `h_t` and `dz_t` are known
when the backward scan is done, and give the same sum as one product over all
steps. The backward loop is left with what is sequential.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

Rows = Float[Array, "*batch _"]
# A matrix and a bias, or None for none.
Weight = tuple[Float[Array, "_ _"], Float[Array, "_"] | None]
Inputs = dict[str, Float[Array, "_ _ _"]]
Product = Callable[[str, Rows], Rows]
Step = Callable[[Product, PyTree, PyTree, PyTree], tuple[PyTree, PyTree]]


def hoisted(
  weights: dict[str, Weight], inputs: Inputs
) -> tuple[dict[str, Weight], Inputs]:
  """Multiplies all steps' inputs at once, before a scan.

  Args:
    weights: of a scan.
    inputs: of the same.

  Returns:
    The weights left for the loop, and the products, in place of the inputs.
  """
  rest = {name: weights[name] for name in weights.keys() - inputs.keys()}
  return rest, {name: _product(x, weights[name]) for name, x in inputs.items()}


def scan(
  step: Step,
  weights: dict[str, Weight],
  constants: PyTree,
  carry: PyTree,
  inputs: Inputs,
  xs: PyTree,
  unroll: int = 1,
) -> tuple[PyTree, PyTree]:
  """`jax.lax.scan` of a step that multiplies inputs and states by weights.

  Args:
    step: `(product, constants, carry, (inputs, x)) -> (carry, y)`, where
      `product(name, left)` is `left @ matrix + bias` of a weight, each once,
      and the inputs are products already. It must not close over what is
      trained.
    weights: matrices, and biases where there are.
    constants: what else every step reads.
    carry: before the first step.
    inputs: by the weight that they are multiplied by in each step, or were
      before (`hoisted`); steps first.
    xs: what else each step has to itself, steps first.
    unroll: steps in one iteration of the loop. On GPUs what would be kernels of
      several steps, such as writing down what they keep, become one.

  Returns:
    The carry after the last step, and the outputs of all steps.
  """

  def read(product, constants, carry, item):
    inputs, x = item
    done = {
      name: product(name, left) if name in weights else left
      for name, left in inputs.items()
    }
    return step(product, constants, carry, (done, x))

  return _scan(read, unroll, weights, constants, carry, (inputs, xs))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _scan(
  step: Step, unroll: int, weights: dict[str, Weight], constants, carry, xs
):
  def body(carry, x):
    def product(name, left):
      return _product(left, weights[name])

    return step(product, constants, carry, x)

  return jax.lax.scan(body, carry, xs, unroll=unroll)


def _product(left: Rows, weight: Weight) -> Rows:
  matrix, bias = weight
  # In a row: the matrix' gradient is one product without copies, too.
  *shape, size = left.shape
  y = left.reshape(math.prod(shape), size) @ matrix
  y = y.reshape(*shape, matrix.shape[-1])
  return y if bias is None else y + jnp.expand_dims(bias, range(y.ndim - 1))


def _forward(
  step: Step, unroll: int, weights: dict[str, Weight], constants, carry, xs
):
  def run(probes, constants, carry, xs):
    # Gates are computed again backwards, products are not: on GPUs each value
    # that a step keeps is a kernel of its own.
    @functools.partial(
      jax.checkpoint,
      policy=jax.checkpoint_policies.dots_saveable,
      prevent_cse=False,
    )
    def watched(probe, constants, carry, x):
      lefts = {}

      def product(name, left):
        lefts[name] = left
        return _watched(left, weights[name], turned[name], probe[name])

      carry, y = step(product, constants, carry, x)
      return carry, (y, lefts)

    def body(carry, item):
      x, probe = item
      return watched(probe, constants, carry, x)

    carry, (ys, lefts) = jax.lax.scan(body, carry, (xs, probes), unroll=unroll)
    return (carry, ys), lefts

  turned = {name: matrix.T for name, (matrix, _) in weights.items()}
  probes = _zeros(step, weights, constants, carry, xs)
  out, back, lefts = jax.vjp(run, probes, constants, carry, xs, has_aux=True)
  return out, (back, lefts, weights)


@jax.custom_jvp
def _watched(
  left: Rows, weight: Weight, turned: Float[Array, "_ _"], probe: Rows
) -> Rows:
  """The product alone, but what reaches it backwards reaches the probe, too.

  As `product + probe` would, without a probe that takes room forwards. The
  transpose of the matrix lies ready for the way back: on CPUs a few rows times
  a matrix that is read across its rows take four times as long.
  """
  del turned, probe
  return _product(left, weight)


@_watched.defjvp
def _moves(values, moves):
  # The weight has its gradient from all steps at once, see `_backward`.
  left, weight, turned, _ = values
  of_left, _, _, of_probe = moves
  of_product = jnp.tensordot(of_left, turned, (-1, -1))
  return _product(left, weight), of_product + of_probe


def _zeros(step: Step, weights: dict[str, Weight], constants, carry, xs):
  """A zero for each value of each product."""

  def one(carry, x):
    found = {}

    def product(name, left):
      found[name] = _product(left, weights[name])
      return found[name]

    step(product, constants, carry, x)
    return found

  found = jax.eval_shape(one, carry, jax.tree.map(lambda x: x[0], xs))
  steps = len(jax.tree.leaves(xs)[0])
  return {
    name: jnp.zeros((steps, *y.shape), y.dtype) for name, y in found.items()
  }


def _backward(step: Step, unroll: int, saved, cotangents) -> tuple[Any, ...]:
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


_scan.defvjp(_forward, _backward)
