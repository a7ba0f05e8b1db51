"""An analysis or a profile as plain data -> Markdown."""

import copy
import json
import math
import pathlib
from collections.abc import Iterator

from ser_jax import workdir as workdirs
from ser_jax.analysis.cost import Op
from ser_jax.analysis.roofline import Peaks, roofline
from ser_jax.errors import UserError
from ser_jax.evaluation.markdown import table

_TOP = 20  # instructions of a profile that are told of
_PREFIXES = {-9: "n", -6: "µ", -3: "m", 0: "", 3: "k", 6: "M", 9: "G", 12: "T"}


def quantity(value: float, unit: str) -> str:
  """1.5e9, "B" -> 1.50 GB."""
  if not value:
    return f"0 {unit}"
  power = 3 * math.floor(math.log10(abs(value)) / 3)
  power = min(max(power, min(_PREFIXES)), max(_PREFIXES))
  return f"{value / 10.0**power:.3g} {_PREFIXES[power]}{unit}"


def share(value: float) -> str:
  """0.123 -> 12.3 %."""
  return f"{100 * value:.1f} %"


def render_analysis(found: dict) -> str:
  """The content of `analysis.md`.

  Args:
    found: the content of `analysis.json`.

  Returns:
    The text.
  """
  machine, mesh = found["machine"], found["mesh"]
  frames = ", ".join(f"{n} {length}" for n, length in found["frames"].items())
  common = next(
    each["share"]
    for each in found["shapes"]
    if each["frames"] == found["frames"]
  )
  parts = [
    f"# {found['system']} ({found['variant']}) on {found['corpus']}: "
    "compiled steps",
    f"Batch {found['batch_size']}, {found['runs_in_program']} run(s) in the "
    f"program, mesh run {mesh['run']} × data {mesh['data']} of "
    f"{found['devices']}{' (not here)' * bool(_target(found))} by "
    f"{found['config']['parallel']['backend']}, {found['source']} data. Shapes "
    f"from {found['shapes_from']}, in frames: {frames}; so are "
    f"{share(common)} of the steps. jax {machine['packages']['jax']}. All "
    "figures are of one device.",
  ]
  for name, stage in found["stages"].items():
    parts += [f"## Stage {name}", _parameters(stage)]
    for step, program in stage["programs"].items():
      parts += [f"### {step} step", *_program(program)]
  return "\n\n".join(parts) + "\n"


def _target(found: dict) -> str:
  """What was compiled for, if not the devices at hand."""
  return found["config"]["analysis"]["target"]


def _parameters(stage: dict) -> str:
  rows = [
    [row["module"], f"{row['parameters']:,}", quantity(row["bytes"], "B"),
     "yes" if row["module"].split("/")[0] in stage["trained"] else "no"]
    for row in stage["parameters"]
  ]  # fmt: skip
  total = [sum(row[k] for row in stage["parameters"])
           for k in ("parameters", "bytes")]  # fmt: skip
  rows.append(["**all**", f"{total[0]:,}", quantity(total[1], "B"), ""])
  return table(["module", "parameters", "size", "trained"], rows)


def _program(found: dict) -> list[str]:
  """The sections of one compiled step."""
  count, seconds = found["instructions"], found["seconds"]
  parts = [
    f"{quantity(found['flops'], 'FLOP')}, {quantity(found['bytes'], 'B')} "
    f"moved, {found['intensity']:.2f} FLOP/B. Lowered in "
    f"{seconds['lower']:.2f} s, compiled in {seconds['compile']:.2f} s. "
    f"{count['executed']:,} instructions executed of {count['all']:,} written: "
    f"{count['fusions']:,} fusions, {count['while_loops']} while loops with "
    f"{found['iterations']:,} iterations, {count['collectives']} collectives.",
    _roofline(found["roofline"]),
    _categories(found),
    _memory(found),
  ]
  if found["loops"]:
    parts.append(_loops(found["loops"]))
  if found["collectives"]:
    rows = [
      [kind, row["count"], row["executed"], quantity(row["payload"], "B"),
       quantity(row["wire"], "B")]
      for kind, row in found["collectives"].items()
    ]  # fmt: skip
    parts.append(
      table(["collective", "written", "executed", "payload", "sent"], rows)
    )
  if found["uncounted_calls"]:
    calls = ", ".join(f"{n} × {t}" for t, n in found["uncounted_calls"].items())
    parts.append(f"Calls whose FLOPs are not counted: {calls}.")
  return parts


def _rates(peaks: dict) -> str:
  """Peaks of products by the type of what is multiplied."""
  return ", ".join(
    f"{dtype} {quantity(rate, 'FLOP/s')}"
    for dtype, rate in peaks["flops"].items()
  )


