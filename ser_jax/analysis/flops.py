"""Floating-point operations of one HLO instruction, from its shapes.

A multiply-add is two, an element of an arithmetic or transcendental result is
one; moving and converting data is none.
"""

import math
import re
from collections.abc import Sequence

import numpy as np

from ser_jax.analysis.hlo import Computation, Instruction, Shape

ARITHMETIC = frozenset(
  "abs add and atan2 cbrt ceil clamp compare cosine divide erf exponential "
  "exponential-minus-one floor is-finite log log-plus-one logistic maximum "
  "minimum multiply negate not or popcnt power remainder round-nearest-afz "
  "round-nearest-even rsqrt select shift-left shift-right-arithmetic "
  "shift-right-logical sign sine sqrt subtract tan tanh xor".split()
)
MATMUL_CALLS = ("__cublas$", "__onednn$matmul")
CONVOLUTION_CALLS = {
  "__cudnn$convForward": (0, 1, None),
  "__cudnn$convBiasActivationForward": (0, 1, None),
  "__cudnn$convBackwardInput": (None, 1, 0),
  "__cudnn$convBackwardFilter": (0, None, 1),
}


def call_target(instruction: Instruction) -> str:
  """What a custom call calls; empty for any other instruction."""
  found = re.search(r'custom_call_target="([^"]*)"', instruction.attributes)
  return found.group(1) if found else ""


def flops(instruction: Instruction, computation: Computation) -> int:
  """Operations of an instruction that calls no computation.

  Args:
    instruction: any but a fusion, a call or a loop.
    computation: where its operands are.

  Returns:
    The count; 0 for a custom call that is neither a product nor a convolution.
  """
  opcode, size = instruction.opcode, instruction.size
  operands = [computation[name].shapes[0] for name in instruction.operands
              if computation[name].shapes]  # fmt: skip
  if opcode == "dot":
    return _dot(instruction, operands[0])
  if opcode == "convolution":
    return _convolution(
      instruction, operands[0], operands[1], instruction.shapes[0]
    )
  if opcode == "custom-call":
    return _custom_call(instruction, operands)
  if opcode == "fft":
    return _fft(instruction, operands[0])
  if opcode == "reduce":
    count = len(operands) // 2
    return sum(s.size for s in operands[:count]) - size
  if opcode in ("reduce-window", "select-and-scatter"):
    # Of a maximum's gradient the second operand has the windows' positions.
    result = operands[1] if opcode != "reduce-window" else instruction.shapes[0]
    inside = _window_products(
      instruction,
      operands[0].dims,
      _numbers(instruction, "size"),
      result.dims,
    )
    return max(inside - result.size, 0)
  if opcode == "scatter":
    return operands[-1].size
  return size if opcode in ARITHMETIC else 0


def _dot(instruction: Instruction, left: Shape) -> int:
  """Twice the result's elements times the contracted length."""
  found = re.search(
    r'lhs_contracting_dim(?:s=\{|ensions":\[)([\d,"]*)', instruction.attributes
  )
  dims = re.findall(r"\d+", found.group(1)) if found else []
  contracted = math.prod(left.dims[int(d)] for d in dims)
  return 2 * instruction.shapes[0].size * contracted


def _custom_call(instruction: Instruction, operands: list[Shape]) -> int:
  target = call_target(instruction)
  if target.startswith(MATMUL_CALLS[1]):
    return 2 * instruction.shapes[0].size * operands[0].dims[-1]
  if target.startswith(MATMUL_CALLS[0]):
    return _dot(instruction, operands[0])
  if target in CONVOLUTION_CALLS:
    # One of the three arrays of the forward convolution is the result.
    arrays = [
      instruction.shapes[0] if place is None else operands[place]
      for place in CONVOLUTION_CALLS[target]
    ]
    return _convolution(instruction, *arrays)
  return 0


def _fft(instruction: Instruction, operand: Shape) -> int:
  """5 N log2 N for each complex transform, half of it for a real one."""
  found = re.search(r"fft_length=\{([\d,]*)\}", instruction.attributes)
  length = math.prod(map(int, found.group(1).split(",")))
  real = "RFFT" in instruction.attributes
  dims = max(operand.size, instruction.size) if real else instruction.size
  each = 5 * length * math.log2(max(length, 2)) / (2 if real else 1)
  return round(dims / length * each)


def _numbers(instruction: Instruction, field: str) -> list[int]:
  """A field of the window, such as `size=3x3`."""
  found = re.search(rf"[{{ ]{field}=([-\dx]+)", instruction.attributes)
  return [int(n) for n in found.group(1).split("x")] if found else []


def _convolution(
  instruction: Instruction, left: Shape, right: Shape, result: Shape
) -> int:
  """Twice the products of a value and a weight; padding costs nothing.

  Args:
    instruction: for its window, labels and groups.
    left: what is convolved.
    right: the kernel.
    result: the outcome of the forward convolution.

  Returns:
    The count.
  """
  labels = re.search(
    r"dim_labels=(\w+)_(\w+)->(\w+)", instruction.attributes
  ).groups()
  of_left, of_right, of_result = (
    dict(zip(label, shape.dims, strict=True))
    for label, shape in zip(labels, (left, right, result), strict=True)
  )
  places = sorted(label for label in of_left if label.isdigit())
  products = _window_products(
    instruction,
    *[[dims[p] for p in places] for dims in (of_left, of_right, of_result)],
  )
  groups = {
    kind: int(found.group(1))
    if (
      found := re.search(rf"{kind}_group_count=(\d+)", instruction.attributes)
    )
    else 1
    for kind in ("feature", "batch")
  }
  features = of_left["f"] // groups["feature"] * of_result["f"]
  return 2 * features * (of_left["b"] // groups["batch"]) * products


def _window_products(
  instruction: Instruction,
  inputs: Sequence[int],
  window: Sequence[int],
  outputs: Sequence[int],
) -> int:
  """Pairs of an output and a place in its window that meet an input.

  Args:
    instruction: for its stride, padding and dilation.
    inputs: dimensions that the window moves over.
    window: its size along each.
    outputs: its positions along each.

  Returns:
    The count over all dimensions.
  """
  count = len(inputs)
  stride = _numbers(instruction, "stride") or [1] * count
  left_dilate = _numbers(instruction, "lhs_dilate") or [1] * count
  right_dilate = _numbers(instruction, "rhs_dilate") or [1] * count
  found = re.search(r"[{ ]pad=([-\d_x]+)", instruction.attributes)
  pads = found.group(1).split("x") if found else ["0_0"] * count
  return math.prod(
    _valid_products(
      inputs[axis],
      window[axis],
      outputs[axis],
      stride=stride[axis],
      padding=int(pads[axis].split("_")[0]),
      left_dilate=left_dilate[axis],
      right_dilate=right_dilate[axis],
    )
    for axis in range(count)
  )


def _valid_products(
  inputs: int,
  kernel: int,
  outputs: int,
  *,
  stride: int,
  padding: int,
  left_dilate: int,
  right_dilate: int,
) -> int:
  """Pairs of an output and a tap, along one axis, that meet an input."""
  # Loop over the shorter of the two, so that long kernels stay cheap.
  taps = np.arange(kernel) * right_dilate - padding
  starts = np.arange(outputs) * stride
  few, many = sorted((taps, starts), key=len)
  total = 0
  for one in few:
    position = one + many
    inside = (position >= 0) & (position <= (inputs - 1) * left_dilate)
    total += int(np.sum(inside & (position % left_dilate == 0)))
  return total
