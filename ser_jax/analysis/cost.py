"""What a compiled program does: every operation as often as it runs.

XLA's own `cost_analysis` counts the body of a loop once; here it counts as
often as XLA knows the loop to go round.
"""

import dataclasses
import re
from collections.abc import Iterator

from ser_jax.analysis.flops import (
  ARITHMETIC,
  CONVOLUTION_CALLS,
  MATMUL_CALLS,
  call_target,
  flops,
)
from ser_jax.analysis.hlo import Instruction, Module

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
# They name or pass values on; nothing is computed or moved.
_FREE = frozenset(
  "parameter constant tuple get-tuple-element bitcast after-all partition-id "
  "replica-id opt-barrier add-dependency domain".split()
)
_SLICES = ("dynamic-slice", "slice", "gather")


@dataclasses.dataclass(frozen=True)
class Op:
  """An instruction that the device executes.

  Attributes:
    name: in the HLO and in traces.
    opcode: of it.
    category: a key of `CATEGORIES`, or data movement.
    source: the JAX operation that it comes from.
    times: how often a step executes it.
    flops: by category, each time.
    bytes: read and written, each time; slices count as what they move.
    dtype: of a product's operands; empty without one.
    payload: bytes that a collective takes in, each time.
    wire: bytes that a device sends for it (ring algorithms), each time.
    target: what a custom call calls.
  """

  name: str
  opcode: str
  category: str
  source: str
  times: int
  flops: dict[str, int]
  bytes: int
  dtype: str = ""
  payload: int = 0
  wire: float = 0.0
  target: str = ""


@dataclasses.dataclass(frozen=True)
class Loop:
  """A while loop.

  Attributes:
    name: in the HLO and in traces.
    source: the JAX operation that it comes from.
    trips: iterations; None where XLA does not know, counted as one.
    times: how often a step starts it.
    ops: executed instructions of one iteration.
    flops: of one iteration.
    nesting: loops around it.
  """

  name: str
  source: str
  trips: int | None
  times: int
  ops: int
  flops: int
  nesting: int


def count(module: Module) -> tuple[list[Op], list[Loop]]:
  """Every executed instruction and every loop of a module, for one device."""
  ops, loops = [], []
  for found in _visit(module, module.entry, 1, 0):
    (ops if isinstance(found, Op) else loops).append(found)
  return ops, loops


def _visit(
  module: Module, name: str, times: int, nesting: int
) -> Iterator[Op | Loop]:
  """What a computation executes when it is called some times."""
  for instruction in module.computations[name].values():
    instruction = _waited_for(module, name, instruction)
    opcode = instruction.opcode
    if opcode in _FREE or opcode.endswith(("-done", "-update")):
      continue
    if opcode == "while":
      yield from _loop(module, instruction, times, nesting)
    elif opcode == "conditional":
      branches = [
        list(_visit(module, branch, times, nesting))
        for branch in _branches(instruction)
      ]
      yield from max(branches, key=_weight)
    elif opcode in ("call", "async"):
      called = instruction.called("to_apply") or instruction.called("calls")
      yield from _visit(module, called, times, nesting)
    else:
      yield _op(module, name, instruction, times)


def _waited_for(
  module: Module, name: str, instruction: Instruction
) -> Instruction:
  """What begins an operation (`copy-start`), as the operation itself.

  Its result names the operands again, before what is computed.
  """
  opcode = instruction.opcode.removesuffix("-start")
  if opcode == instruction.opcode:
    return instruction
  shapes = instruction.shapes
  again = sum(len(x.shapes) for x in _operands(module, name, instruction))
  if len(shapes) > again:
    shapes = shapes[again:]
  return dataclasses.replace(instruction, opcode=opcode, shapes=shapes)


