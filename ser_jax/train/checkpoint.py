"""Checkpoints of a group of runs: the only file that names orbax.

One checkpoint holds the newest state, the best weights of every run and the
bookkeeping, so that nothing can be restored by halves. Saves are asynchronous;
the one before is kept until the next is complete.
"""

import pathlib

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
      self._manager.wait_until_finished()
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
    except OSError as error:
      raise UserError(
        f"checkpoint: cannot write {self._folder} ({error}): free space or "
        "choose another --workdir; the last complete checkpoint is intact, and "
        "the same command resumes from it."
      ) from error

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
    metadata = self._manager.item_metadata(step)["arrays"]
    found = _signature(metadata.tree if hasattr(metadata, "tree") else metadata)
    wanted = _signature(like)
    for name in sorted(found.keys() | wanted.keys()):
      if found.get(name) != wanted.get(name):
        raise UserError(
          f"checkpoint: {self._folder / str(step)} is of another model: "
          f"{name} is {found.get(name, 'absent')} there and "
          f"{wanted.get(name, 'absent')} in this config. Use the config that "
          "it was trained with (config.json in its --workdir), or another "
          "--workdir."
        )


def _manager(folder: pathlib.Path) -> ocp.CheckpointManager:
  """Orbax's manager of a folder, which asks nothing of other processes."""
  folder.mkdir(parents=True, exist_ok=True)
  alone = ocp.options.MultiprocessingOptions(
    primary_host=0, active_processes={0}, barrier_sync_key_prefix="primary"
  )
  return ocp.CheckpointManager(
    folder,
    options=ocp.CheckpointManagerOptions(
      preservation_policy=ocp.checkpoint_managers.LatestN(n=1),
      create=False,
      multiprocessing_options=alone,
    ),
    item_handlers={
      "arrays": ocp.StandardCheckpointHandler(multiprocessing_options=alone),
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
