"""Runs in one program: examples a second of loop, vmap and shard, in turn.

  python -m benchmarks.run_axis

`loop` trains one run a program, `vmap` all in one, `shard` all in one with each
device its own runs. Devices that are not there are threads of this machine:

  XLA_FLAGS=--xla_force_host_platform_device_count=4
"""

import argparse
import json
import statistics
import time

import jax

from benchmarks import step_time, systems
from benchmarks.destination import destination
from ser_jax import memory

HELD = 64


def make(name: str, kind: str, count: int) -> systems.Bench:
  """A system whose seeds are stacked, or one of them."""
  config = systems.make_config(name, parallel__runs=kind, parallel__data=1)
  config.protocol.folds, config.seeds = (0,), tuple(range(count))
  config.batch_size = 32
  return systems.Bench(systems.make_experiment(config, HELD))


def measure(name: str, count: int, repetitions: int) -> dict:
  """Examples a second of each way to train `count` runs."""
  devices = len(jax.devices())
  kinds = ["loop", "vmap"]
  if devices > 1 and count % min(devices, count) == 0:
    kinds.append("shard")
  benches = {kind: make(name, kind, count) for kind in kinds}
  items = {kind: next(bench.items()) for kind, bench in benches.items()}
  times = {kind: [] for kind in kinds}
  for _ in range(repetitions + 1):
    for kind, bench in benches.items():
      start = time.perf_counter()
      jax.block_until_ready(bench.train(*items[kind]))
      times[kind].append(time.perf_counter() - start)
  found = {}
  for kind, bench in benches.items():
    seconds = statistics.median(times[kind][1:])  # the first one compiles
    found[kind] = {
      "runs": bench.layout.size,
      "step_ms": round(1e3 * seconds, 2),
      "examples_per_second": round(32 * bench.layout.size / seconds, 1),
    }
  return found


def main() -> None:
  memory.keep_freed()  # as the programs do
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--systems", nargs="+", default=["aae", "dat"])
  parser.add_argument("--runs", type=int, default=4)
  parser.add_argument("--repetitions", type=int, default=7)
  parser.add_argument(
    "--out", type=destination, default="benchmarks/results/run_axis.json"
  )
  arguments = parser.parse_args()
  found = {
    "machine": step_time.machine(),
    "devices": len(jax.devices()),
    "systems": {},
  }
  for name in arguments.systems:
    entry = measure(name, arguments.runs, arguments.repetitions)
    found["systems"][name] = entry
    print(name, entry, flush=True)
  arguments.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
  main()
