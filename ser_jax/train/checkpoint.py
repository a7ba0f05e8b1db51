"""Checkpoints of a group of runs: the only file that names orbax.

One checkpoint holds the newest state, the best weights of every run and the
bookkeeping, so that nothing can be restored by halves. Saves are asynchronous;
the one before is kept until the next is complete.
"""

import pathlib
from collections.abc import Callable

import jax
import numpy as np
import orbax.checkpoint as ocp
from jaxtyping import PyTree

from ser_jax.errors import UserError
from ser_jax.train import processes


class Checkpoints:
  """The checkpoints in one folder; close it to wait for pending saves."""

  def __init__(self, folder: pathlib.Path):
    """Opens or makes the folder.

    Args:
      folder: one group of runs in one stage.
    """
    self._folder = folder
    self._manager = None
    if processes.primary():
      self._manager = _manager(folder.absolute())

  def __enter__(self):
    return self

  def __exit__(self, *error):
    if self._manager is not None:
      try:
        self._manager.wait_until_finished()
      except (OSError, ValueError) as failed:
        raise self._unwritten(failed) from failed
      finally:
        self._manager.close()

  @property
  def latest(self) -> int | None:
    """The newest complete step."""
    return processes.on_primary(lambda: self._manager.latest_step())

  def save(self, step: int, arrays: PyTree, progress: dict) -> None:
    """Begins a save; the arrays may be changed as soon as this returns.

    Args:
      step: must grow from save to save; a step already saved is left alone.
      arrays: host arrays.
      progress: plain data.

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
          arrays=ocp.args.StandardSave(arrays),
          progress=ocp.args.JsonSave(progress),
        ),
        force=True,
      )
    except (OSError, ValueError) as error:
      raise self._unwritten(error) from error

  def _unwritten(self, error: Exception) -> UserError:
    """What a save ends with that the disk refused, then or while it ran."""
    return UserError(
      f"checkpoint: cannot write {self._folder} ({str(error)[:160]}...): free "
      "space or choose another --workdir; the last complete checkpoint is "
      "intact, and the same command resumes from it."
    )

  def restore(self, like: PyTree) -> tuple[PyTree, dict]:
    """Reads the newest checkpoint onto the host.

    Args:
      like: a tree of the shapes and types to expect.

    Returns:
      The arrays and the bookkeeping.

    Raises:
      UserError: the checkpoint is of another model or is damaged.
    """
    found = []
    progress = processes.on_primary(lambda: self._restore(like, found))
    arrays = found[0] if found else jax.tree.map(_empty, like)
    return processes.broadcast(arrays), progress

  def _restore(self, like: PyTree, restored: list) -> dict:
    """Adds the arrays to a list; returns the bookkeeping."""
    step = self._manager.latest_step()
    try:
      self._check(step, like)
      found = self._manager.restore(
        step,
        args=ocp.args.Composite(
          arrays=ocp.args.StandardRestore(jax.tree.map(_empty, like)),
          progress=ocp.args.JsonRestore(),
        ),
      )
    except (ValueError, OSError, KeyError) as error:
      raise UserError(
        f"checkpoint: {self._folder / str(step)} is damaged "
        f"({str(error)[:160]}...): delete that folder to train this run "
        "again from its start."
      ) from error
    restored.append(found["arrays"])
    return found["progress"]

  def _check(self, step: int, like: PyTree) -> None:
    """Compares names, shapes and types before anything is read."""
    found = _stored(self._manager, step)
    _compare(self._folder / str(step), found, _signature(like))


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


def read_progress(folder: pathlib.Path) -> dict | None:
  """Reads the bookkeeping of the newest checkpoint; None without one.

  Args:
    folder: one group of runs in one stage; read by process 0 alone.

  Raises:
    UserError: the checkpoint is damaged.
  """
  if not folder.is_dir():
    return None
  with _reader(folder) as manager:
    step = manager.latest_step()
    if step is None:
      return None
    wanted = ocp.args.Composite(progress=ocp.args.JsonRestore())
    try:
      return manager.restore(step, args=wanted)["progress"]
    except (ValueError, OSError, KeyError) as error:
      raise _damaged(folder / str(step), error) from error


def read_best(folder: pathlib.Path, like: dict[str, PyTree]) -> PyTree:
  """Reads the best weights of the newest checkpoint, and nothing else.

  Args:
    folder: one group of runs in one stage; read by process 0 alone.
    like: `params` and `batch_stats`, as shapes and types to expect.

  Returns:
    The same tree of host arrays.

  Raises:
    UserError: the checkpoint is of another model or damaged.
  """
  wanted = {"best": {name: tree for name, tree in like.items() if tree}}
  with _reader(folder) as manager:
    step = manager.latest_step()
    try:
      _compare(
        folder / str(step),
        {
          name: found
          for name, found in _stored(manager, step).items()
          if name.startswith("best/")
        },
        _signature(wanted),
      )
      found = manager.restore(
        step,
        args=ocp.args.Composite(
          arrays=ocp.args.PyTreeRestore(
            item=jax.tree.map(_empty, wanted),
            restore_args=jax.tree.map(
              lambda _: ocp.RestoreArgs(restore_type=np.ndarray), wanted
            ),
            partial_restore=True,
          )
        ),
      )
    except (ValueError, OSError, KeyError) as error:
      raise _damaged(folder / str(step), error) from error
  return {**like, **found["arrays"]["best"]}


def _damaged(path: pathlib.Path, error: Exception) -> UserError:
  return UserError(
    f"checkpoint: {path} is damaged ({str(error)[:160]}...): copy it again "
    "from where it was trained."
  )


def _manager(folder: pathlib.Path) -> ocp.CheckpointManager:
  """Orbax's manager of a folder that is made if absent."""
  folder.mkdir(parents=True, exist_ok=True)
  return _alone(
    folder,
    ocp.StandardCheckpointHandler,
    preservation_policy=ocp.checkpoint_managers.LatestN(n=1),
  )


def _reader(folder: pathlib.Path) -> ocp.CheckpointManager:
  """Orbax's manager of a folder that stays as it is."""
  return _alone(folder.absolute(), ocp.PyTreeCheckpointHandler)


def _alone(
  folder: pathlib.Path, arrays: Callable, **options
) -> ocp.CheckpointManager:
  """A manager that asks nothing of other processes; for process 0."""
  alone = ocp.options.MultiprocessingOptions(
    primary_host=0, active_processes={0}, barrier_sync_key_prefix="primary"
  )
  return ocp.CheckpointManager(
    folder,
    options=ocp.CheckpointManagerOptions(
      create=False, multiprocessing_options=alone, **options
    ),
    item_handlers={
      "arrays": arrays(multiprocessing_options=alone),
      "progress": ocp.JsonCheckpointHandler(multiprocessing_options=alone),
    },
  )


def _empty(like) -> np.ndarray:
  return np.empty(like.shape, like.dtype)


def _signature(tree: PyTree) -> dict[str, str]:
  """Path -> shape and type of every leaf."""

  def path(keys) -> str:
    return "/".join(
      str(getattr(k, "key", getattr(k, "name", getattr(k, "idx", k))))
      for k in keys
    )

  leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
  return {
    path(keys): f"{np.dtype(leaf.dtype).name}{list(leaf.shape)}"
    for keys, leaf in leaves
  }
