"""What README.md tells people to type is there."""

import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


def _source(*folders: str) -> str:
  files = (path for f in folders for path in (ROOT / f).rglob("*.py"))
  return "\n".join(path.read_text() for path in files)


def known_flags() -> set[str]:
  """Of our programs, of the benchmarks and of launch.sh."""
  ours = _source("ser_jax", "data_prep")
  found = set(re.findall(r'DEFINE_\w+\(\s*"([\w-]+)"', ours))
  found |= {f"no{n}" for n in re.findall(r'DEFINE_bool\w*\(\s*"(\w+)"', ours)}
  found |= set(re.findall(r'"--([\w-]+)"', _source("benchmarks")))
  found |= set(re.findall(r"--([\w-]+)\)", (ROOT / "launch.sh").read_text()))
  # absl takes dashes for underscores.
  return {name.replace("-", "_") for name in found | {"config", "help"}}


def test_flags_are_there():
  told = set(re.findall(r"(?<![\w-])--([a-z][\w-]*)", README))
  told = {n.replace("-", "_") for n in told if not n.startswith("xla_")}
  assert len(told) > 20
  assert told <= known_flags()


@pytest.mark.parametrize("pattern", [
  r"\]\(([\w./-]+)\)", r"(configs/[\w/]+\.py)", r"`(ser_jax/[\w/]+\.py)`"
])  # fmt: skip
def test_files_are_there(pattern):
  told = set(re.findall(pattern, README))
  assert told and all((ROOT / path).exists() for path in told)


def test_modules_are_there():
  for name in set(re.findall(r"python -m ([\w.]+)", README)):
    assert (ROOT / name.replace(".", "/")).with_suffix(".py").is_file(), name
