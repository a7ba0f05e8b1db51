"""Train and predict steps, ours beside PyTorch's, in turn.

  taskset -c 0 python -m benchmarks.step_time --out=benchmarks/results/NAME.json
  python -m benchmarks.table benchmarks/results/NAME.json

Ours are the programs of a training: the corpus resident, a batch gathered and
standardised inside the step; and streamed by tf.data from records in memory,
where the time includes the wait for the batch. PyTorch's are given their batch
as it is. Our programs keep freed memory (`ser_jax.memory`); PyTorch's runs once
as a user runs it and once so, too. Every side is a process of its own
(`benchmarks/sides.py`); they take turns, repetition by repetition, so that what
else the machine does hits all of them; the median counts. Restrict the cores
with `taskset`: all sides use what they are given. `--precision` is that of all
sides, PyTorch's bfloat16 being autocast's. Without PyTorch or TensorFlow their
rows are left out.
"""

import argparse
import importlib.metadata
import importlib.util
import json
import os
import pathlib
import platform
import statistics

import jax

from benchmarks import sides, systems
from benchmarks.destination import destination
from ser_jax.features import cores

KEPT = ", memory kept"


def start(
  name: str, precision: str, compiled: bool, packages: dict
) -> dict[str, sides.Side]:
  """The sides of a system that the packages at hand allow."""
  found = {
    source: sides.Side(sides.ours, name, source, precision, kept=True)
    for source in ("resident", "stream")
    if source == "resident" or importlib.util.find_spec("tensorflow")
  }
  if "torch" not in packages:
    return found
  experiment = systems.make_experiment(systems.make_config(name), 1)
  batch = sides.draw(experiment, sides.BATCH)
  kinds = {"torch eager": False} | ({"torch.compile": True} if compiled else {})
  for kind, traced in kinds.items():
    for kept in (False, True):
      found[kind + (KEPT if kept else "")] = sides.Side(
        *(sides.theirs, name, traced, precision, *batch), kept=kept
      )
  return found


def measure(
  found: dict[str, sides.Side], step: str, repetitions: int
) -> dict[str, dict | float]:
  """Median, least and greatest milliseconds of each side, taking turns."""
  times = {name: [] for name in found}
  for side in found.values():
    side.time(step)
  for _ in range(repetitions):
    for name, side in found.items():
      times[name].append(side.time(step))
  entry = {
    name: {
      "median_ms": round(statistics.median(values), 2),
      "least_ms": round(min(values), 2),
      "greatest_ms": round(max(values), 2),
    }
    | {key: of[step] for key, of in found[name].sizes.items()}
    for name, values in times.items()
  }
  ours = entry["resident"]["median_ms"]
  for ratio, kept in (("ratio", False), ("ratio_kept", True)):
    peers = [
      entry[name]["median_ms"]
      for name, side in found.items()
      if "torch" in name and side.kept == kept
    ]
    if peers:
      entry[ratio] = round(min(peers) / ours, 2)
  return entry


def machine() -> dict:
  """What was measured on."""
  cpuinfo = pathlib.Path("/proc/cpuinfo")
  lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
  named = [x.split(": ")[1] for x in lines if x.startswith("model name")]
  packages = {}
  for name in ("jax", "flax", "optax", "numpy", "torch"):
    try:
      packages[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
      continue
  return {
    # Linux on ARM names no model.
    "cpu": named[0] if named else platform.processor() or platform.machine(),
    "cores": cores.available(),
    "load": round(os.getloadavg()[0], 1),
    "device": jax.devices()[0].device_kind,
    "python": platform.python_version(),
    "packages": packages,
  }


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--systems", nargs="+", default=list(systems.SYSTEMS))
  parser.add_argument("--repetitions", type=int, default=7)
  parser.add_argument("--precision", default="tf32")
  parser.add_argument("--out", type=destination, required=True)
  parser.add_argument("--compile", action="store_true",
                      help="torch.compile beside eager")  # fmt: skip
  arguments = parser.parse_args()
  # Several processes share an accelerator.
  os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
  found = {"machine": machine(), "precision": arguments.precision}
  found["systems"] = {}
  packages = found["machine"]["packages"]
  for name in arguments.systems:
    running = start(name, arguments.precision, arguments.compile, packages)
    entry = {"batch": sides.BATCH}
    for step in sides.STEPS:
      entry[step] = measure(running, step, arguments.repetitions)
      print(name, step, entry[step], flush=True)
    peaks = {side: round(each.end()) for side, each in running.items()}
    entry["process_mb"] = peaks
    found["systems"][name] = entry
    arguments.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
  main()
