"""Speed table of benchmarks/README.md, from results of `benchmarks.step_time`.

python -m benchmarks.table benchmarks/results/cpu.json
"""

import argparse
import json
import pathlib

from ser_jax.evaluation.markdown import table

SIDES = (
  *("resident", "stream", "torch eager", "torch eager, memory kept"),
  "torch.compile",
)


def rows(found: dict) -> list[list[str]]:
  """A row for each system and step; what was not measured is left blank."""
  result = []
  for system, entry in found["systems"].items():
    for step in ("train", "predict"):
      sides = entry[step]
      ours = sides["resident"]
      times = [
        _milliseconds(sides[side]["median_ms"]) if side in sides else ""
        for side in SIDES
      ]
      result.append(
        [
          f"`{system}` {step}",
          *times,
          str(sides.get("ratio", "")),
          str(sides.get("ratio_kept", "")),
          f"{ours['first_call_seconds']:.1f}",
          f"{ours['peak_mb']:.0f}",
        ]
      )
  return result


def _milliseconds(value: float) -> str:
  return f"{value:.0f}" if value >= 1000 else f"{value:.4g}"


def render(found: dict) -> str:
  """The table, and what it was measured on."""
  machine = found["machine"]
  packages = ", ".join(f"{k} {v}" for k, v in machine["packages"].items())
  header = [
    *("step", "resident, ms", "streamed, ms", "PyTorch eager, ms"),
    *("the same, memory kept, ms", "torch.compile, ms", "ratio"),
    *("both kept", "compiled in, s", "memory, MB"),
  ]
  return (
    f"{table(header, rows(found))}\n\n"
    f"Batch 32, {found['precision']}, {machine['cores']} core(s) of "
    f"{machine['cpu']}, device {machine['device']}, load {machine['load']}, "
    f"Python {machine['python']}, {packages}. Ratio: PyTorch's better side to "
    "ours, resident, which keeps freed memory; both kept: so does PyTorch."
  )


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("results", type=pathlib.Path)
  print(render(json.loads(parser.parse_args().results.read_text())))


if __name__ == "__main__":
  main()
