"""Counts against work done by hand, and against XLA where it has no loops."""

import functools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from ser_jax.analysis import cost, hlo, traffic
from ser_jax.nn.recurrent import LSTM


def compiled(function, *shapes, **options):
  arguments = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
  return jax.jit(function, **options).lower(*arguments).compile()


def counted(program):
  return cost.count(hlo.parse(program.as_text()))


def total(ops, category):
  return sum(op.times * op.flops.get(category, 0) for op in ops)


def test_a_dense_layer():
  program = compiled(lambda x, w: x @ w, (8, 16), (16, 32))
  ops, loops = counted(program)
  assert loops == []
  assert total(ops, "matmul") == 2 * 8 * 16 * 32
  assert total(ops, "matmul") == program.cost_analysis()["flops"]
  assert sum(op.bytes for op in ops) == 4 * (8 * 16 + 16 * 32 + 8 * 32)


def test_elements_and_reductions():
  ops, _ = counted(compiled(lambda x: jnp.sum(jnp.tanh(x) * x), (50, 40)))
  assert total(ops, "elementwise") == 2 * 2000
  assert total(ops, "reduction") == pytest.approx(2000, abs=60)


@pytest.mark.parametrize("steps", [3, 17])
def test_a_scan_counts_every_step(steps):
  def scan(x, w):
    return jax.lax.scan(lambda h, _: (jnp.tanh(h @ w), None), x, None, steps)[0]

  program = compiled(scan, (4, 8), (8, 8))
  ops, (loop,) = counted(program)
  assert (loop.trips, loop.times, loop.nesting) == (steps, 1, 0)
  assert total(ops, "matmul") == steps * 2 * 4 * 8 * 8
  assert loop.flops >= 2 * 4 * 8 * 8 + 4 * 8
  # What this module is there for.
  assert program.cost_analysis()["flops"] < total(ops, "matmul")


def test_loops_inside_loops_multiply():
  def scan(x, w):
    def outer(h, _):
      return jax.lax.scan(lambda h, _: (jnp.tanh(h @ w), None), h, None, 5)

    return jax.lax.scan(outer, x, None, 3)[0]

  ops, loops = counted(compiled(scan, (4, 8), (8, 8)))
  assert sorted((each.nesting, each.trips, each.times) for each in loops) == [
    (0, 3, 1),
    (1, 5, 3),
  ]
  assert total(ops, "matmul") == 15 * 2 * 4 * 8 * 8


def test_a_loop_that_counts_never_asks_whether_to_go_on():
  def scan(x):
    return jax.lax.scan(lambda h, _: (jnp.sin(h) @ h, None), x, None, 50)[0]

  def search(x):
    return jax.lax.while_loop(lambda x: x.sum() < 9.0, lambda x: x + x, x)

  ops, (loop,) = counted(compiled(scan, (8, 8)))
  assert loop.trips == 50
  assert {op.times for op in ops} <= {1, 50}
  ops, (loop,) = counted(compiled(search, (8,)))
  assert max(op.times for op in ops) == 2  # once round, and at the end


def test_a_loop_counts_to_what_its_condition_says():
  """As TPUs' programs have it, which tell no trip counts."""

  def scan(x, w):
    return jax.lax.scan(lambda h, _: (jnp.tanh(h @ w), None), x, None, 5)[0]

  text = compiled(scan, (4, 8), (8, 8)).as_text()
  bare, count = re.subn(
    r"fusion\((%\S+), (%\S+)\), kind=kLoop, calls=%wrapped_compare\w*",
    r"compare(\1, \2), direction=LT",
    text.replace(',"known_trip_count":{"n":"5"}', ""),
  )
  assert count == 1 and "known_trip_count" not in bare
  ops, (loop,) = cost.count(hlo.parse(bare))
  assert loop.trips == 5
  assert total(ops, "matmul") == 5 * 2 * 4 * 8 * 8


def test_a_loop_of_unknown_length_says_so():
  def halve(x):
    return jax.lax.while_loop(lambda x: x[0] > 1.0, lambda x: x / 2, x)

  _, (loop,) = counted(compiled(halve, (4,)))
  assert loop.trips is None


