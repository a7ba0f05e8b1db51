"""What a compiled program does: every operation as often as it runs.

XLA's own `cost_analysis` counts the body of a loop once; here it counts as
often as XLA knows the loop to go round.
"""

import dataclasses
import re
from collections.abc import Iterator

from ser_jax.analysis.categories import (
  CATEGORIES,
  DATA_MOVEMENT,
  FREE_CALLS,
  PRODUCTS,
  category,
)
from ser_jax.analysis.flops import call_target, flops
from ser_jax.analysis.hlo import Instruction, Module
from ser_jax.analysis.traffic import moved, sent

# They name or pass values on; nothing is computed or moved.
_FREE = frozenset(
  "parameter constant tuple get-tuple-element bitcast after-all partition-id "
  "replica-id opt-barrier add-dependency domain".split()
)


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
    if call_target(instruction) in FREE_CALLS:
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
  again = sum(len(x.shapes) for x in module.operands(name, instruction))
  if len(shapes) > again:
    shapes = shapes[again:]
  return dataclasses.replace(instruction, opcode=opcode, shapes=shapes)


def _loop(
  module: Module, instruction: Instruction, times: int, nesting: int
) -> Iterator[Op | Loop]:
  known = module.trips(instruction)
  rounds = 1 if known is None else known
  body = list(
    _visit(module, instruction.called("body"), times * rounds, nesting + 1)
  )
  every = times * rounds or 1
  inside = [op for op in body if isinstance(op, Op)]
  yield Loop(
    name=instruction.name,
    source=instruction.source,
    trips=known,
    times=times,
    ops=sum(op.times for op in inside) // every,
    flops=sum(sum(op.flops.values()) * op.times for op in inside) // every,
    nesting=nesting,
  )
  yield from body
  if not instruction.counted:  # else nobody asks
    condition = instruction.called("condition")
    yield from _visit(module, condition, times * (rounds + 1), nesting + 1)


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
      kind = category(one)
      counted[kind] = counted.get(kind, 0) + amount
  order = [*CATEGORIES, DATA_MOVEMENT]
  first = min((category(one) for one, _ in inner), key=order.index)
  dtypes = [
    module.operands(where, one)[0].shapes[0].dtype
    for one, where in inner
    if category(one) in PRODUCTS
  ]
  payload, wire = sent(module, name, instruction)
  return Op(
    name=instruction.name,
    opcode=instruction.opcode,
    category=first,
    source=instruction.source,
    times=times,
    flops=counted,
    bytes=moved(module, name, instruction),
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
