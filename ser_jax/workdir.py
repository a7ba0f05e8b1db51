"""What a run leaves on disk, and the refusal to mix two experiments in one."""

import fcntl
import importlib.metadata
import itertools
import json
import pathlib
import platform
import subprocess
import sys
from collections.abc import Iterable

from ser_jax import atomic
from ser_jax.errors import UserError

# Fields that may differ when a workdir is resumed: the result does not.
RESUMABLE = (
  *("seeds", "later"),  # which `keep_config` joins
  *("data.raw", "data.shards"),  # which `keep_data` compares
  *("parallel.backend", "parallel.run", "parallel.data"),
  *("checkpoint.every_epochs", "report.embeddings"),
)
# Whole sections, likewise: how a model is computed, and what is told of that.
ASIDE = ("model.on_cpu.", "model.on_accelerator.", "analysis.", "profile.")
CONFIG = "config.json"
# What a folder has once something has come of it.
RESULTS = (
  *("checkpoints", "diverged", "runs"),
  *("metrics.jsonl", "predictions.npz"),
)
DATA = "data.json"
LOG_LOST = (
  "copy it back from where it was trained, or delete it: reports then show no "
  "learning curves, and those of several learning rates cannot be."
)
_COPY = "copy it back from where it was trained, or choose another --workdir."
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
  """Makes a workdir ours: locked, with its config checked.

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
  check_config(folder, config)
  _keep_environment(folder, environment())
  return lock


def _keep_environment(folder: pathlib.Path, now: dict) -> None:
  """Writes what a folder was begun with; what came `later` goes under it.

  The first stays what it was: an evaluation elsewhere does not make it another
  training.
  """
  path = folder / "environment.json"
  first = atomic.read_json(path, _COPY) if binds(path) else now
  later = first.pop("later", [])
  if now not in (first, *later):
    later.append(now)
  atomic.write_text(path, json.dumps(first | {"later": later}, indent=2))


def binds(path: pathlib.Path) -> bool:
  """Whether a record is there, and something that was made as it says.

  What was refused before anything was computed does not bind a folder.
  """
  return path.exists() and _has_results(path.parent)


def _has_results(folder: pathlib.Path) -> bool:
  return any((folder / name).exists() for name in RESULTS)


def _kept(path: pathlib.Path) -> dict | None:
  """A record that binds; None in a folder of which nothing has come.

  Raises:
    UserError: it cannot be read, or the folder's results have lost it.
  """
  if not _has_results(path.parent):
    return None
  if not path.exists():
    raise UserError(
      f"--workdir={path.parent} has results but no {path.name}, which tells "
      "of what they are: copy it back, or choose another --workdir."
    )
  return atomic.read_json(path, _COPY)


def require(folder: pathlib.Path) -> None:
  """Refuses a folder of which no training has made anything.

  Raises:
    UserError: there is nothing, or its config is lost or damaged.
  """
  if _kept(folder / CONFIG) is None:
    raise UserError(
      f"--workdir={folder} has no training: give the folder of a training, or "
      "train it with --mode=train."
    )


def check_config(folder: pathlib.Path, config: dict) -> None:
  """Refuses a folder with results of another config.

  Args:
    folder: where results of the config go.
    config: as plain data.

  Raises:
    UserError: the folder holds results of another config, or has lost it.
  """
  before = _kept(folder / CONFIG)
  if before is not None:
    _compare(before, json.loads(json.dumps(config)), folder)


def keep_config(folder: pathlib.Path, config: dict) -> None:
  """Writes a folder's config, unless it holds results of another.

  Seeds that it has already stay, since runs of all are there; others are added
  as `later`.

  Args:
    folder: where results of the config go.
    config: as plain data.

  Raises:
    UserError: the folder holds results of another config, or has lost it.
  """
  check_config(folder, config)
  if "seeds" in config:
    first, *later = seeds(folder, config["seeds"])
    config = config | {"seeds": first} | ({"later": later} if later else {})
  atomic.write_text(folder / CONFIG, json.dumps(config, indent=2))


def seeds(folder: pathlib.Path, given: Iterable[int]) -> list[list[int]]:
  """Seeds, and those of a folder's config if results have come of it.

  Args:
    folder: `--workdir`.
    given: seeds that are asked for.

  Returns:
    All of them, those that came together in one list: first those that are
    there, as they were begun and added, then what is new.

  Raises:
    UserError: the folder's config is lost or damaged.
  """
  config = _kept(folder / CONFIG) or {}
  before = [config.get("seeds", ()), *config.get("later", ())]
  known = set(itertools.chain(*before))
  new = [seed for seed in dict.fromkeys(given) if seed not in known]
  return [some for some in (*before, new) if some]


def keep_data(folder: pathlib.Path, identity: dict[str, str]) -> None:
  """Writes what a folder's results rest on, unless they rest on other data.

  Args:
    folder: where results go.
    identity: see `ser_jax.data.shards.identity`.

  Raises:
    UserError: the folder's results are of other shards, or of who knows which.
  """
  path = folder / DATA
  before = _kept(path) or identity
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
    and not name.startswith(ASIDE)
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
    for entry in atomic.read_lines(self._path, LOG_LOST):
      run = (entry["fold"], entry["seed"], entry.get("rate"))
      ours = run in runs and entry["stage"] == stage
      if not (ours and entry["epoch"] >= epoch):
        kept.append(f"{json.dumps(entry)}\n")
    atomic.write_text(self._path, "".join(kept))

  def append(self, entry: dict) -> None:
    """Adds one line."""
    with atomic.naming(self._path), open(self._path, "a") as file:
      file.write(json.dumps(entry) + "\n")
