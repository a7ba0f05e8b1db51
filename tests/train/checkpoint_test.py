"""Checkpoints: what is refused, what a kill leaves, what is read of one."""

import pathlib
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from ser_jax.errors import UserError
from ser_jax.train.checkpoint import (
  Checkpoints,
  read_arrays,
  read_progress,
)


def trees(seed=0):
  """A state with what optimizers have: empty trees and tuples."""
  draw = np.random.default_rng(seed).normal
  weights = {"params": {"kernel": draw(size=(3, 4))}, "batch_stats": {}}
  moments = ({"count": np.int32(3)}, (), {"mu": draw(size=(3, 4))})
  return {"state": {**weights, "moments": moments}, "best": weights}


def save(folder, kept, step=1):
  with Checkpoints(folder) as checkpoints:
    checkpoints.save(step, kept, {"epoch": step})


def damage(folder):
  """Empties the files that hold arrays."""
  for path in folder.rglob("*"):
    if path.is_file() and "arrays" in path.parts and "ocdbt" in str(path):
      path.write_bytes(b"")


@pytest.mark.parametrize("wanted", [("best",), ("state",), ("best", "state")])
def test_trees_come_back_by_name(tmp_path, wanted):
  kept = trees()
  save(tmp_path, kept)
  like = {name: trees(1)[name] for name in wanted}
  with Checkpoints(tmp_path) as checkpoints:
    found = checkpoints.restore(like)
  for one in (found, read_arrays(tmp_path, like)):
    assert sorted(one) == sorted(wanted)
    np.testing.assert_equal(one, {name: kept[name] for name in wanted})


def test_progress_is_the_newest(tmp_path):
  assert read_progress(tmp_path / "absent") is None
  with Checkpoints(tmp_path) as checkpoints:
    assert checkpoints.progress() is None
    checkpoints.save(1, trees(), {"epoch": 1})
    checkpoints.save(2, trees(), {"epoch": 2})
  with Checkpoints(tmp_path) as checkpoints:
    assert checkpoints.progress() == read_progress(tmp_path) == {"epoch": 2}


@pytest.mark.parametrize("name", ["state", "last"])
def test_another_model_is_refused(tmp_path, name):
  """Other shapes, and trees that are not there at all."""
  save(tmp_path, trees())
  like = {name: {"params": {"kernel": np.zeros((3, 4), np.float32)}}}
  with Checkpoints(tmp_path) as checkpoints:
    with pytest.raises(UserError, match="is of another model"):
      checkpoints.restore(like)
  with pytest.raises(UserError, match="is of another model"):
    read_arrays(tmp_path, like)


def test_a_damaged_checkpoint_is_named(tmp_path):
  save(tmp_path, trees())
  damage(tmp_path)
  with Checkpoints(tmp_path) as checkpoints:
    with pytest.raises(UserError, match="damaged.*train this run again"):
      checkpoints.restore(trees())
  with pytest.raises(UserError, match="damaged.*copy it again"):
    read_arrays(tmp_path, trees())


def test_a_kill_during_a_save_loses_nothing_older(tmp_path):
  """SIGKILL right after a save begins: the one before is still there."""
  script = textwrap.dedent(f"""
    import os, pathlib, signal
    import numpy as np
    from ser_jax.train.checkpoint import Checkpoints
    big = {{"w": np.random.default_rng(0).normal(size=(2000, 2000))}}
    checkpoints = Checkpoints(pathlib.Path({str(tmp_path)!r}))
    checkpoints.save(1, big, {{"epoch": 1}})
    checkpoints._manager.wait_until_finished()
    checkpoints.save(2, big, {{"epoch": 2}})
    os.kill(os.getpid(), signal.SIGKILL)
  """)
  done = subprocess.run([sys.executable, "-c", script])
  assert done.returncode == -signal.SIGKILL
  with Checkpoints(pathlib.Path(tmp_path)) as checkpoints:
    assert checkpoints.progress()["epoch"] in (1, 2)
    arrays = checkpoints.restore({"w": np.zeros((2000, 2000))})
    expected = np.random.default_rng(0).normal(size=(2000, 2000))
    np.testing.assert_array_equal(arrays["w"], expected)
    checkpoints.save(3, arrays, {"epoch": 3})
  with Checkpoints(tmp_path) as checkpoints:
    assert checkpoints.progress() == {"epoch": 3}
