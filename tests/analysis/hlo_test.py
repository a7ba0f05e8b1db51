"""HLO as other backends write it, read from text."""

import pytest

from ser_jax.analysis import cost, flops, hlo

HEAD = "HloModule jit_step, is_scheduled=true, num_partitions=8"


def module(*lines, head=HEAD):
  body = "\n".join(f"  {line}" for line in lines)
  return hlo.parse(
    f"{head}\n\nENTRY %main (p: f32[1]) -> f32[1] {{\n{body}\n}}"
  )


def test_an_instruction_and_its_parts():
  found = module(
    "%p = (s32[], /*index=1*/bf16[4,8]{1,0:T(8,128)}) parameter(0)",
    "%w = bf16[4,8]{1,0} get-tuple-element(%p), index=1",
    "ROOT %t.1 = bf16[8,4]{0,1} transpose(%w), dimensions={1,0}, "
    'metadata={op_name="jit(step)/transpose"}',
  ).computations["main"]
  assert found["p"].shapes == (
    hlo.Shape("s32", ()),
    hlo.Shape("bf16", (4, 8)),
  )
  assert found["p"].bytes == 4 + 2 * 32
  assert found["t.1"].operands == ("w",)
  assert found["t.1"].source == "jit(step)/transpose"
  assert found["t.1"].root


def test_text_without_a_program_is_refused():
  with pytest.raises(ValueError, match="no entry"):
    hlo.parse("HloModule empty")


def test_a_cublas_product():
  found = module(
    "%x = bf16[32,64]{1,0} parameter(0)",
    "%w = bf16[64,128]{1,0} parameter(1)",
    "ROOT %c = (bf16[32,128]{1,0}, s8[4096]{0}) custom-call(%x, %w), "
    'custom_call_target="__cublas$lt$matmul", backend_config='
    '{"gemm_backend_config":{"dot_dimension_numbers":'
    '{"lhs_contracting_dimensions":["1"],"rhs_contracting_dimensions":["0"]}}}',
  )
  (op,), _ = cost.count(found)
  assert op.flops == {"matmul": 2 * 32 * 64 * 128}
  # Its 4096 bytes of scratch space are not moved.
  assert op.bytes == 2 * (32 * 64 + 64 * 128 + 32 * 128)
  assert (op.category, op.dtype) == ("matmul", "bf16")


def test_a_cudnn_convolution_s_filter_gradient():
  """The filter's gradient takes as many products as the convolution."""
  found = module(
    "%x = f32[2,3,10,10]{3,2,1,0} parameter(0)",
    "%dy = f32[2,5,8,8]{3,2,1,0} parameter(1)",
    "ROOT %c = (f32[5,3,3,3]{3,2,1,0}, u8[999]{0}) custom-call(%x, %dy), "
    "window={size=3x3}, dim_labels=bf01_oi01->bf01, "
    'custom_call_target="__cudnn$convBackwardFilter"',
  )
  (op,), _ = cost.count(found)
  assert op.flops == {"convolution": 2 * 2 * 5 * 3 * 8 * 8 * 9}
  assert op.bytes == 4 * (2 * 3 * 10 * 10 + 2 * 5 * 8 * 8 + 5 * 3 * 3 * 3)


def test_an_unknown_call_keeps_its_name():
  found = module(
    "%x = f32[4]{0} parameter(0)",
    'ROOT %c = f32[4]{0} custom-call(%x), custom_call_target="my_kernel"',
  )
  (op,), _ = cost.count(found)
  assert (op.category, op.target, op.flops) == ("custom call", "my_kernel", {})


@pytest.mark.parametrize(
  ("line", "payload", "wire"),
  [
    # Rings of 4 of the 8 devices: 2 (n - 1) / n of what is reduced, n - 1 of
    # one's own part for a gather, (n - 1) / n for a scatter.
    ("all-reduce-start(%x), replica_groups=[2,4]<=[8], to_apply=%a", 400, 600),
    ("all-gather(%x), replica_groups={{0,1,2,3},{4,5,6,7}}", 400, 1200),
    ("reduce-scatter(%x), replica_groups=[2,4]<=[8], to_apply=%a", 400, 300),
    ("all-reduce(%x), replica_groups={}, to_apply=%a", 400, 700),
    ("collective-permute(%x), source_target_pairs={{0,1}}", 400, 400),
  ],
)
def test_bytes_that_collectives_send(line, payload, wire):
  found = module(
    "%x = f32[100]{0} parameter(0)", f"ROOT %c = f32[100]{{0}} {line}"
  )
  (op,), _ = cost.count(found)
  assert (op.category, op.payload, op.wire) == ("collective", payload, wire)


