"""Checkpoints of a group of runs: the only file that names orbax.

One checkpoint holds the newest state, the best and the last weights of every
run and the bookkeeping, so that nothing can be restored by halves; that of a
finished group needs no state. Saves are asynchronous; the one before is kept
until the next is complete. With the bookkeeping go checksums of all, which are
compared with what is read.
"""

import json
import pathlib
import zlib

import jax
import numpy as np
import orbax.checkpoint as ocp
from jaxtyping import PyTree

from ser_jax.errors import UserError
from ser_jax.train import processes

_TRAIN_AGAIN = "delete that folder to train this run again from its start."
SHOWN = 160  # characters of a message that are
_COPY_AGAIN = "copy it again from where it was trained."


class Checkpoints:
  """The checkpoints in one folder; close it to wait for pending saves."""

  def __init__(self, folder: pathlib.Path):
    """Opens or makes the folder.

    Args:
      folder: one group of runs in one stage.

    Raises:
      UserError: it cannot be made.
    """
    self._folder = folder
    self._manager = None
    processes.on_primary(self._open)

  def __enter__(self):
    return self

  def __exit__(self, kind, *error):
    if kind is None:
      processes.on_primary(self._close)
    elif self._manager is not None:  # other processes may be elsewhere
      self._close()

  def _close(self) -> None:
    try:
      self._manager.wait_until_finished()
    except (OSError, ValueError) as failed:
      raise self._unwritten(failed) from failed
    finally:
      self._manager.close()

  def _open(self) -> None:
    try:
      self._manager = _manager(self._folder.absolute())
    except (FileExistsError, NotADirectoryError) as error:
      raise UserError(
        f"checkpoint: {self._folder} is a file, or in one, where folders of "
        "checkpoints belong: delete it, or choose another --workdir."
      ) from error
    except OSError as error:
      raise self._unwritten(error) from error

  def progress(self) -> dict | None:
    """The bookkeeping of the newest checkpoint; None without one.

    Raises:
      UserError: the checkpoint is damaged.
    """
    return processes.on_primary(
      lambda: _progress(self._manager, self._folder, _TRAIN_AGAIN)
    )

  def save(self, step: int, arrays: PyTree, progress: dict) -> None:
    """Begins a save; the arrays may be changed as soon as this returns.

    Args:
      step: must grow from save to save; a step already saved is left alone.
      arrays: host arrays.
      progress: plain data, the same once it has been JSON.

    Raises:
      UserError: the disk is full or the folder cannot be written.
    """
    processes.on_primary(lambda: self._save(step, arrays, progress))

  def _save(self, step: int, arrays: PyTree, progress: dict) -> None:
    if step == self._manager.latest_step():
      return
    try:
      self._manager.save(
        step,
        args=ocp.args.Composite(
          arrays=ocp.args.PyTreeSave(arrays),
          progress=ocp.args.JsonSave(_signed(arrays, progress)),
        ),
        force=True,
      )
    except (OSError, ValueError) as error:
      raise self._unwritten(error) from error

  def _unwritten(self, error: Exception) -> UserError:
    """What a save ends with that the disk refused, then or while it ran."""
    complete = any(p.name.isdigit() for p in self._folder.glob("*"))
    kept = "the last complete checkpoint is intact, and " if complete else ""
    return UserError(
      f"checkpoint: cannot write {self._folder} ({_end(error)}): free space or "
      f"choose another --workdir; {kept}the same command resumes."
    )

  def restore(self, like: dict[str, PyTree]) -> dict[str, PyTree]:
    """Reads trees of the newest checkpoint onto the host.

    Args:
      like: the trees wanted, as shapes and types to expect.

    Returns:
      The same trees of host arrays.

    Raises:
      UserError: the checkpoint is of another model or is damaged.
    """
    return processes.read(
      lambda: _arrays(self._manager, self._folder, like, _TRAIN_AGAIN), like
    )


def read_progress(folder: pathlib.Path) -> dict | None:
  """Reads the bookkeeping of a checkpoint of which nothing is to be changed.

  Args:
    folder: one group of runs in one stage; read by process 0 alone.

  Returns:
    That of the newest; None without one.

  Raises:
    UserError: the checkpoint is damaged.
  """
  if not folder.is_dir():
    return None
  with _reader(folder) as manager:
    return _progress(manager, folder, _COPY_AGAIN)


def read_arrays(
  folder: pathlib.Path, like: dict[str, PyTree]
) -> dict[str, PyTree]:
  """Reads trees of a checkpoint of which nothing is to be changed.

  Args:
    folder: one group of runs in one stage; read by process 0 alone.
    like: the trees wanted of the newest, as shapes and types to expect.

  Returns:
    The same trees of host arrays.

  Raises:
    UserError: the checkpoint is of another model or damaged.
  """
  with _reader(folder) as manager:
    return _arrays(manager, folder, like, _COPY_AGAIN)


def _progress(
  manager: ocp.CheckpointManager, folder: pathlib.Path, remedy: str
) -> dict | None:
  step = manager.latest_step()
  if step is None:
    return None
  wanted = ocp.args.Composite(progress=ocp.args.JsonRestore())
  try:
    signed = manager.restore(step, args=wanted)["progress"]
    found = signed["progress"]
    _check({"progress": _checksum_of(found)}, signed["checksums"])
    return found
  except (ValueError, OSError, KeyError, TypeError) as error:
    raise _damaged(folder / str(step), error, remedy) from error


