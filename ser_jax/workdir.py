"""What a run leaves on disk, and the refusal to mix two experiments in one."""

import fcntl
import importlib.metadata
import json
import pathlib
import platform
import subprocess
import sys

from ser_jax import atomic
from ser_jax.errors import UserError

# Fields that may differ when a workdir is resumed: the result does not.
RESUMABLE = (
  "seeds",
  "data.raw",
  "parallel.backend",
  "parallel.run",
  "parallel.data",
  "checkpoint.every_epochs",
  *("analysis.seconds", "analysis.frames", "analysis.peaks"),
  "analysis.save_hlo",
  "report.embeddings",
  *("profile.steps", "profile.skip", "profile.during_training"),
)
# How a model is computed, likewise.
COMPUTED = ("model.on_cpu.", "model.on_accelerator.")
CONFIG = "config.json"
# What a folder has once something has come of it.
RESULTS = (
  *("checkpoints", "diverged", "runs"),
  *("metrics.jsonl", "predictions.npz"),
)
DATA = "data.json"
PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


def flatten(tree: dict, prefix: str = "") -> dict:
  """Nested dicts to `a.b.c` -> value."""
  flat = {}
  for key, value in tree.items():
    if isinstance(value, dict):
      flat |= flatten(value, f"{prefix}{key}.")
    else:
      flat[prefix + key] = value
  return flat


def claim(folder: pathlib.Path, config: dict):
  """Makes a workdir ours: locked, with its config checked or written.

  Args:
    folder: `--workdir`.
    config: as plain data.

  Returns:
    The lock, held until it is closed.

  Raises:
    UserError: another process or another config has the folder, or it cannot
      be written.
  """
  try:
    folder.mkdir(parents=True, exist_ok=True)
    lock = open(folder / ".lock", "w")
  except OSError as error:
    raise UserError(
      f"--workdir={folder} cannot be written ({error.strerror}): choose "
      "another."
    ) from error
  try:
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except OSError as error:
    raise UserError(
      f"--workdir={folder} is in use by another process: wait for it, or "
      "choose another."
    ) from error
  keep_config(folder, config)
  _keep_environment(folder, environment())
  return lock


def _keep_environment(folder: pathlib.Path, now: dict) -> None:
  """Writes what a folder was begun with; what came `later` goes under it.

  The first stays what it was: an evaluation elsewhere does not make it another
  training.
  """
  path = folder / "environment.json"
  first = json.loads(path.read_text()) if binds(path) else now
  later = first.pop("later", [])
  if now not in (first, *later):
    later.append(now)
  atomic.write_text(path, json.dumps(first | {"later": later}, indent=2))


def binds(path: pathlib.Path) -> bool:
  """Whether a record is there, and something that was made as it says.

  What was refused before anything was computed does not bind a folder.
  """
  return path.exists() and any((path.parent / n).exists() for n in RESULTS)


def require(folder: pathlib.Path) -> None:
  """Refuses a folder of which no training has made anything.

  Raises:
    UserError: there is nothing.
  """
  if not binds(folder / CONFIG):
    raise UserError(
      f"--workdir={folder} has no training: give the folder of a training, or "
      "train it with --mode=train."
    )


def keep_config(folder: pathlib.Path, config: dict) -> None:
  """Writes a folder's config, unless it holds results of another.

  Args:
    folder: where results of the config go.
    config: as plain data.

  Raises:
    UserError: the folder holds results of another config.
  """
  config = json.loads(json.dumps(config))
  path = folder / CONFIG
  if binds(path):
    _compare(json.loads(path.read_text()), config, folder)
  atomic.write_text(path, json.dumps(config, indent=2))


def keep_data(folder: pathlib.Path, identity: dict[str, str]) -> None:
  """Writes what a folder's results rest on, unless they rest on other data.

  Args:
    folder: where results go.
    identity: see `ser_jax.data.shards.identity`.

  Raises:
    UserError: the folder's results are of other shards.
  """
  path = folder / DATA
  before = json.loads(path.read_text()) if binds(path) else identity
  differ = [name for name in identity if before.get(name) != identity[name]]
  if differ:
    raise UserError(
      f"--workdir={folder} was trained on other shards: their "
      f"{', '.join(differ)} differ from those there are now. Choose another "
      "--workdir, or build the shards again as they were."
    )
  atomic.write_text(path, json.dumps(identity, indent=2))


def _compare(before: dict, now: dict, folder: pathlib.Path) -> None:
  """Refuses another config, showing what differs."""
  before, now = flatten(before), flatten(now)
  differ = [
    f"{name}: {before.get(name, 'absent')} there, {now.get(name, 'absent')} now"
    for name in sorted(before.keys() | now.keys())
    if before.get(name) != now.get(name)
    and name not in RESUMABLE
    and not name.startswith(COMPUTED)
  ]
  if differ and all(" absent" in found for found in differ):
    raise UserError(
      f"--workdir={folder} is of another version, whose configs have other "
      f"fields ({'; '.join(differ)}): use it with the version that trained it "
      "(environment.json has its commit), or choose another --workdir."
    )
  if differ:
    raise UserError(
      f"--workdir={folder} holds another experiment ({'; '.join(differ)}): "
      "choose another --workdir, or repeat the first config to resume."
    )


def environment() -> dict:
  """Versions, devices and commit, for the record."""
  import jax

  return {
    "command": sys.argv,
    "python": platform.python_version(),
    "machine": platform.machine(),
    "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
    "devices": sorted({device.device_kind for device in jax.devices()}),
    "device_count": jax.device_count(),
    "commit": _commit(pathlib.Path(__file__).parents[1]),
  }


def _commit(root: pathlib.Path) -> str:
  """Of a checkout, with `-dirty` if files differ from it."""
  if not (root / ".git").exists():  # installed, if into another project's tree
    return "not a git checkout"
  command = ("git", "describe", "--always", "--dirty", "--abbrev=40")
  try:
    found = subprocess.run(
      [*command, "--exclude=*"], cwd=root, capture_output=True, text=True
    )
  except FileNotFoundError:
    return "unknown: there is no git"
  return found.stdout.strip() or f"unknown: {found.stderr.strip()}"


class MetricsLog:
  """`metrics.jsonl`: one line for each run and epoch, no line twice."""

  def __init__(self, folder: pathlib.Path):
    """Opens the log of a workdir.

    Args:
      folder: `--workdir`.
    """
    self._path = folder / "metrics.jsonl"

  def rewind(self, runs: set[tuple], stage: str, epoch: int) -> None:
    """Drops the lines of some runs from an epoch of a stage on.

    Args:
      runs: fold, seed and learning rate (None where runs do not differ in it).
      stage: of each run.
      epoch: the first to drop.
    """
    if not self._path.exists():
      return
    kept = []
    for line in self._path.read_text().splitlines():
      try:
        entry = json.loads(line)
      except json.JSONDecodeError:
        continue  # a line cut short by a kill; its epoch is trained again
      run = (entry["fold"], entry["seed"], entry.get("rate"))
      ours = run in runs and entry["stage"] == stage
      if not (ours and entry["epoch"] >= epoch):
        kept.append(line)
    atomic.write_text(self._path, "".join(f"{line}\n" for line in kept))

  def append(self, entry: dict) -> None:
    """Adds one line."""
    with open(self._path, "a") as file:
      file.write(json.dumps(entry) + "\n")
