"""`metrics.jsonl` as reports read it: a line for each run, stage and epoch."""

import pathlib

from ser_jax import atomic, workdir

FILE = "metrics.jsonl"


def read(folder: pathlib.Path) -> list[dict]:
  """Lines of the log of a workdir; none if there is no log.

  Raises:
    UserError: the log is damaged.
  """
  path = folder / FILE
  return atomic.read_lines(path, workdir.LOG_LOST) if path.exists() else []


def last_stage(lines: list[dict]) -> tuple[list[dict], str]:
  """The stage whose weights are tested: epochs are counted in each anew.

  Args:
    lines: of the log.

  Returns:
    Its lines, and what titles add: its name, where there are several stages.
  """
  names = list(dict.fromkeys(line["stage"] for line in lines))
  found = [line for line in lines if line["stage"] in names[-1:]]
  return found, f", stage {names[-1]}" if len(names) > 1 else ""


def by_run(lines: list[dict]) -> dict[tuple[str, int], list[dict]]:
  """Lines of each fold and seed."""
  runs = {}
  for line in lines:
    runs.setdefault((line["fold"], line["seed"]), []).append(line)
  return runs
