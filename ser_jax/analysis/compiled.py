"""A config -> its compiled steps, described: nothing is trained, no data read.

The programs are those of a training, lowered for the shapes that most of its
steps have.
"""

import collections
import contextlib
import dataclasses
import functools
import logging
import pathlib
import time
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.compilation_cache import compilation_cache
from jaxtyping import PyTree

from ser_jax import assembly, atomic, runs
from ser_jax import experiment as experiments
from ser_jax import workdir as workdirs
from ser_jax.analysis import categories, cost, hlo, traffic
from ser_jax.analysis.roofline import Peaks, find_peaks, roofline
from ser_jax.analysis.shapes import blank_shards
from ser_jax.analysis.targets import describe_devices
from ser_jax.data import resident
from ser_jax.data.dataset import load_dataset
from ser_jax.data.examples import Frames, Row, example_batch
from ser_jax.errors import UserError
from ser_jax.tasks.task import Stage
from ser_jax.train import loop, processes
from ser_jax.train.compile import LESS
from ser_jax.train.engine import Engine
from ser_jax.train.placement import fitting
from ser_jax.train.state import TrainState, init_state

LOG = logging.getLogger(__name__)
_HELD = 3  # utterances that the source really holds


def analyze(config, workdir: pathlib.Path) -> dict:
  """Compiles every stage's steps and describes them.

  Args:
    config: a config as in `configs/`; `analysis.target` names the devices, if
      they are not those at hand.
    workdir: where `analysis.save_hlo` writes.

  Returns:
    Plain data: what `analysis.json` holds.

  Raises:
    UserError: anything the user can mend.
  """
  described = _described(config)  # before anything asks what devices there are
  experiments.check(config)
  blank = blank_shards(config)
  dataset = load_dataset(config, blank)
  examples = dataset.examples
  held = dataclasses.replace(examples, keep=examples.keep[:_HELD])
  (experiment,) = assembly.assemble(
    config, workdir, dataset, held, [config.seeds], described
  )
  layout = experiment.layout
  peaks = find_peaks(
    config.analysis.peaks,
    (layout.mesh.local_devices if described is None else described)[0],
    layout.mesh.size,
    config.precision,
  )
  shapes = step_shapes(experiment)
  frames = shapes.most_common(1)[0][0]
  stages = {}
  for stage, engine in zip(
    experiment.stages, runs.make_engines(experiment), strict=True
  ):
    stages[stage.name] = _stage(experiment, stage, engine, frames, peaks)
  return {
    "system": config.system,
    "variant": config.variant,
    "corpus": config.data.corpus,
    "source": config.data.source,
    "shapes_from": str(blank.path),
    "config": config.to_dict(),
    "batch_size": config.batch_size,
    "runs_in_program": experiment.layout.size,
    "frames": dict(frames),
    "shapes": [
      {"frames": dict(key), "share": times / shapes.total()}
      for key, times in shapes.most_common()
    ],
    "mesh": dict(experiment.layout.mesh.shape),
    "devices": layout.mesh.devices.flat[0].device_kind,
    "machine": workdirs.environment(),
    "stages": stages,
  }


def _described(config) -> list[jax.Device] | None:
  """The devices of elsewhere that a config compiles for, if any.

  Raises:
    UserError: `analysis.target` cannot be met, or not by this config.
  """
  if not config.analysis.target:
    return None
  if jax.distributed.is_initialized():
    raise UserError(
      "config.analysis.target is for one process: leave --distributed out."
    )
  if config.parallel.backend == "pmap":
    raise UserError(
      "config.parallel.backend='pmap' compiles for the devices at hand alone: "
      "set it to 'jit', or config.analysis.target to ''."
    )
  return describe_devices(config.analysis.target)


def step_shapes(experiment: runs.Experiment) -> collections.Counter:
  """How many steps of the first group's first epoch have which shape."""
  return collections.Counter(
    experiment.dataset.examples.frames(row) for row in epoch_rows(experiment)
  )


def epoch_rows(experiment: runs.Experiment, epoch: int = 0) -> list[Row]:
  """Positions and weights of every step of an epoch of the first group."""
  return loop.epoch_rows(
    experiment.groups[0],
    epoch,
    steps=experiment.steps,
    batch_size=experiment.config.batch_size,
  )