def _loop(
  module: Module, instruction: Instruction, times: int, nesting: int
) -> Iterator[Op | Loop]:
  found = re.search(r'known_trip_count":\{"n":"(\d+)"', instruction.attributes)
  condition = instruction.called("condition")
  trips = int(found.group(1)) if found else _bound(module, condition)
  rounds = 1 if trips is None else trips
  body = list(
    _visit(module, instruction.called("body"), times * rounds, nesting + 1)
  )
  every = times * rounds or 1
  inside = [op for op in body if isinstance(op, Op)]
  yield Loop(
    name=instruction.name,
    source=instruction.source,
    trips=trips,
    times=times,
    ops=sum(op.times for op in inside) // every,
    flops=sum(sum(op.flops.values()) * op.times for op in inside) // every,
    nesting=nesting,
  )
  yield from body
  yield from _visit(module, condition, times * (rounds + 1), nesting + 1)


def _bound(module: Module, condition: str) -> int | None:
  """What a loop counts to, if its condition is `i < N`: TPUs say no more.

  JAX's loops with a bound count from 0.
  """
  computation = module.computations[condition]
  root = next(one for one in computation.values() if one.root)
  if root.opcode != "compare" or "direction=LT" not in root.attributes:
    return None
  limit = computation[root.operands[1]]
  return int(limit.inside) if limit.opcode == "constant" else None


def _branches(instruction: Instruction) -> list[str]:
  """The computations of a conditional."""
  found = re.search(r"branch_computations=\{([^}]*)\}", instruction.attributes)
  if found:
    return re.findall(r"%?([\w.\-]+)", found.group(1))
  return [instruction.called(f"{c}_computation") for c in ("true", "false")]


def _weight(found: list[Op | Loop]) -> int:
  """Which branch costs most: FLOPs and bytes."""
  return sum(
    (sum(op.flops.values()) + op.bytes) * op.times
    for op in found
    if isinstance(op, Op)
  )


def _op(module: Module, name: str, instruction: Instruction, times: int) -> Op:
  inner = list(_inner(module, name, instruction))
  counted: dict[str, int] = {}
  for one, where in inner:
    amount = flops(one, module.computations[where])
    if amount:
      kind = _category(one)
      counted[kind] = counted.get(kind, 0) + amount
  order = [*CATEGORIES, DATA_MOVEMENT]
  category = min((_category(one) for one, _ in inner), key=order.index)
  dtypes = [
    _operands(module, where, one)[0].shapes[0].dtype
    for one, where in inner
    if _category(one) in PRODUCTS
  ]
  payload, wire = _traffic(module, name, instruction)
  return Op(
    name=instruction.name,
    opcode=instruction.opcode,
    category=category,
    source=instruction.source,
    times=times,
    flops=counted,
    bytes=_bytes(module, name, instruction),
    dtype=dtypes[0] if dtypes else "",
    payload=payload,
    wire=wire,
    target=call_target(instruction),
  )


def _inner(
  module: Module, name: str, instruction: Instruction
) -> Iterator[tuple[Instruction, str]]:
  """The instructions that a fusion holds, or the instruction itself."""
  if instruction.opcode not in ("fusion", "call"):
    yield instruction, name
    return
  called = instruction.called("calls") or instruction.called("to_apply")
  for one in module.computations[called].values():
    yield from _inner(module, called, one)


def _category(instruction: Instruction) -> str:
  target = call_target(instruction)
  if target.startswith(MATMUL_CALLS):
    return "matmul"
  if target in CONVOLUTION_CALLS:
    return "convolution"
  return next(
    (
      name
      for name, opcodes in CATEGORIES.items()
      if instruction.opcode in opcodes
    ),
    DATA_MOVEMENT,
  )


def _operands(
  module: Module, name: str, instruction: Instruction
) -> list[Instruction]:
  computation = module.computations[name]
  return [computation[operand] for operand in instruction.operands]


