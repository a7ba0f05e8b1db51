"""Optimized HLO text -> computations and their instructions.

The format is that of `jax.stages.Compiled.as_text()`: the program of one
device, after XLA has partitioned and fused it.
"""

import dataclasses
import math
import re

BITS = {
  "pred": 8,
  **{f"{kind}{bits}": bits for kind in "su" for bits in (2, 4, 8, 16, 32, 64)},
  **{"f16": 16, "bf16": 16, "f32": 32, "f64": 64, "c64": 64, "c128": 128},
}
_SHAPE = re.compile(r"\b([a-z]+\d*[a-z\d]*)\[([\d,<=]*)\]")
_HEADER = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = (.*)$")
_ALIAS = re.compile(r"\{[\d, ]*\}: \((\d+), \{[\d, ]*\}, (?:may|must)-alias\)")
_COMMENT = re.compile(r"/\*.*?\*/")


@dataclasses.dataclass(frozen=True)
class Shape:
  """An array's element type and dimensions."""

  dtype: str
  dims: tuple[int, ...]

  @property
  def size(self) -> int:
    """Elements."""
    return math.prod(self.dims)

  @property
  def bytes(self) -> int:
    """Bytes; 0 for tokens and other things without data."""
    bits = 8 if self.dtype.startswith("f8") else BITS.get(self.dtype, 0)
    return self.size * bits // 8


@dataclasses.dataclass(frozen=True)
class Instruction:
  """One line of a computation.

  Attributes:
    name: unique within the module.
    opcode: such as `dot`.
    shapes: of the result; several for a tuple.
    operands: names of instructions of the same computation.
    inside: what stands between the opcode's brackets.
    attributes: what follows them.
    root: whether it is the computation's result.
  """

  name: str
  opcode: str
  shapes: tuple[Shape, ...]
  operands: tuple[str, ...]
  inside: str
  attributes: str
  root: bool

  @property
  def size(self) -> int:
    """Elements of the result."""
    return sum(shape.size for shape in self.shapes)

  @property
  def bytes(self) -> int:
    """Bytes of the result."""
    return sum(shape.bytes for shape in self.shapes)

  @property
  def source(self) -> str:
    """The JAX operation that it comes from, as XLA was told."""
    found = re.search(r'op_name="([^"]*)"', self.attributes)
    return found.group(1) if found else ""

  @property
  def counted(self) -> int | None:
    """Of a `while`: how often it goes round, where XLA wrote that down.

    Such loops count, and never compute their condition.
    """
    found = re.search(r'known_trip_count":\{"n":"(\d+)"', self.attributes)
    return int(found.group(1)) if found else None

  def called(self, role: str) -> str | None:
    """The computation called as `calls`, `to_apply`, `body`, `condition`."""
    found = re.search(rf"\b{role}=%?([\w.\-]+)", self.attributes)
    return found.group(1) if found else None


Computation = dict[str, Instruction]


@dataclasses.dataclass(frozen=True)
class Module:
  """A compiled program.

  Attributes:
    computations: by name; each a dict of instructions, in order.
    entry: the name of the one that is called.
    aliases: numbers of the parameters whose buffers results reuse.
    devices: that run it together.
  """

  computations: dict[str, Computation]
  entry: str
  aliases: tuple[int, ...]
  devices: int

  def parameters(self, name: str) -> dict[int, Instruction]:
    """Parameters of a computation by number."""
    return {
      int(instruction.inside): instruction
      for instruction in self.computations[name].values()
      if instruction.opcode == "parameter"
    }

  def operands(self, name: str, instruction: Instruction) -> list[Instruction]:
    """What an instruction of a computation takes."""
    computation = self.computations[name]
    return [computation[operand] for operand in instruction.operands]

  def result(self, name: str) -> Instruction:
    """The instruction whose value is a computation's."""
    return next(one for one in self.computations[name].values() if one.root)

  def trips(self, loop: Instruction) -> int | None:
    """How often a `while` goes round; None where XLA does not know.

    TPUs' programs say it in the condition alone, `i < N`; JAX's scans and
    loops with a bound count from 0 by 1, and others are taken to.
    """
    if loop.counted is not None:
      return loop.counted
    condition = loop.called("condition")
    test = self.result(condition)
    if test.opcode != "compare" or "direction=LT" not in test.attributes:
      return None
    limit = self.operands(condition, test)[1]
    whole = limit.opcode == "constant" and limit.inside.isdecimal()
    return int(limit.inside) if whole else None


def parse(text: str) -> Module:
  """Reads a module.

  Args:
    text: optimized HLO.

  Returns:
    Its computations.

  Raises:
    ValueError: the text has no entry computation.
  """
  computations, entry, current = {}, None, None
  head = text.partition("\n")[0]
  for line in text.splitlines():
    if match := _HEADER.match(line):
      current = computations.setdefault(match.group(2), {})
      entry = match.group(2) if match.group(1) else entry
    elif line.startswith("}"):
      current = None
    elif current is not None and (match := _INSTRUCTION.match(line)):
      found = _instruction(match)
      current[found.name] = found
  if entry is None:
    raise ValueError(f"no entry computation in HLO that starts with {head!r}")
  counts = re.findall(r"(?:num_partitions|replica_count)=(\d+)", head)
  return Module(
    computations=computations,
    entry=entry,
    aliases=tuple(sorted({int(n) for n in _ALIAS.findall(head)})),
    devices=math.prod(map(int, counts)),
  )


def shapes_in(text: str) -> tuple[Shape, ...]:
  """Every array type that a text names."""
  return tuple(
    Shape(dtype, tuple(int(d.lstrip("<=")) for d in dims.split(",") if d))
    for dtype, dims in _SHAPE.findall(text)
  )


def _instruction(match: re.Match) -> Instruction:
  """`TYPE opcode(operands), attributes` after the name."""
  rest = _COMMENT.sub("", match.group(3))
  end = _closing(rest, 0) + 1 if rest.startswith("(") else rest.index(" ")
  kind, rest = rest[:end], rest[end:].lstrip()
  opening = rest.index("(")
  closing = _closing(rest, opening)
  inside = rest[opening + 1 : closing]
  return Instruction(
    name=match.group(2),
    opcode=rest[:opening],
    shapes=shapes_in(kind),
    operands=tuple(re.findall(r"%([\w.\-]+)", inside)),
    inside=inside,
    attributes=rest[closing + 1 :],
    root=match.group(1) is not None,
  )


def _closing(text: str, opening: int) -> int:
  """Where the bracket that opens at a position closes."""
  depth = 0
  for position in range(opening, len(text)):
    depth += {"(": 1, ")": -1}.get(text[position], 0)
    if not depth:
      return position
  raise ValueError(f"brackets do not close in {text[:80]!r}")
