"""Weak and strong scaling: counted for devices elsewhere, then on paper.

  pip install 'ser_jax[cuda]'
  python -m benchmarks.scaling --out=benchmarks/results/scaling.md

Training steps are compiled, not run, for 1, 2, 4 and 8 GPUs on the data axis;
FLOPs, bytes, instructions and what a device sends are counted in the HLO. From
there to 256 devices work is extrapolated, and times are those of a device's
peaks.
"""

import argparse
import math

from benchmarks import systems
from benchmarks.destination import destination
from benchmarks.targets import programs
from ser_jax.analysis.roofline import DEVICES, Peaks
from ser_jax.analysis.targets import GPUS
from ser_jax.errors import UserError
from ser_jax.evaluation.markdown import table

COUNTED, PAPER = (1, 2, 4, 8), (1, 8, 64, 256)
SHARE = 32  # examples a device, weak; strong: that of all on 8 devices
STRONG = 256
# What neither FLOPs nor bytes tell: starting one kernel, and one collective,
# for each doubling of the devices.
START, HOP = 2e-6, 5e-6
NOTES = """\
Batch: of one device. Counted in the program that XLA makes for these GPUs,
without trying kernels out (no autotuning). Times: FLOPs at the peak of TF32
products, arguments and results once through memory, {start:.0f} µs to start
each instruction executed (assumed), and for collectives what a device sends at
the link's peak and {hop:.0f} µs for every doubling of the devices (assumed).
What takes longest binds, and gives the examples a second. Strong scaling splits
{strong} examples: 256 devices have one each. Links are those within a node;
between nodes they are slower."""


def count(name: str, target: str, devices: int, batch: int) -> dict:
  """Describes one device's training step; nothing is run."""
  found = programs(
    *(name, f"{target}:{devices}"),
    parallel__data=devices,
    batch_size=devices * batch,
  )["train"]
  sent = found["collectives"].values()
  return {
    "batch": batch,
    "flops": found["flops"],
    "products": found["roofline"]["seconds"]["products"],
    "memory": found["roofline"]["seconds"]["memory"],
    "instructions": found["instructions"]["executed"],
    "iterations": found["iterations"],
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
    Seconds by what takes them; work is linear in the examples of a device, and
    instructions are as many.
  """
  first, last = found[min(found)], found[max(found)]
  apart = first["batch"] - last["batch"]

  counted = found.get(devices, {})

  def at_share(key: str) -> float:
    if counted.get("batch") == share:
      return counted[key]
    slope = (first[key] - last[key]) / apart if apart else 0.0
    return max(last[key] + slope * (share - last["batch"]), 0.0)

  ring = 2 * (devices - 1) / devices * last["payload"] / peaks.link
  hops = last["collectives"] * HOP * math.log2(devices)
  return {
    "products": at_share("products"),
    "memory": at_share("memory"),
    "starts": (counted or last)["instructions"] * START,
    "links": ring + hops,
  }


def counted_rows(found: dict[int, dict]) -> list[list[str]]:
  """Cells of what was counted, by devices."""
  return [
    [
      str(devices),
      str(each["batch"]),
      f"{each['flops'] / 1e9:.2f}",
      f"{each['instructions']:,}",
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


def section(name: str, counted: list[int], target: str) -> str:
  """Both kinds of scaling of a system."""
  peaks = DEVICES[target]["tf32"]
  parts, known = [f"## {name}"], {}
  for strong in (False, True):
    found = {}
    for devices in counted:
      shape = devices, STRONG // devices if strong else SHARE
      # Where both kinds of scaling meet, the program is the same.
      known[shape] = known.get(shape) or count(name, target, *shape)
      found[devices] = known[shape]
    header = ["devices", "batch", "GFLOP", "instructions", "iterations",
              "collectives", "payload, MB", "sent, MB"]  # fmt: skip
    paper = ["devices", "batch", "products, µs", "memory, µs", "starts, µs",
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
  parser.add_argument(
    "--systems", nargs="+", default=["aae", "dat"], choices=systems.SYSTEMS
  )
  parser.add_argument("--devices", nargs="+", type=int, default=COUNTED)
  parser.add_argument("--target", default="NVIDIA H200", choices=GPUS)
  parser.add_argument(
    "--out", type=destination, default="benchmarks/results/scaling.md"
  )
  arguments = parser.parse_args()
  notes = NOTES.format(start=1e6 * START, hop=1e6 * HOP, strong=STRONG)
  parts = ["# Scaling over devices", notes]
  for name in arguments.systems:
    try:
      parts.append(section(name, arguments.devices, arguments.target))
    except UserError as error:
      parser.error(str(error))
    arguments.out.write_text("\n\n".join(parts) + "\n")


if __name__ == "__main__":
  main()
