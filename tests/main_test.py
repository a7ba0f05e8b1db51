"""What the command line says of itself."""

import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]


def test_help_lists_the_flags_of_every_mode():
  """Errors say that it does."""
  done = subprocess.run(
    [sys.executable, "-m", "ser_jax.main", "--help"],
    cwd=ROOT,
    capture_output=True,
    text=True,
  )
  assert set(re.findall(r"^  --(?:\[no\])?(\w+):", done.stdout, re.M)) == {
    *("config", "workdir", "mode", "compare", "profiler_port", "distributed"),
    *("output", "run", "window", "hop", "workers", "same_speaker"),
  }