def _roofline(found: dict) -> str:
  peaks, seconds = found["peaks"], found["seconds"]
  link = f", links {quantity(peaks['link'], 'B/s')}" if peaks["link"] else ""
  each = ", ".join(f"{k} {quantity(v, 's')}" for k, v in seconds.items() if v)
  by_op = ", ".join(
    f"{name} {share(part)}"
    for name, part in found["uncached_shares"].items()
    if part
  )
  return (
    f"Roofline of {peaks['name']} ({_rates(peaks)}, memory "
    f"{quantity(peaks['bytes'], 'B/s')}{link}): at least "
    f"**{quantity(found['floor'], 's')}**, bound by **{found['bound']}** "
    f"({each}; memory: arguments and results once). Were nothing kept in a "
    f"cache from one instruction to the next: "
    f"{quantity(found['uncached'], 's')} ({by_op})."
  )


def _categories(found: dict) -> str:
  rows = [
    [name, quantity(row["flops"], "FLOP"),
     share(row["flops"] / max(found["flops"], 1)), quantity(row["bytes"], "B"),
     share(row["bytes"] / max(found["bytes"], 1)), f"{row['executed']:,}"]
    for name, row in sorted(
      found["categories"].items(), key=lambda item: -item[1]["bytes"]
    )
  ]  # fmt: skip
  return table(
    ["category", "FLOPs", "share", "bytes", "share", "executed"], rows
  )


def _memory(found: dict) -> str:
  memory, donated = found["memory"], found["donated"]
  sizes = [quantity(memory[kind], "B")
           for kind in ("argument", "output", "temp", "peak")]  # fmt: skip
  return table(
    ["memory", "arguments", "results", "temporary", "peak", "donated"],
    [["", *sizes, f"{donated['buffers']} buffers, "
      f"{quantity(donated['bytes'], 'B')}"]],
  )  # fmt: skip


def _loops(loops: list[dict]) -> str:
  """A row for each loop; those alone that do the same share theirs."""
  alike: dict[tuple, list[dict]] = {}
  for number, row in enumerate(loops):
    inner = loops[number + 1 : number + 2]
    leaf = not inner or inner[0]["nesting"] <= row["nesting"]
    what = "/".join(short(row["source"]).split("/")[-2:])
    shared = leaf and not row["nesting"] and what
    figures = row["trips"], row["ops"], row["flops"]
    alike.setdefault((what, *figures) if shared else (number,), []).append(row)
  rows = [
    [_name(same), "unknown" if same[0]["trips"] is None else same[0]["trips"],
     sum(each["times"] for each in same), same[0]["ops"],
     quantity(same[0]["flops"], "FLOP")]
    for same in alike.values()
  ]  # fmt: skip
  return table(
    ["loop", "depth", "started", "instructions each", "FLOPs each"], rows
  )


def _name(same: list[dict]) -> str:
  """Of a loop by what it comes from, or of several."""
  source = short(same[0]["source"])
  if len(same) > 1:
    return f"{len(same)} loops …/{'/'.join(source.split('/')[-2:])}"
  return f"{'› ' * same[0]['nesting']}{source or same[0]['name']}"


def short(source: str) -> str:
  """A JAX name without the wrappers that every name of the program has."""
  parts = source.split("/")
  parts = [p for p in parts if p != "shard_map" and not p.startswith("jit(")]
  return "/".join(p for p in parts if "._" not in p).replace("|", "\\|")


def compare(before: dict, now: dict) -> str:
  """What differs between two analyses.

  Args:
    before: the content of another `analysis.json`.
    now: of this one.

  Returns:
    A table of configuration and of figures, both held against the peaks of
    the later one; seconds differ from run to run.
  """
  old, new = _flatten(before["config"]), _flatten(now["config"])
  fields = [
    [f"config.{name}", old.get(name, "absent"), new.get(name, "absent"), ""]
    for name in sorted(old.keys() | new.keys())
    if old.get(name) != new.get(name)
  ]
  old, new = _flatten(_under_peaks_of(now, before)), _flatten(now["stages"])
  figures = [
    [name, *[_figure(side.get(name)) for side in (old, new)],
     _ratio(old.get(name), new.get(name))]
    for name in dict.fromkeys([*new, *old])
    if old.get(name) != new.get(name)
  ]  # fmt: skip
  if not fields + figures:
    return "Nothing changed."
  return table(["what", "before", "now", "ratio"], fields + figures)