def test_a_scan_moves_slices_not_whole_arrays():
  steps, width = 64, 256

  def scan(xs):
    return jax.lax.scan(lambda h, x: (jnp.sin(h) + x, h * 2), xs[0], xs)[1]

  ops, _ = counted(compiled(scan, (steps, width)))
  moved = sum(op.times * op.bytes for op in ops)
  whole = 4 * steps * width
  assert 2 * whole <= moved < 20 * whole  # counted whole: > 128


def test_a_branch_counts_as_the_larger():
  def either(flag, x, w):
    return jax.lax.cond(flag[0] > 0, lambda: x @ w @ w, lambda: x)

  ops, _ = counted(compiled(either, (1,), (4, 8), (8, 8)))
  assert total(ops, "matmul") == 2 * 2 * 4 * 8 * 8


@pytest.mark.parametrize("hoist", [False, True])
def test_an_lstm(hoist):
  """Gates of input and state: 2 x 4H x (D + H) a step and example."""
  batch, steps, dim, hidden = 2, 6, 3, 5
  layer = LSTM(hidden, hoist=hoist)
  x, lengths = jnp.zeros((batch, steps, dim)), jnp.full(batch, steps)
  variables = layer.init(jax.random.key(0), x, lengths)
  program = jax.jit(layer.apply).lower(variables, x, lengths).compile()
  ops, loops = counted(program)
  assert [each.trips for each in loops] == [steps]
  each = 2 * batch * 4 * hidden * (dim + hidden)
  assert total(ops, "matmul") == steps * each


CONVOLUTIONS = {
  "valid": {"padding": "VALID"},
  "same": {"padding": "SAME"},
  "strided": {"padding": ((2, 1), (0, 3)), "window_strides": (2, 3)},
  "dilated": {"padding": "SAME", "rhs_dilation": (2, 1)},
  "transposed": {"padding": ((3, 3), (2, 2)), "lhs_dilation": (2, 3)},
  "grouped": {"padding": "SAME", "feature_group_count": 2},
}