def test_the_end_of_what_began_costs_nothing():
  found = module(
    "%x = f32[100]{0} parameter(0)",
    "%s = f32[100]{0} all-reduce-start(%x), replica_groups={}, to_apply=%a",
    "ROOT %d = f32[100]{0} all-reduce-done(%s)",
  )
  ops, _ = cost.count(found)
  assert [op.opcode for op in ops] == ["all-reduce"]


@pytest.mark.parametrize(
  ("result", "line", "moved"),
  [
    ("f32[100]", "all-reduce-start(%x), to_apply=%a", 800),
    ("(f32[100], f32[100], u32[])", "copy-start(%x)", 804),
    ("(f32[100], f32[400])", "all-gather-start(%x), replica_groups={}", 2000),
    (
      "(f32[100], f32[100], u32[], u32[])",
      "collective-permute-start(%x), source_target_pairs={{0,1}}",
      808,
    ),
  ],
)
def test_what_begins_reads_and_writes_once(result, line, moved):
  """Operands and results; a context of 4 bytes is left in."""
  found = module(
    "%x = f32[100]{0} parameter(0)",
    f"ROOT %s = {result} {line}",
    head=HEAD.replace("8", "4"),
  )
  (op,), _ = cost.count(found)
  assert op.bytes == moved


FUSED = """HloModule jit_step

%fused (p: f32[32,64], w: f32[64,16]) -> f32[32,16] {
  %p = f32[32,64]{1,0} parameter(0)
  %w = f32[64,16]{1,0} parameter(1)
  %d = f32[32,16]{1,0} dot(%p, %w), lhs_contracting_dims={1}
  ROOT %t = f32[32,16]{1,0} tanh(%d)
}

%wrapped (p: f32[32,64], w: f32[64,16]) -> f32[32,16] {
  %a = f32[32,64]{1,0} parameter(0)
  %b = f32[64,16]{1,0} parameter(1)
  ROOT %f = f32[32,16]{1,0} fusion(%a, %b), kind=kOutput, calls=%fused
}

ENTRY %main (x: f32[32,64], y: f32[64,16]) -> f32[32,16] {
  %x = f32[32,64]{1,0} parameter(0)
  %y = f32[64,16]{1,0} parameter(1)
  %s = ((f32[32,64], f32[64,16]), f32[32,16], s32[]) BEGINS
  ROOT %e = f32[32,16]{1,0} END(%s)
}"""


@pytest.mark.parametrize(
  ("begins", "end"),
  [
    ("fusion-start(%x, %y), kind=kOutput, calls=%fused", "fusion-done"),
    ("async-start(%x, %y), calls=%wrapped", "async-done"),
    ("call-start(%x, %y), to_apply=%wrapped", "call-done"),
  ],
)
def test_what_runs_beside_others_is_counted(begins, end):
  found = hlo.parse(FUSED.replace("BEGINS", begins).replace("END", end))
  (op,), _ = cost.count(found)
  assert op.opcode == "fusion"
  assert op.flops == {"matmul": 2 * 32 * 64 * 16, "elementwise": 32 * 16}
  assert op.bytes == 4 * (32 * 64 + 64 * 16 + 32 * 16)


def test_products_of_a_long_kernel_are_counted_quickly():
  """Same padding, 96,000 samples, 4,000 taps: products at the ends lack."""
  found = flops._valid_products(
    96_000,
    4_000,
    96_000,
    stride=1,
    padding=1_999,
    left_dilate=1,
    right_dilate=1,
  )
  missing = sum(range(1, 2_000)) + sum(range(1, 2_001))
  assert found == 96_000 * 4_000 - missing