def _arrays(
  manager: ocp.CheckpointManager,
  folder: pathlib.Path,
  like: dict[str, PyTree],
  remedy: str,
) -> dict[str, PyTree]:
  """The trees asked for; names, shapes and types are compared before."""
  path = folder / str(manager.latest_step())
  host = ocp.RestoreArgs(restore_type=np.ndarray)
  wanted = ocp.args.PyTreeRestore(
    item=jax.tree.map(_empty, like),
    restore_args=jax.tree.map(lambda _: host, like),
    partial_restore=True,
  )
  try:
    found = _stored(manager, int(path.name))
    names = [name for name in found if name.split("/")[0] in like]
    _compare(path, {name: found[name] for name in names}, _signature(like))
    args = ocp.args.Composite(arrays=wanted, progress=ocp.args.JsonRestore())
    restored = manager.restore(int(path.name), args=args)
    _check(_checksums(restored["arrays"]), restored["progress"]["checksums"])
    return restored["arrays"]
  except (ValueError, OSError, KeyError, TypeError) as error:
    raise _damaged(path, error, remedy) from error


def _signed(arrays: PyTree, progress: dict) -> dict:
  """The bookkeeping with checksums, its own and those of arrays by path."""
  own = {"progress": _checksum_of(progress)}
  return {"progress": progress, "checksums": own | _checksums(arrays)}


def _checksums(arrays: PyTree) -> dict[str, int]:
  """Path -> checksum of every array."""
  return {
    path: zlib.crc32(np.ascontiguousarray(leaf).reshape(-1).view(np.uint8))
    for path, leaf in _leaves(arrays).items()
  }


def _checksum_of(progress: dict) -> int:
  return zlib.crc32(json.dumps(progress).encode())


def _check(found: dict[str, int], kept: dict[str, int]) -> None:
  """Compares checksums of what was read.

  Raises:
    ValueError: they differ, or none was kept.
  """
  wrong = [name for name in found if kept.get(name) != found[name]]
  if wrong:
    raise ValueError(f"{wrong[0]} is not what was saved, by its checksum")


def _stored(manager: ocp.CheckpointManager, step: int) -> dict[str, str]:
  """Path -> shape and type of every array in a checkpoint."""
  metadata = manager.item_metadata(step)["arrays"]
  return _signature(metadata.tree if hasattr(metadata, "tree") else metadata)


def _compare(
  path: pathlib.Path, found: dict[str, str], wanted: dict[str, str]
) -> None:
  """Refuses a checkpoint of other arrays than the model's."""
  for name in sorted(found.keys() | wanted.keys()):
    if found.get(name) != wanted.get(name):
      raise UserError(
        f"checkpoint: {path} is of another model: "
        f"{name} is {found.get(name, 'absent')} there and "
        f"{wanted.get(name, 'absent')} in this config. Use the config that "
        "it was trained with (config.json in its --workdir), or another "
        "--workdir."
      )


def _damaged(path: pathlib.Path, error: Exception, remedy: str) -> UserError:
  what = error
  if isinstance(error, KeyError | TypeError):
    what = f"or of another version: {error!r}"
  return UserError(f"checkpoint: {path} is damaged ({_end(what)}): {remedy}")


def _end(error: object) -> str:
  """The end of a message of orbax, which tells what happened, in one line."""
  text = " ".join(str(error).partition(" [tensorstore_spec=")[0].split())
  return text if len(text) <= SHOWN else f"...{text[-SHOWN:]}"


def _manager(folder: pathlib.Path) -> ocp.CheckpointManager:
  """Orbax's manager of a folder that is made if absent."""
  folder.mkdir(parents=True, exist_ok=True)
  newest = ocp.checkpoint_managers.LatestN(n=1)
  return _alone(folder, preservation_policy=newest)


def _reader(folder: pathlib.Path) -> ocp.CheckpointManager:
  """Orbax's manager of a folder that stays as it is."""
  return _alone(folder.absolute())


def _alone(folder: pathlib.Path, **options) -> ocp.CheckpointManager:
  """A manager that asks nothing of other processes; for process 0."""
  alone = ocp.options.MultiprocessingOptions(
    primary_host=0, active_processes={0}, barrier_sync_key_prefix="primary"
  )
  arrays = ocp.PyTreeCheckpointHandler(multiprocessing_options=alone)
  progress = ocp.JsonCheckpointHandler(multiprocessing_options=alone)
  return ocp.CheckpointManager(
    folder,
    options=ocp.CheckpointManagerOptions(
      create=False, multiprocessing_options=alone, **options
    ),
    item_handlers={"arrays": arrays, "progress": progress},
  )


def _empty(like) -> np.ndarray:
  return np.empty(like.shape, like.dtype)


def _signature(tree: PyTree) -> dict[str, str]:
  """Path -> shape and type of every leaf."""
  return {
    path: f"{np.dtype(leaf.dtype).name}{list(leaf.shape)}"
    for path, leaf in _leaves(tree).items()
  }


def _leaves(tree: PyTree) -> dict[str, PyTree]:
  """Path -> leaf."""

  def path(keys) -> str:
    return "/".join(
      str(getattr(k, "key", getattr(k, "name", getattr(k, "idx", k))))
      for k in keys
    )

  leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
  return {path(keys): leaf for keys, leaf in leaves}
