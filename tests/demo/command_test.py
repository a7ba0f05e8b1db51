"""--mode=predict and --mode=export, up to the work itself."""

import os

import pytest
from absl import flags

from ser_jax.demo import command, files, predictor
from ser_jax.errors import UserError
from tests.demo.clips_test import wav


class Reached(Exception):
  """What would have begun."""


@pytest.fixture
def run(tmp_path):
  """Runs a mode as a command line does; flags are put back."""

  def parsed(mode, workdir, *arguments):
    flags.FLAGS.unparse_flags()
    left = flags.FLAGS(["main", *map(str, arguments)])
    command.run(mode, str(workdir), left[1:])

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

  monkeypatch.setattr(predictor, "open_runs", reached)
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