@pytest.mark.parametrize("options", CONVOLUTIONS.values(), ids=CONVOLUTIONS)
def test_convolutions(options):
  """A convolution of ones with ones sums to its number of products."""
  options = {"window_strides": (1, 1)} | options
  groups = options.get("feature_group_count", 1)
  convolve = functools.partial(
    jax.lax.conv_general_dilated,
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
    **options,
  )
  image, kernel = (2, 9, 8, 4), (3, 2, 4 // groups, 6)
  products = int(jnp.sum(convolve(jnp.ones(image), jnp.ones(kernel))))
  ops, _ = counted(compiled(convolve, image, kernel))
  assert total(ops, "convolution") == 2 * products


def test_the_gradients_of_a_convolution_cost_what_it_costs():
  def convolve(x, w):
    return jax.lax.conv_general_dilated(
      x, w, (2,), "SAME", dimension_numbers=("NHC", "HIO", "NHC")
    ).sum()

  image, kernel = (4, 16, 3), (5, 3, 8)
  ops, _ = counted(compiled(jax.grad(convolve, argnums=(0, 1)), image, kernel))
  # The sum's own convolution is not needed for its gradients.
  ones = jax.lax.conv_general_dilated(
    jnp.ones(image),
    jnp.ones(kernel),
    (2,),
    "SAME",
    dimension_numbers=("NHC", "HIO", "NHC"),
  )
  assert total(ops, "convolution") == 2 * 2 * int(ones.sum())


def test_a_fourier_transform():
  ops, _ = counted(compiled(lambda x: jnp.abs(jnp.fft.rfft(x)), (6, 64)))
  assert total(ops, "fft") == pytest.approx(6 * 2.5 * 64 * math.log2(64))


def test_donated_buffers_are_aliases():
  program = compiled(
    lambda x, y: (x + y, y * 2), (4, 8), (4, 8), donate_argnums=0
  )
  module = hlo.parse(program.as_text())
  assert module.aliases == (0,)
  assert module.parameters(module.entry)[0].bytes == 4 * 4 * 8


def test_a_sharded_product_reduces_over_the_devices():
  mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
  split = NamedSharding(mesh, PartitionSpec("data"))
  columns = NamedSharding(mesh, PartitionSpec(None, "data"))
  program = compiled(
    lambda x, w: x @ w,
    (8, 16),
    (16, 32),
    in_shardings=(columns, split),
    out_shardings=NamedSharding(mesh, PartitionSpec()),
  )
  module = hlo.parse(program.as_text())
  ops, _ = cost.count(module)
  (reduce,) = [op for op in ops if op.category == "collective"]
  assert module.devices == 4
  assert total(ops, "matmul") == 2 * 8 * 16 * 32 / 4
  assert reduce.payload == 4 * 8 * 32
  assert reduce.wire == 2 * 3 / 4 * 4 * 8 * 32


def test_arguments_count_once_however_often_they_are_read():
  def scan(x, w):
    return jax.lax.scan(lambda h, _: (jnp.tanh(h @ w), None), x, None, 50)[0]

  module = hlo.parse(compiled(scan, (4, 8), (8, 8)).as_text())
  assert traffic.border_bytes(module) == 4 * (4 * 8 + 8 * 8 + 4 * 8)


def test_of_a_resident_corpus_only_the_batch_is_read():
  program = compiled(
    lambda x: x[np.array([3, 1, 4]) + (x[0, 0] > 0).astype(int)], (1000, 64)
  )
  border = traffic.border_bytes(hlo.parse(program.as_text()))
  assert border < 10 * 4 * 3 * 64


GATHER = """HloModule gather

%turn (p: (s32[], f32[900,64], f32[1,64])) -> (s32[], f32[900,64], f32[1,64]) {
  %p = (s32[], f32[900,64], f32[1,64]) parameter(0)
  %i = s32[] get-tuple-element(%p), index=0
  %table = f32[900,64] get-tuple-element(%p), index=1
  %total = f32[1,64] get-tuple-element(%p), index=2
  %zero = s32[] constant(0)
  %row = f32[1,64] dynamic-slice(%table, %i, %zero), dynamic_slice_sizes={1,64}
  %sum = f32[1,64] add(%total, %row)
  %one = s32[] constant(1)
  %next = s32[] add(%i, %one)
  ROOT %after = (s32[], f32[900,64], f32[1,64]) tuple(%next, %table, %sum)
}

%go (q: (s32[], f32[900,64], f32[1,64])) -> pred[] {
  %q = (s32[], f32[900,64], f32[1,64]) parameter(0)
  %n = s32[] get-tuple-element(%q), index=0
  %five = s32[] constant(5)
  ROOT %less = pred[] compare(%n, %five), direction=LT
}

ENTRY %main (corpus: f32[900,64]) -> f32[1,64] {
  %corpus = f32[900,64] parameter(0)
  %start = s32[] constant(0)
  %empty = f32[1,64] constant({...})
  %state = (s32[], f32[900,64], f32[1,64]) tuple(%start, %corpus, %empty)
  %loop = (s32[],f32[900,64],f32[1,64]) while(%state), condition=%go, body=%turn
  ROOT %result = f32[1,64] get-tuple-element(%loop), index=2
}
"""


def test_of_what_a_loop_slices_only_the_slices_are_read():
  row, corpus = 4 * 64, 4 * 900 * 64
  assert traffic.border_bytes(hlo.parse(GATHER)) == (1 + 5) * row
  # Unless something behind the loop, or its condition, reads all of it.
  behind = GATHER.replace("(%loop), index=2", "(%loop), index=1")
  assert traffic.border_bytes(hlo.parse(behind)) == row + corpus
  asked = GATHER.replace("(%q), index=0", "(%q), index=1")
  assert traffic.border_bytes(hlo.parse(asked)) == row + corpus
  # Or each round has another.
  changed = GATHER.replace("tuple(%next, %table,", "tuple(%next, %other,")
  assert traffic.border_bytes(hlo.parse(changed)) == row + corpus