def _under_peaks_of(now: dict, before: dict) -> dict:
  """An analysis' stages, with rooflines of another's peaks.

  Peaks that are measured differ from time to time, and no program with them.
  """
  peaks = Peaks(**next(_programs(now))["roofline"]["peaks"])
  stages = copy.deepcopy(before["stages"])
  for program in _programs({"stages": stages}):
    ops = [Op(**row) for row in program["ops"]]
    program["roofline"] = roofline(ops, program["border"], peaks)
  return stages


def _programs(found: dict) -> Iterator[dict]:
  for stage in found["stages"].values():
    yield from stage["programs"].values()


def _flatten(tree: dict) -> dict:
  """Nested dicts to `a.b.c` -> value; lists of rows have no counterpart."""
  return {
    name: list(value) if isinstance(value, tuple) else value
    for name, value in workdirs.flatten(tree).items()
    if not (isinstance(value, list) and value and isinstance(value[0], dict))
  }


def _figure(value) -> str:
  if isinstance(value, int | float) and not isinstance(value, bool):
    return f"{value:,.6g}"
  return "absent" if value is None else str(value)


def _ratio(old, new) -> str:
  numbers = all(isinstance(x, int | float) for x in (old, new))
  return f"{new / old:.3f}" if numbers and old else ""


def read_analysis(path: pathlib.Path) -> dict:
  """Reads an `analysis.json`.

  Raises:
    UserError: there is none, or it is another file.
  """
  try:
    found = json.loads(path.read_text())
    if {"config", "stages"} <= found.keys() and all(
      "ops" in program for program in _programs(found)
    ):
      return found
    reason = "it is another file, or an older version's"
  except (OSError, ValueError, AttributeError) as error:
    reason = str(error)
  raise UserError(
    f"--compare={path} cannot be read ({reason}): give the analysis.json that "
    "another --mode=analyze wrote."
  )


def render_profile(found: dict) -> str:
  """The content of `profile.md`.

  Args:
    found: the content of `profile.json`.

  Returns:
    The text.
  """
  machine, mesh = found["machine"], found["mesh"]
  parts = [
    f"# {found['system']} ({found['variant']}) on {found['corpus']}: profile",
    f"Batch {found['batch_size']}, {found['runs_in_program']} run(s) in the "
    f"program, mesh run {mesh['run']} × data {mesh['data']} of "
    f"{', '.join(machine['devices'])} by "
    f"{found['config']['parallel']['backend']}, {found['source']} data, jax "
    f"{machine['packages']['jax']}.",
  ]
  for name, stage in found["stages"].items():
    parts += [f"## Stage {name}", *_profile(stage)]
  return "\n\n".join(parts) + "\n"


def _profile(found: dict) -> list[str]:
  """The sections of one stage."""
  achieved, fed, traced = found["achieved"], found["input"], found["traced"]
  columns = ("mean", "p50", "p95", "min", "max")
  rows = [
    [found["steps"]["count"],
     *[quantity(found["steps"][name], "s") for name in columns]]
  ]  # fmt: skip
  top = [
    [row["name"], share(row["share"]), quantity(row["seconds"], "s"),
     row["executed"], row["category"], short(row["source"])]
    for row in traced["instructions"][:_TOP]
  ]  # fmt: skip
  memory = (
    f" At most {quantity(found['memory'], 'B')} of device memory in use."
    if found["memory"]
    else ""
  )
  cut = (
    " The trace is full: its shortest events are missing, lower "
    "config.profile.steps."
    if traced["cut"]
    else ""
  )
  return [
    table(["steps", *columns], rows),
    f"Input: {quantity(fed['wait'], 's')} a step waiting for a batch "
    f"({share(fed['wait_share'])}), {quantity(fed['place'], 's')} handing it "
    f"over ({share(fed['place_share'])}), {quantity(fed['bytes'], 'B')} from "
    f"host to device. {found['shapes']} shape(s) compiled in "
    f"{found['compile_seconds']:.1f} s.{memory}",
    f"Achieved by each device: {quantity(achieved['flops'], 'FLOP/s')} (peaks: "
    f"{_rates(achieved['peaks'])}), {quantity(achieved['bytes'], 'B/s')} read "
    f"and written by instructions (memory: "
    f"{quantity(achieved['peaks']['bytes'], 'B/s')}; caches may give more). "
    f"The floor of {achieved['peaks']['name']} is "
    f"{quantity(achieved['floor'], 's')}, bound by {achieved['bound']}: "
    f"{share(achieved['floor_share'])} of the step.",
    f"Traced: {quantity(traced['mean'], 's')} a step, devices busy "
    f"{share(traced['busy_share'])} of the time, in {traced['events']:,} "
    f"executions. Trace: `{found['trace']}`.{cut}",
    table(
      ["instruction", "share", "time", "executed", "category", "from"], top
    ),
  ]
