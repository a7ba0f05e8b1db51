"""Convolutions whose gradients are fast in loops: XLA's values, one layout."""

import functools
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ser_jax.nn.direct import convolution
from tests.compiling import AS_TRAININGS

CONVOLUTIONS = {"xla": jax.lax.conv_general_dilated, "ours": convolution}
CANONICAL = {1: {"b0f_0io->b0f"}, 2: {"b01f_01io->b01f"}}
SHAPES = {
  "plain": {},
  "padded": {"padding": ((2, 1),)},
  "strided": {"strides": (2,), "padding": ((2, 2),)},
  "strided, nothing padded": {"strides": (3,), "padding": "VALID"},
  "dilated": {"kernel_dilation": (3,), "padding": "SAME"},
  "two dimensions": {
    **{"kernel_size": (3, 4), "strides": (2, 1), "padding": "VALID"},
  },
}


def make(which, options, x):
  """A loss of a layer's parameters and input, and the parameters."""
  layer = nn.Conv(
    7,
    options.get("kernel_size", (5,)),
    conv_general_dilated=CONVOLUTIONS[which],
    **{k: v for k, v in options.items() if k != "kernel_size"},
  )

  def loss(params, x):
    return jnp.sum(layer.apply(params, x) ** 3)

  return loss, layer.init(jax.random.key(1), x)


def layouts(loss, params, x):
  """Of all convolutions in a compiled scan over steps of descent."""

  def step(params, _):
    gradient = jax.grad(loss)(params, x)
    return jax.tree.map(lambda p, g: p - 0.1 * g, params, gradient), None

  @jax.jit
  def descend(params):
    return jax.lax.scan(step, params, None, length=3)[0]

  text = descend.lower(params).compile(AS_TRAININGS).as_text()
  return set(re.findall(r"dim_labels=([\w>-]+)", text))


def draw(options):
  """An input of as many dimensions as the kernel."""
  space = (23,) if "kernel_size" not in options else (13, 11)
  return jax.random.normal(jax.random.key(0), (4, *space, 6))


@pytest.mark.parametrize("options", SHAPES.values(), ids=SHAPES)
def test_values_and_gradients_are_xla_s(options):
  found, x = [], draw(options)
  for which in CONVOLUTIONS:
    loss, params = make(which, options, x)
    found.append(jax.value_and_grad(loss, (0, 1))(params, x))
  jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-6), *found)


@pytest.mark.parametrize("options", SHAPES.values(), ids=SHAPES)
@pytest.mark.skipif(
  jax.default_backend() != "cpu", reason="of XLA's convolutions on CPUs"
)
def test_loops_have_the_layout_of_the_fast_kernel(options):
  """Had XLA's own gradients it, too, there would be no use for ours."""
  x = draw(options)
  wanted = CANONICAL[x.ndim - 2]
  assert layouts(*make("ours", options, x), x) == wanted
  assert layouts(*make("xla", options, x), x) > wanted


def test_other_devices_have_xla_s_gradients():
  x = draw({})
  found = []
  for which in CONVOLUTIONS:
    loss, params = make(which, {}, x)
    traced = jax.jit(jax.grad(loss)).trace(params, x)
    text = traced.lower(lowering_platforms=("cuda",)).as_text()
    found.append(sorted(re.findall(r"dim_numbers = (\S+)", text)))
  assert found[0] == found[1] != []


def test_runs_side_by_side_are_runs_one_by_one():
  found, x = [], draw({})
  for which in CONVOLUTIONS:
    loss, params = make(which, {}, x)
    both = jax.tree.map(lambda p: jnp.stack([p, 2 * p]), params)
    found.append(jax.vmap(jax.grad(loss), (0, None))(both, x))
  jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5), *found)


def test_bfloat16_stays_bfloat16():
  x = draw({})
  loss, params = make("ours", {}, x)
  half = functools.partial(jax.tree.map, lambda x: x.astype(jnp.bfloat16))
  gradients = jax.tree.leaves(jax.grad(loss, (0, 1))(half(params), half(x)))
  assert {gradient.dtype for gradient in gradients} == {jnp.bfloat16.dtype}


def test_groups_are_xla_s():
  x, kernel = draw({}), jax.random.normal(jax.random.key(1), (5, 1, 6))
  options = {
    "dimension_numbers": ("NWC", "WIO", "NWC"),
    "feature_group_count": 6,
  }

  def gradient(convolve):
    return jax.grad(
      lambda kernel: jnp.sum(convolve(x, kernel, (1,), "SAME", **options) ** 2)
    )(kernel)

  np.testing.assert_array_equal(*map(gradient, CONVOLUTIONS.values()))
