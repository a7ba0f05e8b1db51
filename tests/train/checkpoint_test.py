"""Checkpoints: what is refused, what a kill leaves, what is read of one."""

import json
import pathlib
import signal
import subprocess
import sys
import textwrap

import ml_dtypes
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


def flip(path, at):
  """Changes one byte of a file."""
  content = bytearray(path.read_bytes())
  content[at] ^= 1
  path.write_bytes(content)


def test_one_byte_of_an_array_is_not_another_array(tmp_path):
  """What is read is as it was saved, or it is refused."""
  draw = np.random.default_rng(0).normal
  kept = {"best": draw(size=(60, 60)), "last": draw(size=(60, 60))}
  save(tmp_path, kept)
  like, refused = {"best": kept["best"]}, []
  for path in sorted(tmp_path.glob("1/arrays/**/d/*")):
    for at in range(0, path.stat().st_size, 2000):
      flip(path, at)
      try:
        np.testing.assert_equal(read_arrays(tmp_path, like), like)
      except UserError as error:
        refused.append(str(error))
      flip(path, at)
  assert any("best is not what was saved, by its" in text for text in refused)
  assert all("is damaged" in text for text in refused)
  np.testing.assert_equal(read_arrays(tmp_path, like), like)


def test_checksums_are_of_what_is_read(tmp_path):
  """By path, of every type: another array's checksum is none of its own."""
  like = {
    "half": np.ones((2, 3), ml_dtypes.bfloat16),
    "flag": np.array(True),
    "turned": np.arange(6, dtype=np.float32).reshape(2, 3).T,
    "count": np.int32(3),
  }
  save(tmp_path, like)
  for names in (like, ["half"], ["count", "turned"]):
    part = {name: like[name] for name in names}
    found = read_arrays(tmp_path, part)
    np.testing.assert_equal(found, part)
    assert {k: v.dtype for k, v in found.items()} == {
      k: v.dtype for k, v in part.items()
    }
  path = tmp_path / "1" / "progress" / "metadata"
  stored = json.loads(path.read_text())
  sums = stored["checksums"]
  sums["half"], sums["flag"] = sums["flag"], sums["half"]
  path.write_text(json.dumps(stored))
  with pytest.raises(UserError, match="half is not what was saved"):
    read_arrays(tmp_path, {"half": like["half"]})
  read_arrays(tmp_path, {"count": like["count"]})


@pytest.mark.parametrize("content", ["{}", "[]", "null", '{"epoch": 1}', "{"])
def test_progress_without_checksums_is_refused(tmp_path, content):
  save(tmp_path, trees())
  (tmp_path / "1" / "progress" / "metadata").write_text(content)
  with Checkpoints(tmp_path) as checkpoints:
    for read in (checkpoints.progress, lambda: checkpoints.restore(trees())):
      with pytest.raises(UserError, match="damaged.*train this run again"):
        read()
  with pytest.raises(UserError, match="damaged.*copy it again"):
    read_progress(tmp_path)


def test_progress_is_compared_too(tmp_path):
  save(tmp_path, trees())
  path = tmp_path / "1" / "progress" / "metadata"
  stored = json.loads(path.read_text())
  stored["progress"]["epoch"] = 7
  path.write_text(json.dumps(stored))
  with pytest.raises(UserError, match="progress is not what was saved"):
    read_progress(tmp_path)


def test_a_file_where_checkpoints_belong_is_named(tmp_path):
  path = tmp_path / "train"
  path.write_text("")
  for folder in (path, path / "deeper"):
    with pytest.raises(UserError, match="train.* is a file.*: delete it"):
      Checkpoints(folder)
  assert read_progress(path) is None


@pytest.mark.parametrize("before", [False, True])
def test_a_full_disk_is_told_of(tmp_path, monkeypatch, before):
  if before:
    save(tmp_path, trees())
  checkpoints = Checkpoints(tmp_path)

  def full(*_, **__):
    raise ValueError("Error writing " + "x" * 300 + ": No space left on device")

  monkeypatch.setattr(checkpoints._manager, "save", full)
  with checkpoints, pytest.raises(UserError, match="No space left on") as told:
    checkpoints.save(2, trees(), {"epoch": 2})
  assert ("last complete checkpoint is intact" in str(told.value)) == before
  assert len(str(told.value)) < 600


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
