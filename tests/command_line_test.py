"""What a program says of what the system refuses, and of odd names."""

import os
import subprocess
import sys

import pytest

from ser_jax import command_line
from ser_jax.errors import UserError


def run(body: str, **environment) -> subprocess.CompletedProcess:
  """A program of ours with this body."""
  code = f"""
from ser_jax import atomic, command_line
import os, pathlib
def main(argv):
  {body}
command_line.start(main)
"""
  return subprocess.run(
    [sys.executable, "-c", code],
    capture_output=True,
    env=os.environ | environment,
  )


@pytest.mark.parametrize(
  "body, told",
  [
    ("open('/dev/full', 'w', 0x1000).write('x' * 9999)", "No space left on"),
    ("open('/absent/report.md')", "/absent/report.md cannot be read"),
    (
      "atomic.write_text(pathlib.Path('/absent/report.md'), '')",
      "/absent/report.md cannot be read or written (No such file",
    ),
  ],
)
def test_what_the_system_refuses_is_one_line(body, told):
  done = run(body)
  text = done.stderr.decode()
  assert done.returncode == 2
  assert text.startswith("error: ") and told in text
  assert text.count("\n") == 1 and "free space" in text


def test_an_experiment_without_a_finite_run_ends_as_one_with_some():
  """Bad input is 2; a run that diverged is 1, others or not."""
  raising = "from ser_jax.train.loop import Diverged; raise Diverged('lost')"
  assert run(raising).returncode == 1
  assert run(raising.replace("Diverged", "UserError")).returncode == 2


def test_what_is_no_flag_is_one_line():
  with pytest.raises(UserError, match="what is a.wav[?] Only --mode=predict"):
    command_line.refuse_arguments(["ser_jax.main", "a.wav"])


def test_any_name_of_a_file_can_be_printed():
  body = "print(os.fsdecode(b'\\xff.wav'), '\\u00d7')"
  plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
  for environment in ({}, plain):
    done = run(body, **environment)
    assert done.returncode == 0, done.stderr
    assert b".wav" in done.stdout


def test_a_thread_s_traceback_is_left_to_who_raises_it():
  """Orbax logs the error of each of its threads, and raises it besides."""
  done = run(
    "from absl import logging; logging.warning('kept')\n"
    "  try: 1 / 0\n"
    "  except ZeroDivisionError: logging.exception('twice')"
  )
  assert b"kept" in done.stderr and b"twice" not in done.stderr
