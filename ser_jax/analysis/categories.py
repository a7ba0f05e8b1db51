"""What kinds of work there are, and of which an HLO instruction is."""

import re

from ser_jax.analysis.flops import (
  ARITHMETIC,
  CONVOLUTION_CALLS,
  MATMUL_CALLS,
  call_target,
)
from ser_jax.analysis.hlo import Instruction

# A fusion is of the first category that one of its instructions is of.
CATEGORIES = {
  "collective": frozenset(
    "all-reduce all-gather reduce-scatter all-to-all collective-permute "
    "collective-broadcast ragged-all-to-all".split()
  ),
  "matmul": frozenset(("dot",)),
  "convolution": frozenset(("convolution",)),
  "fft": frozenset(("fft",)),
  "sort": frozenset(("sort", "topk")),
  "gather, scatter": frozenset(("gather", "scatter")),
  "reduction": frozenset(("reduce", "reduce-window", "select-and-scatter")),
  "elementwise": ARITHMETIC | {"map"},
  "random": frozenset(("rng-bit-generator", "rng", "rng-get-and-update-state")),
  "custom call": frozenset(("custom-call",)),
}
DATA_MOVEMENT = "data movement"
PRODUCTS = ("matmul", "convolution")
# TPUs' names for memory that other instructions fill, and for promises.
FREE_CALLS = ("AllocateBuffer", "ConcatBitcast", "AssumeGatherIndicesInBound")


def category(instruction: Instruction) -> str:
  """What an instruction does, a key of `CATEGORIES`, or data movement."""
  target = call_target(instruction)
  if target.startswith(MATMUL_CALLS):
    return "matmul"
  if target in CONVOLUTION_CALLS:
    return "convolution"
  if target in FREE_CALLS:
    return DATA_MOVEMENT
  if instruction.opcode == "convolution" and _is_product(instruction):
    return "matmul"
  return next(
    (
      name
      for name, opcodes in CATEGORIES.items()
      if instruction.opcode in opcodes
    ),
    DATA_MOVEMENT,
  )


def _is_product(convolution: Instruction) -> bool:
  """Whether it is a product of matrices, which TPUs write as convolutions."""
  labels = re.search(r"dim_labels=(\S*?)_", convolution.attributes)
  flat = labels is not None and not re.search(r"\d", labels.group(1))
  return flat or convolution.source.endswith("/dot_general")
