"""Bytes that instructions move: through memory, and over links."""

import re

from ser_jax.analysis.categories import PRODUCTS, category
from ser_jax.analysis.hlo import Instruction, Module

_SLICES = ("dynamic-slice", "slice", "gather")


def moved(module: Module, name: str, instruction: Instruction) -> int:
  """Bytes read and written by one execution."""
  operands = module.operands(name, instruction)
  if instruction.opcode == "fusion":
    return _fusion_bytes(module, instruction, operands)
  if instruction.opcode in _SLICES:
    return 2 * instruction.bytes + sum(x.bytes for x in operands[1:])
  if instruction.opcode == "dynamic-update-slice":
    return 2 * operands[1].bytes
  if instruction.opcode == "scatter":
    return 2 * operands[-1].bytes + operands[1].bytes
  written = instruction.bytes
  if category(instruction) in PRODUCTS:
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
  root = module.result(called)
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
  return module.result(module.entry).bytes + sum(
    _argument_read(module, module.entry, parameter)
    for parameter in module.parameters(module.entry).values()
  )


def _argument_read(
  module: Module, name: str, value: Instruction, handed_on: str = ""
) -> int:
  """Bytes read of an argument by what uses it; never more than all.

  Args:
    module: the program.
    name: of the computation.
    value: the argument there.
    handed_on: the name of a user that reads nothing.

  Returns:
    The bytes.
  """
  total = 0
  for user in module.computations[name].values():
    if value.name not in user.operands or user.name == handed_on:
      continue
    if user.opcode == "bitcast":
      total += _argument_read(module, name, user)
    elif user.opcode == "fusion":
      called = user.called("calls")
      parameters = module.parameters(called)
      total += sum(
        _read(module.computations[called], parameters[number])
        for number in _places(value, user)
      )
    elif user.opcode in _SLICES and user.operands[0] == value.name:
      total += user.bytes
    elif user.opcode == "tuple" and not user.root:
      total += _read_by_loops(module, name, user, _places(value, user))
    else:
      return value.bytes
  return min(total, value.bytes)


def _places(value: Instruction, user: Instruction) -> list[int]:
  """Which operands of an instruction a value is."""
  return [n for n, name in enumerate(user.operands) if name == value.name]


def _read_by_loops(
  module: Module, name: str, state: Instruction, places: list[int]
) -> int:
  """Bytes read of values that are in the state of loops, by those loops."""
  whole = sum(module.operands(name, state)[n].bytes for n in places)
  total = 0
  for loop in _users(module, name, state):
    if loop.opcode != "while":
      return whole
    body, condition = loop.called("body"), loop.called("condition")
    after = module.result(body)
    (inside,), (tested,) = (
      module.parameters(each).values() for each in (body, condition)
    )
    elsewhere = _users(module, name, loop) + _users(module, condition, tested)
    values = _users(module, body, inside)
    known = {x.opcode for x in (*values, *elsewhere)} <= {"get-tuple-element"}
    if after.opcode != "tuple" or not known:
      return whole
    if any(_place(value) in places for value in elsewhere):
      return whole
    for value in values:
      if _place(value) not in places:
        continue
      if after.operands[_place(value)] != value.name:
        return whole
      once = _argument_read(module, body, value, handed_on=after.name)
      total += (module.trips(loop) or 1) * once
  return total


def _users(module: Module, name: str, value: Instruction) -> list[Instruction]:
  """What takes a value in a computation."""
  found = module.computations[name].values()
  return [one for one in found if value.name in one.operands]


def _place(element: Instruction) -> int:
  """Which part of a tuple a `get-tuple-element` gets."""
  return int(re.search(r"\bindex=(\d+)", element.attributes).group(1))


def sent(
  module: Module, name: str, instruction: Instruction
) -> tuple[int, float]:
  """A collective's payload, and what a device sends for it."""
  if category(instruction) != "collective":
    return 0, 0.0
  payload = sum(x.bytes for x in module.operands(name, instruction))
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
