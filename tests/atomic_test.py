import numpy as np
import pytest

from ser_jax import atomic


def test_arrays_are_replaced_whole(tmp_path):
  path = tmp_path / "folder" / "arrays.npz"
  atomic.write_arrays(path, {"x": np.arange(3)})
  atomic.write_arrays(path, {"x": np.arange(4)})
  assert np.load(path)["x"].tolist() == [0, 1, 2, 3]
  assert [p.name for p in path.parent.iterdir()] == ["arrays.npz"]


def test_what_failed_leaves_the_old(tmp_path):
  path = tmp_path / "report.md"
  atomic.write_text(path, "old")
  with pytest.raises(KeyError), atomic.replacing(path) as temporary:
    temporary.write_text("half")
    raise KeyError
  assert path.read_text() == "old"
  assert list(tmp_path.iterdir()) == [path]


def test_processes_do_not_share_what_is_half_written(tmp_path, monkeypatch):
  path = tmp_path / "table.md"
  with atomic.replacing(path) as ours:
    ours.write_text("ours")
    monkeypatch.setattr(atomic.os, "getpid", lambda: 1)
    atomic.write_text(path, "theirs")
    assert path.read_text() == "theirs"
  assert path.read_text() == "ours"
