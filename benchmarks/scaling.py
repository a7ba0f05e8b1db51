"""Weak and strong scaling: counted on supposed devices, then on paper.

  XLA_FLAGS=--xla_force_host_platform_device_count=8 \
      python -m benchmarks.scaling

Training steps are compiled, not run, for 1, 2, 4 and 8 devices on the data
axis; FLOPs, bytes and what a device sends are counted in the HLO. From there
to 256 devices work is extrapolated, and times are those of a device's peaks.
"""

import argparse
import math

import jax
import numpy as np

from benchmarks import systems
from benchmarks.destination import destination
from ser_jax import runs
from ser_jax.analysis import compiled
from ser_jax.analysis.roofline import DEVICES, Peaks
from ser_jax.evaluation.markdown import table

COUNTED, PAPER = (1, 2, 4, 8), (1, 8, 64, 256)
SHARE = 32  # examples a device, weak; strong: that of all on 8 devices
STRONG = 256
# What neither FLOPs nor bytes tell: one iteration of a device's loop (its
# kernels' launches), and one collective, for each doubling of the devices.
ITERATION, HOP = 10e-6, 5e-6
# Turns of the loop that draws random numbers, which only CPUs do not unroll.
DRAWING = 5
NOTES = """\
Batch: of one device. Counted in the program of the CPU backend with plain
convolutions and hoisted projections; its fusions are not an accelerator's, its
FLOPs, loop iterations and collectives are. Times: FLOPs at the peak of TF32
products, arguments and results once through memory, {iteration:.0f} µs for
each iteration of a sequential loop, and for collectives what a device sends at
the link's peak and {hop:.0f} µs for every doubling of the devices. What takes
longest binds, and gives the examples a second. Strong scaling splits {strong}
examples: 256 devices have one each. Links are those within a node; between
nodes they are slower.
"""


def count(name: str, devices: int, batch: int, peaks: Peaks) -> dict:
  """Describes one device's training step; nothing is run."""
  config = systems.as_on_accelerators(
    systems.make_config(
      name, parallel__data=devices, batch_size=devices * batch
    )
  )
  experiment = systems.make_experiment(config, held=3)
  layout, stage = experiment.layout, experiment.stages[-1]
  engine = runs.make_engines(experiment)[-1]
  frames, item = next(engine.source.items(compiled.epoch_rows(experiment)))
  state = jax.tree.map(
    lambda x: np.zeros(x.shape, x.dtype),
    compiled.state_shapes(experiment, stage),
  )
  lowered = engine.train.lower(
    layout.place_runs(state),
    layout.place_item(item),
    runs.group_statistics(experiment, experiment.groups[0]),
    compiled.whole_corpus(experiment, engine.constants),
    frames,
  )
  found = compiled.describe(lowered.compile().as_text(), peaks)
  sent = found["collectives"].values()
  return {
    "batch": batch,
    "flops": found["flops"],
    "products": found["roofline"]["seconds"]["products"],
    "memory": found["roofline"]["seconds"]["memory"],
    "iterations": sum(
      loop["times"] * loop["trips"]
      for loop in found["loops"]
      if (loop["trips"] or 0) > DRAWING
    ),
    "collectives": sum(row["executed"] for row in sent),
    "payload": sum(row["payload"] for row in sent),
    "wire": sum(row["wire"] for row in sent),
  }


def on_paper(
  found: dict[int, dict], share: int, devices: int, peaks: Peaks
) -> dict[str, float]:
  """A step's times on as many devices as there may be.

  Args:
    found: what was counted, by devices.
    share: examples of a device.
    devices: how many there are.
    peaks: of one.

  Returns:
    Seconds by what takes them; work is linear in the examples of a device.
  """
  first, last = found[min(found)], found[max(found)]
  apart = first["batch"] - last["batch"]

  def at_share(key: str) -> float:
    slope = (first[key] - last[key]) / apart if apart else 0.0
    return max(last[key] + slope * (share - last["batch"]), 0.0)

  ring = 2 * (devices - 1) / devices * last["payload"] / peaks.link
  hops = last["collectives"] * HOP * math.log2(devices)
  return {
    "products": at_share("products"),
    "memory": at_share("memory"),
    "loops": at_share("iterations") * ITERATION,
    "links": ring + hops,
  }


def counted_rows(found: dict[int, dict]) -> list[list[str]]:
  """Cells of what was counted, by devices."""
  return [
    [
      str(devices),
      str(each["batch"]),
      f"{each['flops'] / 1e9:.2f}",
      f"{each['iterations']:,}",
      str(each["collectives"]),
      f"{each['payload'] / 1e6:.2f}",
      f"{each['wire'] / 1e6:.2f}",
    ]
    for devices, each in found.items()
  ]


def paper_rows(found: dict[int, dict], peaks: Peaks, strong: bool) -> list:
  """Cells of the times on paper, by devices."""
  rows = []
  for devices in PAPER:
    share = STRONG // devices if strong else SHARE
    times = on_paper(found, share, devices, peaks)
    bound = max(times, key=times.get)
    rows.append(
      [
        *(str(devices), str(share)),
        *(f"{1e6 * seconds:.3g}" for seconds in times.values()),
        *(bound, f"{devices * share / times[bound]:,.0f}"),
      ]
    )
  return rows


def section(name: str, counted: list[int], peaks: Peaks) -> str:
  """Both kinds of scaling of a system."""
  parts, known = [f"## {name}"], {}
  for strong in (False, True):
    found = {}
    for devices in counted:
      shape = devices, STRONG // devices if strong else SHARE
      # Where both kinds of scaling meet, the program is the same.
      known[shape] = known.get(shape) or count(name, *shape, peaks)
      found[devices] = known[shape]
    header = ["devices", "batch", "GFLOP", "loop iterations", "collectives",
              "payload, MB", "sent, MB"]  # fmt: skip
    paper = ["devices", "batch", "products, µs", "memory, µs", "loops, µs",
             "links, µs", "bound", "examples/s"]  # fmt: skip
    parts += [
      f"### {'Strong' if strong else 'Weak'}, counted (a device and step)",
      table(header, counted_rows(found)),
      f"On paper, {peaks.name}:",
      table(paper, paper_rows(found, peaks, strong)),
    ]
    print(name, "strong" if strong else "weak", found, flush=True)
  return "\n\n".join(parts)


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--systems", nargs="+", default=["aae", "dat"])
  parser.add_argument("--devices", nargs="+", type=int, default=COUNTED)
  parser.add_argument("--peaks", default="NVIDIA H200", choices=DEVICES)
  parser.add_argument(
    "--out", type=destination, default="benchmarks/results/scaling.md"
  )
  arguments = parser.parse_args()
  most = max(arguments.devices)
  if len(jax.devices()) < most:
    parser.error(
      f"set XLA_FLAGS=--xla_force_host_platform_device_count={most}: there "
      f"are {len(jax.devices())} devices"
    )
  peaks = DEVICES[arguments.peaks]["tf32"]
  notes = NOTES.format(iteration=1e6 * ITERATION, hop=1e6 * HOP, strong=STRONG)
  parts = ["# Scaling over devices", notes]
  for name in arguments.systems:
    parts.append(section(name, arguments.devices, peaks))
    arguments.out.write_text("\n\n".join(parts) + "\n")


if __name__ == "__main__":
  main()
