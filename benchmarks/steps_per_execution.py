"""Several training steps in one call of a program: time a step, in turn.

  taskset -c 0 python -m benchmarks.steps_per_execution

Steps are called as `ser_jax.train.loop` calls them: metrics are read one call
late. `own` is this project's small system on functionals.
"""

import argparse
import itertools
import json
import statistics
import time

import jax

from benchmarks import step_time, systems
from benchmarks.destination import destination
from ser_jax import memory
from ser_jax.train.engine import calls

STEPS = 32  # of each repetition


class Counted:
  """A system whose program takes some steps a call."""

  def __init__(self, name: str, steps: int, batch_size: int):
    """Makes it; nothing is compiled yet."""
    config = systems.make_config(
      name, parallel__data=1, batch_size=batch_size, steps_per_execution=steps
    )
    config.protocol.folds, config.seeds = (0,), (0,)
    self._bench = systems.Bench(systems.make_experiment(config, STEPS))
    self._item = next(self._bench.items())

  def seconds(self) -> float:
    """Of a step, over `STEPS` of them."""
    bench, pending = self._bench, None
    start = time.perf_counter()
    for _, program, frames, item in calls(
      bench.engine, itertools.repeat(self._item), 0, STEPS
    ):
      bench.state, metrics = program(
        *(bench.state, item, bench.statistics),
        *(bench.engine.constants, frames),
      )
      if pending is not None:
        bench.layout.fetch_runs(pending)
      pending = metrics
    jax.block_until_ready(bench.state)
    return (time.perf_counter() - start) / STEPS


def measure(name: str, counts: list[int], size: int, repetitions: int) -> dict:
  """Milliseconds a step by the number of steps in a call."""
  benches = {count: Counted(name, count, size) for count in counts}
  times = {count: [] for count in counts}
  for _ in range(repetitions + 1):
    for count, bench in benches.items():
      times[count].append(bench.seconds())
  return {
    count: round(1e3 * statistics.median(found[1:]), 3)  # the first compiles
    for count, found in times.items()
  }


def main() -> None:
  memory.keep_freed()  # as the programs do
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument(
    "--systems", nargs="+", default=["own", "aae", "aae_frames"]
  )
  parser.add_argument("--steps", nargs="+", type=int, default=[1, 2, 8])
  parser.add_argument("--batch", type=int, default=32)
  parser.add_argument("--repetitions", type=int, default=7)
  parser.add_argument(
    "--out",
    type=destination,
    default="benchmarks/results/steps_per_execution.json",
  )
  arguments = parser.parse_args()
  found = {"machine": step_time.machine(), "batch": arguments.batch, "ms": {}}
  for name in arguments.systems:
    found["ms"][name] = measure(
      name, arguments.steps, arguments.batch, arguments.repetitions
    )
    print(name, found["ms"][name], flush=True)
  arguments.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
  main()
