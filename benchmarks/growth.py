"""What grows with what: compile and step seconds, plotted.

  taskset -c 0 python -m benchmarks.growth --systems dat ds_lstm

One size at a time is halved and doubled, the others stay as the benchmark of
steps has them: frames of an utterance, examples of a batch, hidden units, and
runs stacked in the program. Written: the numbers (`.json`) and a figure
(`.png`); a slope is that of log seconds over log size between the two largest
sizes, 1 where twice the size takes twice the time.
"""

import argparse
import json
import math
import pathlib
import statistics
import time

import jax
from ml_collections import ConfigDict

from benchmarks import step_time, systems
from benchmarks.destination import destination
from ser_jax import memory

BATCH = 16
HELD = 64
FACTORS = (0.5, 1.0, 2.0)
RUNS = (1, 2, 4)
RECURRENT = ("dat", "ds_lstm")


def frames_of(name: str, factor: float) -> str:
  """A system's frames, so many times as long."""
  pairs = (part.split("=") for part in systems.SYSTEMS[name][1].split(","))
  return ",".join(f"{key}={int(int(n) * factor)}" for key, n in pairs)


def variants(name: str) -> dict[str, list[tuple[int, ConfigDict]]]:
  """By size: values and configs."""

  def config(**changes):
    found = systems.make_config(
      name, **{"parallel__data": 1, "batch_size": BATCH} | changes
    )
    found.protocol.folds = (0,)
    return found

  longest = max(
    int(part.split("=")[1]) for part in systems.SYSTEMS[name][1].split(",")
  )
  units = config().model.hidden
  several = [config(parallel__runs="vmap", seeds=tuple(range(n))) for n in RUNS]
  return {
    "frames": [
      (int(longest * x), config(analysis__frames=frames_of(name, x)))
      for x in FACTORS
    ],
    "batch": [
      (int(BATCH * x), config(batch_size=int(BATCH * x))) for x in FACTORS
    ],
    "hidden": [
      (int(units * x), config(model__hidden=int(units * x))) for x in FACTORS
    ],
    "runs": list(zip(RUNS, several, strict=True)),
  }


def measure(config: ConfigDict, repetitions: int) -> dict[str, float]:
  """Seconds to compile the train step, and the median of a step."""
  bench = systems.Bench(systems.make_experiment(config, HELD))
  item = next(bench.items())
  times = []
  for _ in range(repetitions + 1):
    start = time.perf_counter()
    jax.block_until_ready(bench.train(*item))
    times.append(time.perf_counter() - start)
  compiled = sum(bench.engine.train.compile_seconds.values())
  return {
    "compile_seconds": round(compiled, 2),
    "step_ms": round(1e3 * statistics.median(times[1:]), 2),
  }


def slope(points: list[dict], what: str) -> float:
  """Of log `what` over log size, between the two largest sizes."""
  before, last = points[-2:]
  ratio = math.log(last[what] / before[what])
  return round(ratio / math.log(last["size"] / before["size"]), 2)


def draw(found: dict, path: pathlib.Path) -> None:
  """A row a system, a column a size; compiling beside stepping."""
  from matplotlib import pyplot as plt

  from ser_jax.evaluation import figures

  names = list(found["systems"])
  columns = list(found["systems"][names[0]])
  with plt.rc_context(figures.STYLE):
    figure, rows = plt.subplots(
      *(len(names), len(columns)),
      squeeze=False,
      figsize=(3 * len(columns), 2.8 * len(names)),
      sharey="row",
      layout="constrained",
    )
    for name, row in zip(names, rows, strict=True):
      for column, axes in zip(columns, row, strict=True):
        points = found["systems"][name][column]["points"]
        sizes = [point["size"] for point in points]
        for what, scale, colour, label in (
          ("step_ms", 1e-3, figures.BLUE, "train step"),
          ("compile_seconds", 1.0, figures.ORANGE, "compiling it"),
        ):
          slopes = found["systems"][name][column]["slopes"]
          axes.plot(
            *(sizes, [scale * point[what] for point in points]),
            marker="o",
            color=colour,
            label=f"{label}, slope {slopes[what]}",
          )
        axes.set(xscale="log", yscale="log", xlabel=column)
        axes.set_xticks(sizes, [str(size) for size in sizes])
        axes.minorticks_off()
        axes.legend(frameon=False, fontsize=7)
        axes.set_title(f"{name}: {column}")
      row[0].set_ylabel("seconds")
    figure.savefig(path, bbox_inches="tight")


def main() -> None:
  memory.keep_freed()  # as the programs do
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument(
    "--systems", nargs="+", default=RECURRENT, choices=RECURRENT
  )
  parser.add_argument("--repetitions", type=int, default=5)
  parser.add_argument(
    "--out", type=destination, default="benchmarks/results/growth"
  )
  arguments = parser.parse_args()
  found = {"machine": step_time.machine(), "batch": BATCH, "systems": {}}
  for name in arguments.systems:
    entry = {}
    for column, configs in variants(name).items():
      points = []
      for size, config in configs:
        points.append({"size": size} | measure(config, arguments.repetitions))
        print(name, column, points[-1], flush=True)
      slopes = {
        what: slope(points, what) for what in ("compile_seconds", "step_ms")
      }
      entry[column] = {"points": points, "slopes": slopes}
    found["systems"][name] = entry
  text = json.dumps(found, indent=1) + "\n"
  arguments.out.with_suffix(".json").write_text(text)
  draw(found, arguments.out.with_suffix(".png"))


if __name__ == "__main__":
  main()
