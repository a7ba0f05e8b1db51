"""--mode=predict and --mode=export, up to the work itself."""

import os
import re

import numpy as np
import pytest
from absl import flags

from ser_jax import trained
from ser_jax.demo import command, files, output, predictor
from ser_jax.errors import UserError
from tests.demo.clips_test import wav
from tests.demo.files_test import CONTOURS


class Reached(Exception):
  """What would have begun."""


@pytest.fixture
def run(tmp_path):
  """Runs a mode as a command line does; flags are put back."""

  def parsed(mode, workdir, *arguments):
    flags.FLAGS.unparse_flags()
    left = flags.FLAGS(["main", *map(str, arguments)])
    return command.run(mode, str(workdir), left[1:])

  yield parsed
  flags.FLAGS["output"].unparse()


@pytest.mark.parametrize(
  "mode, suffix", [("predict", "csv"), ("export", "zip")]
)
def test_where_nothing_can_be_written_no_work_is_begun(
  run, tmp_path, monkeypatch, mode, suffix
):
  def reached(*_, **__):
    raise Reached

  monkeypatch.setattr(trained, "open_runs", reached)
  monkeypatch.setattr(predictor, "load", reached)
  path = tmp_path / "a.wav"
  path.write_bytes(wav())
  given = [path] if mode == "predict" else []
  with pytest.raises(UserError, match="cannot be written"):
    run(mode, tmp_path, *given, f"--output={path / 'out'}.{suffix}")
  with pytest.raises(Reached):
    run(mode, tmp_path, *given, f"--output={tmp_path / 'out'}.{suffix}")


def test_as_many_processes_as_cores_may_be_used(
  run, trained, tmp_path, monkeypatch
):
  def reached(*_, workers, **__):
    raise Reached(workers)

  monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3}, raising=False)
  monkeypatch.setattr(files, "predict_files", reached)
  path = tmp_path / "a.wav"
  path.write_bytes(wav())
  with pytest.raises(Reached, match="^1$"):
    run("predict", trained, path, f"--output={tmp_path / 'out.csv'}")


@pytest.mark.parametrize(
  "given", [["--run=a,b", "--run=c"], ["--run=a,b,c"], ["--run=a", "--run=b,c"]]
)
def test_no_run_asked_for_is_dropped(run, tmp_path, monkeypatch, given):
  def reached(workdir, names):
    raise Reached(*names)

  monkeypatch.setattr(predictor, "load", reached)
  path = tmp_path / "a.wav"
  path.write_bytes(wav())
  with pytest.raises(Reached) as found:
    run("predict", tmp_path, path, *given)
  flags.FLAGS["run"].unparse()
  assert found.value.args == ("a", "b", "c")


def test_without_a_file_to_write_predictions_are_lines(
  run, trained, tmp_path, capsys
):
  folder = tmp_path / "some"
  folder.mkdir()
  for name in ("a.wav", "b.wav"):
    (folder / name).write_bytes(wav())
  for name in ("c.m4a", "d.txt", "e.txt"):
    (folder / name).write_text("no audio")
  assert run("predict", trained, folder) == 0
  *lines, last = capsys.readouterr().out.splitlines()
  assert len(lines) == 2
  for name, line in zip("ab", lines, strict=True):
    path = re.escape(str(folder / f"{name}.wav"))
    told = re.fullmatch(f"{path}: (angry|happy|neutral|sad) (0[.][0-9]+)", line)
    assert 0.25 <= float(told[2]) <= 1
  assert last.startswith("2 recordings")
  assert last.endswith("; 3 files of other kinds left out (.m4a, .txt)")
  assert sorted(path.name for path in tmp_path.iterdir()) == ["some"]


def test_means_of_contours_are_a_line(tmp_path):
  scores = np.float32([[np.nan], [0.25], [-1.0]])
  found = output.Recording(tmp_path / "a.wav", [], scores)
  line = output.as_line(CONTOURS, found)
  assert line == f"{tmp_path / 'a.wav'}: arousal -0.375 on average"


def test_an_export_is_not_exported_again(run, tmp_path):
  path = tmp_path / "model.zip"
  path.write_bytes(b"")
  with pytest.raises(UserError, match="model.zip is a file, such as --mode="):
    run("export", path, f"--output={tmp_path / 'again.zip'}")
  with pytest.raises(UserError, match="ending in .zip; it is not given"):
    run("export", tmp_path)
