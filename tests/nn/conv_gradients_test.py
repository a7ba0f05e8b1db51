"""Convolutions with canonical gradients: the same values, one layout."""

import functools
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ser_jax.nn.conv_gradients import CONVOLUTIONS, check_convolution

CANONICAL = {"dim_labels=b0f_0io->b0f"}
SHAPES = {
  "plain": {},
  "padded": {"padding": ((2, 1),)},
  "strided": {"strides": (2,), "padding": ((2, 2),)},
  "strided, nothing padded": {"strides": (3,), "padding": "VALID"},
  "dilated": {"kernel_dilation": (3,), "padding": "SAME"},
}


def make(form, options, x):
  """A loss of a layer's parameters and input, and the parameters."""
  layer = nn.Conv(7, (5,), conv_general_dilated=CONVOLUTIONS[form], **options)

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

  text = descend.lower(params).compile().as_text()
  return set(re.findall(r"dim_labels=[\w>-]+", text))


@pytest.fixture
def x():
  return jax.random.normal(jax.random.key(0), (4, 23, 6))


@pytest.mark.parametrize("options", SHAPES.values(), ids=SHAPES)
def test_values_and_gradients_are_xla_s(x, options):
  found = []
  for form in CONVOLUTIONS:
    loss, params = make(form, options, x)
    found.append(jax.value_and_grad(loss, (0, 1))(params, x))
  jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-6), *found)


@pytest.mark.parametrize("options", SHAPES.values(), ids=SHAPES)
@pytest.mark.skipif(
  jax.default_backend() != "cpu", reason="of XLA's convolutions on CPUs"
)
def test_loops_have_the_layout_of_the_fast_kernel(x, options):
  """Were `direct` so, too, there would be no use for `canonical`."""
  assert layouts(*make("canonical", options, x), x) == CANONICAL
  assert layouts(*make("direct", options, x), x) > CANONICAL


def test_runs_side_by_side_are_runs_one_by_one(x):
  found = []
  for form in CONVOLUTIONS:
    loss, params = make(form, {}, x)
    both = jax.tree.map(lambda p: jnp.stack([p, 2 * p]), params)
    found.append(jax.vmap(jax.grad(loss), (0, None))(both, x))
  jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5), *found)


def test_bfloat16_stays_bfloat16(x):
  loss, params = make("canonical", {}, x)
  half = functools.partial(jax.tree.map, lambda x: x.astype(jnp.bfloat16))
  gradients = jax.grad(loss, (0, 1))(half(params), half(x))
  assert {g.dtype for g in jax.tree.leaves(gradients)} == {
    jnp.dtype("bfloat16")
  }


def test_another_name_is_refused():
  with pytest.raises(ValueError, match="'fast' must be one of direct, canon"):
    check_convolution("fast")
