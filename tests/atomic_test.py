import errno
import os
import subprocess
import sys

import numpy as np
import pytest

from ser_jax import atomic
from ser_jax.errors import UserError


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


def test_any_name_of_a_file_can_be_written(tmp_path):
  path = tmp_path / "found.csv"
  atomic.write_text(path, os.fsdecode(b"\xff.wav") + " \N{MULTIPLICATION SIGN}")
  assert path.read_bytes() == b"\xff.wav \xc3\x97"


def test_text_is_utf_8_wherever_it_is_written(tmp_path):
  code = (
    "import pathlib; from ser_jax import atomic; "
    f"atomic.write_text(pathlib.Path({str(tmp_path / 'a')!r}), '\\u00d7')"
  )
  plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
  subprocess.run(
    [sys.executable, "-c", code], check=True, env=os.environ | plain
  )
  assert (tmp_path / "a").read_bytes() == b"\xc3\x97"


def test_a_full_disk_names_the_file(tmp_path):
  path = tmp_path / "report.md"
  with pytest.raises(OSError) as told, atomic.replacing(path):
    raise OSError(errno.ENOSPC, "No space left on device")
  assert told.value.filename == str(path)


@pytest.mark.parametrize("content", [b'{"a": ', b"[]", b"\xff\xfe", b"", None])
def test_a_damaged_json_file_is_named(tmp_path, content):
  path = tmp_path / "config.json"
  if content is not None:
    path.write_bytes(content)
  with pytest.raises(UserError, match=r"config.json cannot be .*\): mend it"):
    atomic.read_json(path, "mend it")


def test_what_a_kill_cut_short_is_no_line(tmp_path):
  path = tmp_path / "metrics.jsonl"
  path.write_text('{"a": 1}\n{"a": 2}\n{"a"')
  assert atomic.read_lines(path, "mend it") == [{"a": 1}, {"a": 2}]


@pytest.mark.parametrize("odd", ["\x00", "3", "", '{"a"'])
def test_an_odd_line_is_told_by_number(tmp_path, odd):
  path = tmp_path / "metrics.jsonl"
  path.write_text(f'{{"a": 1}}\n{odd}\n{{"a": 2}}\n')
  with pytest.raises(UserError, match="line 2 of .*metrics.jsonl.*: mend it"):
    atomic.read_lines(path, "mend it")
  path.write_bytes(b"\xff\xfe\n")
  with pytest.raises(UserError, match="metrics.jsonl cannot be read"):
    atomic.read_lines(path, "mend it")


def test_any_damaged_arrays_are_named(tmp_path):
  """Every byte of a file changed in turn, and the file cut short."""
  path = tmp_path / "predictions.npz"
  atomic.write_arrays(path, {"x": np.arange(3), "name": np.array(["a"])})
  whole, refused = path.read_bytes(), 0
  wrong = [whole[:n] for n in range(0, len(whole), 9)] + [b"odd"]
  for at in range(len(whole)):
    changed = bytearray(whole)
    changed[at] ^= 255
    wrong.append(bytes(changed))
  for content in wrong:
    path.write_bytes(content)
    try:
      atomic.read_arrays(path, "mend it")
    except UserError as error:
      assert str(error).endswith("mend it") and path.name in str(error)
      refused += 1
  assert refused > len(wrong) // 2
  np.save(tmp_path / "one.npy", np.arange(3))
  with pytest.raises(UserError, match="one.npy cannot be read"):
    atomic.read_arrays(tmp_path / "one.npy", "mend it")