def _stage(
  experiment: runs.Experiment,
  stage: Stage,
  engine: Engine,
  frames: Frames,
  peaks: Peaks,
) -> dict:
  """A stage's parameters and its two programs."""
  group, layout = experiment.groups[0], experiment.layout
  shapes = state_shapes(experiment, stage)
  state = layout.place_runs(
    jax.tree.map(lambda x: np.broadcast_to(np.zeros((), x.dtype), x.shape),
                 shapes)
  )  # fmt: skip
  row = next(
    row
    for row in epoch_rows(experiment)
    if experiment.dataset.examples.frames(row) == frames
  )
  _, item = next(engine.source.items([row]))
  arguments = (
    layout.place_item(item),
    runs.group_statistics(experiment, group),
    whole_corpus(experiment, engine.constants),
    frames,
  )
  programs = {}
  for name, program, first in (
    ("train", engine.train, state),
    ("predict", engine.predict, jax.eval_shape(lambda x: x.weights, state)),
  ):
    programs[name] = _program(
      program, (first, *arguments), peaks, experiment, f"{stage.name}-{name}"
    )
  return {
    "parameters": parameter_table(shapes.params, layout.size),
    "trained": sorted(_trained(stage, shapes.params)),
    "programs": programs,
  }


def state_shapes(experiment: runs.Experiment, stage: Stage) -> TrainState:
  """The shapes of a group's state `[runs, ...]`; nothing is computed."""
  seeds = jax.ShapeDtypeStruct((experiment.layout.size,), jnp.uint32)
  return jax.eval_shape(
    jax.vmap(functools.partial(init_state, task=stage.task), in_axes=(0, None)),
    seeds,
    example_batch(experiment.dataset.examples, 2),
  )


def whole_corpus(experiment: runs.Experiment, constants: PyTree) -> PyTree:
  """The source's arrays, as large as if it held every utterance."""
  axis = 1 if experiment.layout.backend == "pmap" else 0
  examples = experiment.dataset.examples
  inputs = resident.input_shapes(examples)

  def grown(path, x):
    part, name = path[0].key, path[-1].key
    count = inputs[name][0] if part == "inputs" else len(examples.keep)
    shape = (*x.shape[:axis], count, *x.shape[axis + 1 :])
    return jax.ShapeDtypeStruct(shape, x.dtype, sharding=x.sharding)

  return jax.tree_util.tree_map_with_path(grown, constants)


def _trained(stage: Stage, params: dict) -> set[str]:
  """Parameter groups that some phase of a stage moves."""
  return {
    name
    for phase in stage.task.phases
    for name in (params if phase.scope is None else phase.scope)
  }


def parameter_table(params: PyTree, copies: int) -> list[dict]:
  """Parameters of each module that has some of its own.

  Args:
    params: shapes `[runs, ...]`.
    copies: runs.

  Returns:
    Rows of `module`, `parameters` and `bytes` of one run.
  """
  rows: dict[str, list[int]] = {}
  for path, leaf in jax.tree_util.tree_leaves_with_path(params):
    name = "/".join(str(part.key) for part in path[:-1])
    row = rows.setdefault(name, [0, 0])
    row[0] += leaf.size // copies
    row[1] += leaf.size // copies * leaf.dtype.itemsize
  return [
    {"module": name, "parameters": size, "bytes": size_in_bytes}
    for name, (size, size_in_bytes) in rows.items()
  ]


def _program(
  program, arguments: tuple, peaks: Peaks, experiment, name: str
) -> dict:
  """Lowers, compiles and describes one step."""
  start = time.perf_counter()
  lowered = program.lower(*arguments)
  middle = time.perf_counter()
  with _compiling_afresh(), fitting(f"the step {name}", LESS):
    compiled = experiment.layout.compiled(lowered)
  end = time.perf_counter()
  LOG.info("compiled %s in %.1f s", name, end - start)
  text = compiled.as_text()
  if experiment.config.analysis.save_hlo and processes.primary():
    folder = experiment.workdir / "hlo"
    folder.mkdir(parents=True, exist_ok=True)
    atomic.write_text(folder / f"{name}.stablehlo.mlir", lowered.as_text())
    atomic.write_text(folder / f"{name}.optimized.hlo", text)
  found = describe(text, peaks)
  found["seconds"] = {"lower": middle - start, "compile": end - middle}
  found["memory"] = _memory(compiled)
  own = compiled.cost_analysis() or {}
  found["xla"] = {
    "flops": own.get("flops"),
    "bytes": own.get("bytes accessed"),
  }
  return found


