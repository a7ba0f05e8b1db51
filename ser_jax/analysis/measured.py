"""Some training steps, timed and traced, against what they could take.

The steps are those of a training: the same input pipeline, the same programs,
metrics read one step late.
"""

import itertools
import pathlib
import time
from collections.abc import Iterator

import jax
import numpy as np
from jaxtyping import PyTree

from ser_jax import assembly, runs
from ser_jax import experiment as experiments
from ser_jax import workdir as workdirs
from ser_jax.analysis import cost, hlo, trace
from ser_jax.analysis.compiled import describe, epoch_rows
from ser_jax.analysis.roofline import find_peaks
from ser_jax.data.examples import Row
from ser_jax.tasks.task import Stage
from ser_jax.train import processes
from ser_jax.train.engine import Engine

# Only hold the instructions that are counted.
_HOLDERS = ("while", "conditional", "call")
_KEPT = 300  # instructions of a trace, those that take longest


def profile(config, workdir: pathlib.Path) -> dict:
  """Times and traces steps of every stage of the first group of runs.

  Args:
    config: a config as in `configs/`.
    workdir: traces go to its folder `trace`.

  Returns:
    Plain data: what `profile.json` holds.

  Raises:
    UserError: anything the user can mend.
  """
  experiments.check(config)
  trace.check(config.profile)
  processes.in_turn(lambda: assembly.ensure_shards(config))
  experiment = assembly.make_experiment(config, workdir)
  layout = experiment.layout
  peaks = find_peaks(
    config.analysis.peaks,
    layout.mesh.local_devices[0],
    layout.mesh.size,
    config.precision,
  )
  stages = {
    stage.name: _stage(experiment, stage, engine, peaks)
    for stage, engine in zip(
      experiment.stages, runs.make_engines(experiment), strict=True
    )
  }
  return {
    "system": config.system,
    "variant": config.variant,
    "corpus": config.data.corpus,
    "source": config.data.source,
    "config": config.to_dict(),
    "batch_size": config.batch_size,
    "runs_in_program": experiment.layout.size,
    "mesh": dict(experiment.layout.mesh.shape),
    "machine": workdirs.environment(),
    "stages": stages,
  }


class _Steps:
  """Training steps, one after another, with their times."""

  def __init__(self, experiment, stage: Stage, engine: Engine):
    group = experiment.groups[0]
    self._engine = engine
    self._state = engine.layout.place_runs(
      runs.initial_state(experiment, stage, group)
    )
    self._statistics = runs.group_statistics(experiment, group)
    self._pending = None

  def take(self, items: Iterator, count: int) -> dict[str, list]:
    """Takes steps; each waits for the one before, as training does."""
    engine = self._engine
    found = {"seconds": [], "wait": [], "place": [], "bytes": [], "frames": []}
    for number in range(count):
      start = time.perf_counter()
      frames, item = next(items)
      ready = time.perf_counter()
      placed = engine.layout.place_item(item)
      there = time.perf_counter()
      with jax.profiler.StepTraceAnnotation("train", step_num=number):
        self._state, metrics = engine.train(
          self._state, placed, self._statistics, engine.constants, frames
        )
      if self._pending is not None:
        engine.layout.fetch_runs(self._pending)
      self._pending = metrics
      found["seconds"].append(time.perf_counter() - start)
      found["wait"].append(ready - start)
      found["place"].append(there - ready)
      found["bytes"].append(_bytes(item))
      found["frames"].append(frames)
    return found

  def settle(self) -> None:
    """Waits for the last step."""
    jax.block_until_ready(self._state)


def _bytes(item: PyTree) -> int:
  return sum(np.asarray(x).nbytes for x in jax.tree.leaves(item))


def _rows(experiment: runs.Experiment, count: int) -> list[Row]:
  """The rows of the first steps, over as many epochs as it takes."""
  epochs = itertools.chain.from_iterable(
    epoch_rows(experiment, epoch) for epoch in itertools.count()
  )
  return list(itertools.islice(epochs, count))