def _bytes(module: Module, name: str, instruction: Instruction) -> int:
  """Bytes read and written by one execution."""
  operands = _operands(module, name, instruction)
  if instruction.opcode == "fusion":
    return _fusion_bytes(module, instruction, operands)
  if instruction.opcode in _SLICES:
    return 2 * instruction.bytes + sum(x.bytes for x in operands[1:])
  if instruction.opcode == "dynamic-update-slice":
    return 2 * operands[1].bytes
  if instruction.opcode == "scatter":
    return 2 * operands[-1].bytes + operands[1].bytes
  written = instruction.bytes
  if _category(instruction) in PRODUCTS:
    # Libraries' calls also name the scratch space that they are given.
    written = instruction.shapes[0].bytes
  return written + sum(x.bytes for x in operands)


def _fusion_bytes(
  module: Module, fusion: Instruction, operands: list[Instruction]
) -> int:
  """Bytes at a fusion's border; a slice of a large array is only the slice.

  The arrays of a scan are sliced and updated at each of its steps: counted
  whole, its traffic would be too large by the number of steps.
  """
  called = fusion.called("calls")
  computation = module.computations[called]
  total = 0
  for number, parameter in module.parameters(called).items():
    total += min(operands[number].bytes, _read(computation, parameter))
  root = next(one for one in computation.values() if one.root)
  results = (
    [computation[name] for name in root.operands]
    if root.opcode == "tuple"
    else [root]
  )
  return total + sum(_written(computation, result) for result in results)


def _read(computation, value: Instruction) -> int:
  """Bytes that a fusion reads of a value, whole unless only sliced."""
  total = 0
  for user in computation.values():
    if value.name not in user.operands:
      continue
    first = user.operands[0] == value.name
    if user.opcode == "bitcast":
      total += _read(computation, user)
    elif user.opcode in _SLICES and first:
      total += user.bytes
    elif user.opcode == "dynamic-update-slice" and first:
      continue  # updated in place
    else:
      return value.bytes
  return total


def _written(computation, result: Instruction) -> int:
  while result.opcode == "bitcast":
    result = computation[result.operands[0]]
  if result.opcode == "dynamic-update-slice":
    return computation[result.operands[1]].bytes
  return result.bytes


def border_bytes(module: Module) -> int:
  """Bytes that a program must read or write however well it is cached.

  Each argument once, or the slices of it that are read, and each result once.
  """
  computation = module.computations[module.entry]
  root = next(one for one in computation.values() if one.root)
  return root.bytes + sum(
    _argument_read(module, computation, parameter)
    for parameter in module.parameters(module.entry).values()
  )


def _argument_read(module: Module, computation, value: Instruction) -> int:
  """Bytes read of an argument by what uses it; never more than all."""
  total = 0
  for user in computation.values():
    if value.name not in user.operands:
      continue
    if user.opcode == "bitcast":
      total += _argument_read(module, computation, user)
    elif user.opcode == "fusion":
      called = user.called("calls")
      parameters = module.parameters(called)
      total += sum(
        _read(module.computations[called], parameters[number])
        for number, name in enumerate(user.operands)
        if name == value.name
      )
    elif user.opcode in _SLICES and user.operands[0] == value.name:
      total += user.bytes
    else:
      return value.bytes
  return min(total, value.bytes)


def _traffic(
  module: Module, name: str, instruction: Instruction
) -> tuple[int, float]:
  """A collective's payload, and what a device sends for it."""
  if _category(instruction) != "collective":
    return 0, 0.0
  payload = sum(x.bytes for x in _operands(module, name, instruction))
  size = _group_size(instruction.attributes, module.devices)
  share = (size - 1) / size
  return payload, payload * {
    "all-reduce": 2 * share,
    "all-gather": size - 1,
    "reduce-scatter": share,
    "all-to-all": share,
    "ragged-all-to-all": share,
  }.get(instruction.opcode, 1.0)


def _group_size(attributes: str, devices: int) -> int:
  """Devices that take part in one collective together."""
  if found := re.search(r"replica_groups=\{\{([\d,]*)\}", attributes):
    return len(found.group(1).split(","))
  if found := re.search(r"replica_groups=\[\d+,(\d+)\]", attributes):
    return int(found.group(1))
  return devices