@contextlib.contextmanager
def _compiling_afresh() -> Iterator[None]:
  """No persistent cache: seconds are those of compiling, not of loading."""
  flag = "jax_enable_compilation_cache"
  before = getattr(jax.config, flag)
  jax.config.update(flag, False)
  compilation_cache.reset_cache()  # JAX reads the flag once
  try:
    yield
  finally:
    jax.config.update(flag, before)
    compilation_cache.reset_cache()


def _memory(compiled: jax.stages.Compiled) -> dict:
  """Bytes of one device, as XLA planned them."""
  found = compiled.memory_analysis()
  sizes = {
    kind: getattr(found, f"{kind}_size_in_bytes")
    for kind in ("argument", "output", "alias", "temp", "generated_code")
  }
  # Results in donated buffers take no room of their own.
  sizes["peak"] = (
    sizes["argument"] + sizes["output"] - sizes["alias"] + sizes["temp"]
  )
  return sizes


def describe(text: str, peaks: Peaks) -> dict:
  """Counts what one device does in one execution of a program.

  Args:
    text: optimized HLO.
    peaks: of the device.

  Returns:
    Plain data: FLOPs and bytes in all and by category, fusions, loops,
    collectives, donated buffers, the roofline, and what it is made from.
  """
  module = hlo.parse(text)
  ops, loops = cost.count(module)
  flops = sum(op.times * sum(op.flops.values()) for op in ops)
  moved = sum(op.times * op.bytes for op in ops)
  parameters = module.parameters(module.entry)
  border = traffic.border_bytes(module)
  return {
    "flops": flops,
    "bytes": moved,
    "intensity": flops / moved if moved else 0.0,
    "categories": _categories(ops),
    "instructions": {
      "fusions": sum(op.opcode == "fusion" for op in ops),
      "while_loops": len(loops),
      "collectives": sum(op.category == "collective" for op in ops),
      "all": len(ops),
      "executed": sum(op.times for op in ops),
    },
    "loops": [dataclasses.asdict(each) for each in loops],
    "iterations": sum(each.times * (each.trips or 1) for each in loops),
    "collectives": _collectives(ops),
    "uncounted_calls": _uncounted(ops),
    "donated": {
      "buffers": len(module.aliases),
      "bytes": sum(parameters[number].bytes for number in module.aliases),
    },
    "devices": module.devices,
    "roofline": roofline(ops, border, peaks),
    "border": border,
    "ops": [dataclasses.asdict(op) for op in ops],
  }


def _categories(ops: list[cost.Op]) -> dict:
  """FLOPs by what computes them, bytes and times by what executes."""
  found = {
    name: {"flops": 0, "bytes": 0, "executed": 0}
    for name in (*categories.CATEGORIES, categories.DATA_MOVEMENT)
  }
  for op in ops:
    for name, amount in op.flops.items():
      found[name]["flops"] += op.times * amount
    found[op.category]["bytes"] += op.times * op.bytes
    found[op.category]["executed"] += op.times
  return {name: row for name, row in found.items() if any(row.values())}


def _collectives(ops: list[cost.Op]) -> dict:
  """By opcode: how many, how often, bytes taken in and sent by a device."""
  found: dict[str, dict] = {}
  for op in ops:
    if op.category == "collective":
      row = found.setdefault(
        op.opcode, {"count": 0, "executed": 0, "payload": 0, "wire": 0.0}
      )
      row["count"] += 1
      row["executed"] += op.times
      row["payload"] += op.times * op.payload
      row["wire"] += op.times * op.wire
  return found


def _uncounted(ops: list[cost.Op]) -> dict[str, int]:
  """Custom calls whose FLOPs are not known: target to times executed."""
  found: collections.Counter = collections.Counter()
  for op in ops:
    if op.category == "custom call":
      found[op.target] += op.times
  return dict(found)