def _stage(
  experiment: runs.Experiment, stage: Stage, engine: Engine, peaks
) -> dict:
  """Warms up, times, then traces."""
  settings = experiment.config.profile
  rows = _rows(experiment, settings.skip + 2 * settings.steps)
  # Every shape compiles before the first step that counts.
  shapes = {experiment.dataset.examples.frames(row): row for row in rows}
  warm = [*shapes.values(), *rows[: settings.skip]]
  items = engine.source.items([*warm, *rows[settings.skip :]])
  steps = _Steps(experiment, stage, engine)
  steps.take(items, len(warm))
  timed = steps.take(items, settings.steps)
  steps.settle()
  folder = trace.own_folder(experiment.workdir / "trace" / stage.name)
  with trace.trace(folder):
    start = time.perf_counter()
    steps.take(items, settings.steps)
    steps.settle()
    seconds = time.perf_counter() - start
  texts = {f: engine.train.executable(f).as_text() for f in shapes}
  return {
    "steps": _distribution(timed["seconds"]),
    "input": _input(timed),
    "traced": _traced(folder, texts.values())
    | {"mean": seconds / settings.steps},
    "achieved": _achieved(timed, texts, peaks),
    "compile_seconds": sum(engine.train.compile_seconds.values()),
    "shapes": len(shapes),
    "memory": _memory(engine),
    "trace": str(folder.relative_to(experiment.workdir)),
  }


def _distribution(seconds: list[float]) -> dict:
  values = np.array(seconds)
  return {
    "count": len(values),
    "mean": float(values.mean()),
    "p50": float(np.percentile(values, 50)),
    "p95": float(np.percentile(values, 95)),
    "min": float(values.min()),
    "max": float(values.max()),
  }


def _input(timed: dict[str, list]) -> dict:
  """Waiting for batches and handing them over, and their bytes a step."""
  total = sum(timed["seconds"])
  return {
    "wait": float(np.mean(timed["wait"])),
    "wait_share": sum(timed["wait"]) / total,
    "place": float(np.mean(timed["place"])),
    "place_share": sum(timed["place"]) / total,
    "bytes": float(np.mean(timed["bytes"])),
  }


def _achieved(timed: dict[str, list], texts: dict, peaks) -> dict:
  """Work a second of one device, and how near it is to what is possible."""
  described = {
    frames: describe(texts[frames], peaks) for frames in set(timed["frames"])
  }
  work = [described[frames] for frames in timed["frames"]]
  seconds = sum(timed["seconds"])
  floor = sum(each["roofline"]["floor"] for each in work)
  return {
    "flops": sum(each["flops"] for each in work) / seconds,
    "bytes": sum(each["bytes"] for each in work) / seconds,
    "floor": floor / len(work),
    "floor_share": floor / seconds,
    "bound": work[0]["roofline"]["bound"],
    "peaks": work[0]["roofline"]["peaks"],
  }


def _traced(folder: pathlib.Path, texts) -> dict:
  """What the trace says of the devices."""
  ops, holders = {}, set()
  for text in texts:
    module = hlo.parse(text)
    ops |= {op.name: op for op in cost.count(module)[0]}
    holders |= {
      instruction.name
      for computation in module.computations.values()
      for instruction in computation.values()
      if instruction.opcode in _HOLDERS
    }
  events = trace.read(folder)
  leaves = [x for x in trace.executions(events) if x.name not in holders]
  shares = trace.busy_share(leaves)
  rows = trace.top(leaves, _KEPT)
  for row in rows:
    op = ops.get(row["name"])
    row["category"] = op.category if op else ""
    row["source"] = op.source if op else ""
    row["flops"] = sum(op.flops.values()) if op else 0  # each time
    row["bytes"] = op.bytes if op else 0
  return {
    "busy_share": float(np.mean(list(shares.values()))) if shares else 0.0,
    "busy": shares,
    "instructions": rows,
    "events": len(leaves),
    "cut": len(events) >= trace.EVENT_LIMIT,
  }


def _memory(engine: Engine) -> int | None:
  """Bytes that a device had in use at most; None where it does not say."""
  stats = engine.layout.mesh.local_devices[0].memory_stats()
  return stats["peak_bytes_in_use"] if stats else None
