"""What every system's steps become on accelerators that are not here.

  pip install 'ser_jax[cuda,tpu]'
  python -m benchmarks.targets --out=benchmarks/results/targets.md
  python -m benchmarks.targets --targets "NVIDIA H200" --systems dat \
      --set parallel.runs="'vmap'" "seeds=(0, 1)" --out=stacked.md

Steps (of a system's last stage) are compiled for each target, not run:
instructions (on a GPU each is about a kernel), loops, memory, and the least
time by the data sheet's peaks.
"""

import argparse
import ast
import pathlib

import jax

from benchmarks import systems
from benchmarks.destination import destination
from ser_jax.analysis import compiled
from ser_jax.analysis.markdown import quantity
from ser_jax.errors import UserError
from ser_jax.evaluation.markdown import table

BATCH = 32
TARGETS = ("NVIDIA H200", "NVIDIA A100-SXM4-80GB", "v5e:1x1")
HEADER = [
  *("step", "instructions", "in loops", "iterations", "GFLOP", "moved, MB"),
  *("peak memory, MB", "compiled in, s", "floor", "bound by"),
]
NOTES = """\
Batch {batch}, {precision}, one device, a resident corpus, utterances as long as
they may be; of systems with several stages the last.{changes} Instructions are
executed ones, those in loops as often as the loop goes round. Moved: what
instructions read and write, caches aside. The floor is the longest of products,
arguments and results once, and links at the peaks of the data sheet; starting
kernels and waiting are not in it. XLA chose kernels without trying them (no
autotuning); GPUs may be given several at once (CUDA graphs), which a program
does not show. Compiled on one host core at a time, by jax {jax}."""


def programs(name: str, target: str, **changes) -> dict[str, dict]:
  """A system's steps, of its last stage, compiled for a target.

  Args:
    name: a key of `systems.SYSTEMS` or `OWN`.
    target: as `config.analysis.target`.
    **changes: see `systems.make_config`.

  Returns:
    As in `analysis.json`: `train` and `predict`.
  """
  config = systems.make_config(name, analysis__target=target, **changes)
  found = compiled.analyze(config, pathlib.Path("none"))
  return list(found["stages"].values())[-1]["programs"]


def _cells(program: dict) -> list[str]:
  executed, roofline = program["instructions"]["executed"], program["roofline"]
  inside = sum(
    loop["times"] * (loop["trips"] or 1) * loop["ops"]
    for loop in program["loops"]
    if not loop["nesting"]
  )
  return [
    f"{executed:,}",
    f"{inside:,}",
    f"{program['iterations']:,}",
    f"{program['flops'] / 1e9:.4g}",
    f"{program['bytes'] / 1e6:,.0f}",
    f"{program['memory']['peak'] / 1e6:,.0f}",
    f"{program['seconds']['compile']:.1f}",
    quantity(roofline["floor"], "s"),
    roofline["bound"],
  ]


def section(names: list[str], target: str, changes: dict) -> str:
  """The table of a target."""
  rows, peaks = [], {}
  for name in names:
    found = programs(
      *(name, target), **{"batch_size": BATCH, "parallel.data": 1} | changes
    )
    rows += [[f"`{name}` {step}", *_cells(found[step])] for step in found]
    peaks = found["train"]["roofline"]["peaks"]
    print(target, *rows[-2:], sep="\n", flush=True)
  return (
    f"## {peaks['name']}\n\nProducts "
    f"{quantity(peaks['flops']['f32'], 'FLOP/s')}, memory "
    f"{quantity(peaks['bytes'], 'B/s')}.\n\n{table(HEADER, rows)}"
  )


def change(text: str) -> tuple[str, object]:
  """`parallel.runs='vmap'` -> a field and its value: a `type` of argparse."""
  field, _, value = text.partition("=")
  try:
    return field, ast.literal_eval(value)
  except (SyntaxError, ValueError) as error:
    raise argparse.ArgumentTypeError(
      f"{text} must be a field and its value as in a config file, such as "
      "parallel.runs='vmap'"
    ) from error


def main() -> None:
  known = [*systems.SYSTEMS, *systems.OWN]
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--systems", nargs="+", default=known, choices=known)
  parser.add_argument("--targets", nargs="+", default=TARGETS)
  parser.add_argument("--set", nargs="+", default=[], type=change)
  parser.add_argument(
    "--out", type=destination, default="benchmarks/results/targets.md"
  )
  arguments = parser.parse_args()
  precision = systems.make_config(arguments.systems[0]).precision
  changes = dict(arguments.set)
  told = "".join(f" {field}={value!r}." for field, value in changes.items())
  notes = NOTES.format(
    batch=BATCH, precision=precision, changes=told, jax=jax.__version__
  )
  parts = ["# Compiled for accelerators", notes]
  for target in arguments.targets:
    try:
      parts.append(section(arguments.systems, target, changes))
    except UserError as error:
      parser.error(str(error))
    arguments.out.write_text("\n\n".join(parts) + "\n")


if __name__ == "__main__":
  main()
