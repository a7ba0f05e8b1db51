"""Weights' gradients outside of the loop against jax.lax.scan's own."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ser_jax.nn.scan import hoisted, scan

STEPS, BATCH, DIM, HIDDEN = 7, 3, 4, 5


def draw(seed, *shape):
  return jnp.asarray(
    np.random.default_rng(seed).normal(size=shape), jnp.float32
  )


WEIGHTS = {
  "recurrent": (draw(0, HIDDEN, HIDDEN), None),
  "kernel": (draw(1, DIM, HIDDEN), draw(2, HIDDEN)),
}
CONSTANTS, CARRY = draw(3, HIDDEN), draw(4, BATCH, HIDDEN)
# Whole numbers have no gradient, and are in the way of none.
XS = draw(5, STEPS, BATCH, DIM), jnp.arange(STEPS)


def step(product, scale, h, x):
  inputs, number = x
  h = jnp.tanh(product("recurrent", h) + scale[None] * inputs["kernel"])
  return h, h * number


def plain(step, weights, constants, carry, inputs, xs):
  def product(name, left):
    matrix, bias = weights[name]
    return left @ matrix + (0.0 if bias is None else bias[None])

  def body(h, x):
    inputs, x = x
    inputs = {name: product(name, left) for name, left in inputs.items()}
    return step(product, constants, h, (inputs, x))

  return jax.lax.scan(body, carry, (inputs, xs))


def before(step, weights, constants, carry, inputs, xs):
  weights, inputs = hoisted(weights, inputs)
  return scan(step, weights, constants, carry, inputs, xs)


def unrolled(*arguments):
  return scan(*arguments, unroll=3)  # which the steps do not divide by


def loss(run, weights, constants, carry, x):
  end, ys = run(step, weights, constants, carry, {"kernel": x}, XS[1])
  return jnp.sum(end * draw(6, BATCH, HIDDEN)) + jnp.sum(jnp.sin(ys)), ys


@pytest.mark.parametrize("run", [scan, before, unrolled])
def test_gradients_are_those_of_a_plain_scan(run):
  grad = jax.jit(
    jax.grad(loss, argnums=(1, 2, 3, 4), has_aux=True), static_argnums=0
  )
  found, wanted = (
    grad(run, WEIGHTS, CONSTANTS, CARRY, XS[0]) for run in (run, plain)
  )
  assert jax.tree.structure(found) == jax.tree.structure(wanted)
  for one, other in zip(*map(jax.tree.leaves, (found, wanted)), strict=True):
    assert other.any()
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_stacked_runs_are_single_runs():
  grad = jax.grad(
    lambda weights, x: loss(scan, weights, CONSTANTS, CARRY, x)[0]
  )
  weights = jax.tree.map(lambda x: jnp.stack([x, -x]), WEIGHTS)
  both = jax.jit(jax.vmap(grad, in_axes=(0, None)))(weights, XS[0])
  for number in range(2):
    one = jax.jit(grad)(jax.tree.map(lambda x: x[number], weights), XS[0])  # noqa: B023
    for found, wanted in zip(*map(jax.tree.leaves, (both, one)), strict=True):
      np.testing.assert_allclose(found[number], wanted, rtol=1e-3, atol=1e-4)


def test_the_loop_backwards_holds_no_gradient_of_a_weight():
  """Whoever closes over a weight, or saves it, finds it in there again."""

  def made(run):
    jaxpr = jax.make_jaxpr(jax.grad(loss, argnums=1, has_aux=True), 0)(
      run, WEIGHTS, CONSTANTS, CARRY, XS[0]
    )
    return {
      value.aval.shape
      for equation in jaxpr.eqns
      if equation.primitive.name == "scan"
      for value in equation.outvars
    }

  assert (HIDDEN, HIDDEN) in made(plain)
  assert not {(HIDDEN, HIDDEN), (DIM, HIDDEN)} & made(scan)


def test_no_product_reads_a_weight_across_its_rows():
  """Few rows by such a matrix take CPUs several times as long."""

  def read(run):
    jaxpr = jax.make_jaxpr(jax.grad(loss, argnums=(3, 4), has_aux=True), 0)(
      run, WEIGHTS, CONSTANTS, CARRY, XS[0]
    )
    loops = str([e for e in jaxpr.eqns if e.primitive.name == "scan"])
    return set(re.findall(r"dimension_numbers=\(\(.*?, (.*?)\), ", loops))

  assert read(plain) == {"[0]", "[1]"}
  assert read(scan) == {"[0]"}
