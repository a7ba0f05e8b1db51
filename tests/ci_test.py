""".ci/run, with tools that only say how they end."""

import pathlib
import shutil
import subprocess

import pytest

from tests.launch_fakes import ROOT, Checkout, script


@pytest.mark.parametrize(
  "ruff, pytest_, status",
  [("0", "0", 0), ("1", "0", 1), ("0", "5", 5), ("1", "3", 3)],
)
def test_any_failure_fails_and_pytest_comes_last(
  tmp_path: pathlib.Path, ruff: str, pytest_: str, status: int
):
  checkout = Checkout(tmp_path)
  ci = checkout.root / ".ci" / "run"
  ci.parent.mkdir()
  shutil.copy(ROOT / ".ci" / "run", ci)
  script(checkout.venv / "bin" / "ruff", f"exit {ruff}")
  script(checkout.venv / "bin" / "shellcheck", "exit 0")
  script(checkout.bin / "chromium", "exit 0")
  # The environment is there, its packages are not.
  shutil.copy(checkout.python, checkout.venv / "bin" / "python")
  result = subprocess.run(
    ["bash", str(ci)],
    cwd=tmp_path,
    env=checkout.environment | {"CI": "true", "FAKE_PYTEST": pytest_},
    capture_output=True,
    text=True,
    timeout=60,
  )
  assert result.returncode == status, result.stderr
  assert result.stdout.splitlines()[-1] == "pytest"
  assert checkout.modules() == ["pip", "pytest"]
  assert ("FAILED: .venv/bin/ruff check ." in result.stderr) == (ruff == "1")
