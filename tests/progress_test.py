import sys

import pytest

from ser_jax import progress


@pytest.mark.parametrize("seconds", [0.0, 1e6])
def test_a_file_gets_lines_now_and_then(capsys, monkeypatch, seconds):
  monkeypatch.setattr(progress, "SECONDS", seconds)
  assert list(progress.progress("abcd", "reading", "file")) == list("abcd")
  with progress.progress(range(8), "making", "utt") as bar:
    for _ in range(2):
      bar.update(4)
  lines = capsys.readouterr().err.splitlines()
  if seconds:
    assert lines == []
  else:
    assert [line.split(",")[0] for line in lines] == [
      *(f"reading: {n} of 4 files" for n in (1, 2, 3, 4)),
      *(f"making: {n} of 8 utts" for n in (4, 8)),
    ]
    assert lines[-1].endswith(", 0 s left")


def test_a_terminal_gets_a_bar(capsys, monkeypatch):
  monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
  items = iter("abcd")
  assert list(progress.progress(items, "reading", "file", 4)) == list("abcd")
  err = capsys.readouterr().err
  assert "reading: 100%" in err and "\r" in err
