"""The whole: synthetic audio -> shards -> batches -> steps -> report."""

import itertools
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from configs import ds_lstm
from configs.common import CORPORA
from ser_jax import assembly, experiment
from ser_jax.errors import UserError
from ser_jax.runs import _starter, initial_state
from ser_jax.train.loop import Stopped
from ser_jax.trained import open_runs
from tests.configs_test import DS_LSTM_WORDS

ROOT = pathlib.Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shards(synthetic_shards):
  """The shards of both presets of DS-LSTM."""
  return {name: synthetic_shards(name) for name in ("ds_lstm", "ds_lstm_code")}


def small(shards, words="dual", **changes):
  """A config that trains in seconds."""
  config = ds_lstm.get_config(words)
  config.data.corpus = "synthetic"
  config.data.shards = str(shards[config.data.features])
  config.protocol.name = "leave_one_session_out"
  config.protocol.folds = (0,)
  config.model.hidden = 8
  config.model.on_cpu.forms = ("direct", "direct")  # compiles in half the time
  config.model.channels = (4, 2)
  config.batch_size = 8
  config.epochs = 1
  with config.unlocked():
    config.update(changes)
  return config


def train(config, workdir):
  return experiment.train(config, workdir, should_stop=lambda: False)


@pytest.mark.parametrize(
  "words",
  # What a corpus changes in a config is no matter of the program.
  [words for words in DS_LSTM_WORDS if words.split(",")[-1] not in CORPORA],
)
def test_every_row_and_ablation_takes_real_steps(shards, tmp_path, words):
  config = small(shards, words)
  if "random" in words:
    config.protocol.name = "random"
  report = train(config, tmp_path)
  assert report["speaker_independent"] == ("random" not in words)
  assert 0 <= report["summary"]["uar"]["mean"] <= 1
  assert report["runs"][0]["epochs"] == 1


def test_the_default_forms_take_real_steps(shards, tmp_path):
  config = small(shards, "ds_lstm")
  config.model.on_cpu = ds_lstm.get_config().model.on_cpu
  report = train(config, tmp_path)
  assert report["runs"][0]["epochs"] == 1


def test_a_run_does_not_depend_on_the_folds_beside_it(shards, tmp_path):
  config = small(shards, "base2", batch_size=2)
  config.protocol.name, config.protocol.count = "random", 3

  def made(*folds):
    config.protocol.folds = folds
    found = assembly.make_experiment(config, tmp_path)
    parts = [len(run.train) for group in found.groups for run in group]
    return (found.steps, found.dataset.examples.plans), parts

  whole, sizes = made()
  # Each by itself would have other steps.
  assert len({-(-size // config.batch_size) for size in sizes}) > 1
  for number, size in enumerate(sizes):
    assert made(number) == (whole, [size])


def test_folds_too_unequal_for_a_batch_are_refused(shards, tmp_path):
  config = small(shards, "base1", batch_size=1)
  config.protocol.name, config.protocol.count = "random", 3
  with pytest.raises(UserError, match="batch size of at least 2"):
    assembly.make_experiment(config, tmp_path)
  config.batch_size = 2
  assert assembly.make_experiment(config, tmp_path).steps


def test_a_batch_that_nothing_fills_is_told_of(shards, tmp_path, caplog):
  assembly.make_experiment(small(shards, "base1", batch_size=1000), tmp_path)
  assert "batch_size=1000 is more than the 28 utterances" in caplog.text


def test_what_a_run_leaves(shards, tmp_path):
  config = small(shards, "base1", seeds=(0, 1), epochs=2)
  config.protocol.folds = (0, 2)
  train(config, tmp_path)
  for name in (
    *("config.json", "environment.json", "metrics.jsonl"),
    *("predictions.npz", "predictions_last.npz", "report.md", "report.json"),
    *("figures/confusion.png", "figures/runs.png"),
    "figures/learning_curves.png",
  ):
    assert (tmp_path / name).stat().st_size, name
  report = json.loads((tmp_path / "report.json").read_text())
  pairs = [(run["fold"], run["seed"]) for run in report["runs"]]
  assert len(pairs) == len(set(pairs)) == 4
  assert report["parameters"] > 0
  assert report["warnings"][0].startswith("2 of 5 folds: ")
  assert report["paper"]["uar"] == ds_lstm.PAPER["base1"][2]
  lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
  assert len(lines) == 4 * 2
  with np.load(tmp_path / "predictions.npz") as found:
    np.testing.assert_allclose(found["scores"].sum(axis=1), 1, atol=1e-5)
    # Each seed tests both sessions' speakers: twice 8 utterances.
    assert len(found["utterance"]) == 2 * 2 * 8


def test_a_finished_run_is_not_trained_again(shards, tmp_path):
  config = small(shards, "base1")
  train(config, tmp_path)
  stamp = (tmp_path / "runs").glob("*/predictions.npz")
  before = {path: path.stat().st_mtime_ns for path in stamp}
  train(config, tmp_path)
  assert before == {path: path.stat().st_mtime_ns for path in before}


def test_evaluation_repeats_the_predictions(shards, tmp_path):
  config = small(shards, "ds_lstm", epochs=2)
  train(config, tmp_path)
  with np.load(tmp_path / "predictions.npz") as found:
    before = dict(found)
  (tmp_path / "predictions.npz").unlink()
  experiment.evaluate(config, tmp_path)
  with np.load(tmp_path / "predictions.npz") as found:
    for name, values in before.items():
      np.testing.assert_array_equal(values, found[name])


def scores_of(workdir):
  with np.load(workdir / "predictions.npz") as found:
    return found["scores"]


def test_runs_in_one_program_equal_runs_one_by_one(shards, tmp_path):
  """One by one, stacked, spread over devices."""
  for runs in ("loop", "vmap", "shard"):
    config = small(shards, "base1", epochs=2, seeds=(0, 1))
    config.protocol.folds = (0, 1)
    config.parallel.runs = runs
    config.parallel.data = 1
    train(config, tmp_path / runs)
    np.testing.assert_allclose(
      scores_of(tmp_path / runs), scores_of(tmp_path / "loop"), atol=1e-6
    )


def test_stacked_runs_go_on_with_other_seeds(shards, tmp_path, caplog):
  """What is trained stays; what is not never takes another seed's weights."""
  config = small(shards, "base1")
  config.protocol.folds = (0, 1)
  config.parallel.runs, config.parallel.data = "vmap", 1
  config.parallel.stack = 2
  for seeds in ((0, 1), (0, 2)):
    config.seeds = seeds
    caplog.clear()
    with caplog.at_level("INFO"):
      train(config, tmp_path / "grown")
    assert ("seed0" in caplog.text) == (seeds == (0, 1))
  config.seeds = (0, 1, 2)  # those that are there stay
  train(config, tmp_path / "at_once")
  np.testing.assert_array_equal(
    scores_of(tmp_path / "grown"), scores_of(tmp_path / "at_once")
  )


@pytest.mark.parametrize("runs", ["loop", "vmap"])
def test_a_rate_that_diverges_is_told_of_and_left_out(shards, tmp_path, runs):
  config = small(shards, "base1", epochs=2, seeds=(0,))
  config.protocol.folds = (0,)
  config.parallel.runs, config.parallel.data = runs, 1
  config.optimizer.learning_rates = (1e-3, 1e38)
  report = train(config, tmp_path)
  (lost,) = report["diverged"]
  assert lost.endswith("-lr1e+38") and lost in report["text"]
  assert (tmp_path / "lr-0.001" / "report.md").exists()
  assert len(open_runs(tmp_path).names) == 1
  assert not (tmp_path / "runs" / lost / "predictions.npz").exists()
  for again in (train, experiment.evaluate):
    assert again(config, tmp_path)["diverged"] == [lost]


def test_initialisation_compiles_once_for_all_runs(shards, tmp_path):
  config = small(shards, "base1", seeds=(0, 1))
  found = assembly.make_experiment(config, tmp_path)
  stage = found.stages[-1]
  one, other = (initial_state(found, stage, g) for g in found.groups)
  assert _starter(stage)._cache_size() == 1
  kernels = [jax.tree.leaves(state.params)[-1] for state in (one, other)]
  assert (kernels[0] != kernels[1]).any()


def test_nothing_to_report_is_an_error(shards, tmp_path):
  config = small(shards, "base1")
  config.optimizer.learning_rate = 1e38
  with pytest.raises(UserError, match="is not finite in epoch 1"):
    train(config, tmp_path)


def test_a_run_resumes_on_other_devices(shards, tmp_path):
  """Stopped on one device, finished on several: the same run.

  Under jit with the optimizer's state shared out, which shows the same.
  """
  config = small(shards, "base1", epochs=2)
  config.parallel.data = 1
  train(config, tmp_path / "whole")
  for backend, state in (("jit", "sharded"), ("pmap", "replicated")):
    one = {"backend": "jit", "data": 1, "optimizer_state": state}
    config.parallel.update(one)
    with pytest.raises(Stopped):
      experiment.train(config, tmp_path / backend, should_stop=after(3))
    config.parallel.update({"backend": backend, "data": 2})
    train(config, tmp_path / backend)
    np.testing.assert_allclose(
      scores_of(tmp_path / backend), scores_of(tmp_path / "whole"), atol=1e-6
    )


def test_several_steps_a_call_take_real_steps(shards, tmp_path):
  config = small(shards, "base1", epochs=2)
  train(config, tmp_path / "one")
  config.steps_per_execution = 2
  with pytest.raises(UserError, match="steps_per_execution: 1 there, 2 now"):
    train(config, tmp_path / "one")
  train(config, tmp_path / "two")
  one, two = (scores_of(tmp_path / name) for name in ("one", "two"))
  np.testing.assert_allclose(one, two, atol=2e-4)


def command(shards, workdir, *more):
  return [
    *(sys.executable, "-m", "ser_jax.main"),
    *("--config=configs/ds_lstm.py:base1", f"--workdir={workdir}"),
    f"--config.data.shards={shards['ds_lstm']}",
    *("--config.model.hidden=8", "--config.batch_size=8"),
    *("--config.protocol.folds=(0,)", "--config.epochs=30"),
    *("--config.checkpoint.every_epochs=1", *more),
  ]


def wait_for_lines(path, count):
  """Waits until training has logged some epochs."""
  deadline = time.monotonic() + 120
  while time.monotonic() < deadline:
    if path.exists() and path.read_text().count("\n") >= count:
      return
    time.sleep(0.02)
  raise AssertionError(f"{path} never had {count} lines")


def without_time(workdir):
  text = (workdir / "metrics.jsonl").read_text()
  lines = [json.loads(line) for line in text.splitlines()]
  return [{k: v for k, v in x.items() if k != "seconds"} for x in lines]


def test_a_killed_run_resumes_to_the_same_metrics(shards, tmp_path):
  """By whatever signal, twice, and with programs from the cache."""
  options = {"cwd": ROOT, "env": os.environ | {"XLA_FLAGS": ""}}
  cache = str(tmp_path / "xla")
  options["env"]["JAX_COMPILATION_CACHE_DIR"] = cache
  options["env"]["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
  whole, cut = tmp_path / "whole", tmp_path / "cut"
  subprocess.run(command(shards, whole), check=True, **options)
  for number, status, lines in (
    (signal.SIGTERM, 128 + signal.SIGTERM, 5),
    (signal.SIGKILL, -signal.SIGKILL, 15),
  ):
    process = subprocess.Popen(command(shards, cut), **options)
    wait_for_lines(cut / "metrics.jsonl", lines)
    process.send_signal(number)
    assert process.wait(timeout=60) == status
    assert not (cut / "report.json").exists()
  subprocess.run(command(shards, cut), check=True, **options)
  assert without_time(whole) == without_time(cut)
  np.testing.assert_array_equal(scores_of(whole), scores_of(cut))


def test_missing_shards_say_how_to_build_them(tmp_path):
  config = ds_lstm.get_config("dual,emodb")
  config.data.shards = str(tmp_path / "none")
  with pytest.raises(UserError, match="data_prep.build --corpus=emodb"):
    train(config, tmp_path / "run")


def test_shards_of_another_corpus_are_refused(shards, tmp_path):
  config = small(shards)
  config.data.corpus = "emodb"
  with pytest.raises(UserError, match="are 'synthetic'"):
    train(config, tmp_path)


def test_an_unknown_class_is_refused(shards, tmp_path):
  config = small(shards)
  config.data.classes = ("angry", "hapy")
  with pytest.raises(UserError, match="did you mean happy"):
    train(config, tmp_path)


def test_another_config_in_the_same_workdir_is_refused(shards, tmp_path):
  train(small(shards, "base1"), tmp_path)
  with pytest.raises(UserError, match="batch_size: 8 there, 4 now"):
    train(small(shards, "base1", batch_size=4), tmp_path)


def test_evaluation_without_a_checkpoint_is_refused(shards, tmp_path):
  config = small(shards, "base1")
  with pytest.raises(UserError, match="has no training"):
    experiment.evaluate(config, tmp_path / "typo")
  train(config, tmp_path)
  shutil.rmtree(tmp_path / "checkpoints")
  with pytest.raises(UserError, match="no checkpoint"):
    experiment.evaluate(config, tmp_path)


def after(steps):
  """Stops a training after some steps."""
  count = itertools.count(1)
  return lambda: next(count) >= steps


def test_what_is_not_trained_to_its_end_is_not_predicted_with(shards, tmp_path):
  config = small(shards, "base1", epochs=2)
  config.parallel.runs, config.parallel.data = "vmap", 1
  with pytest.raises(Stopped):
    experiment.train(config, tmp_path, should_stop=after(2))
  with pytest.raises(UserError, match="to epoch 0 of 2: wait"):
    experiment.evaluate(config, tmp_path)
  assert not list(tmp_path.glob("runs/*/predictions.npz"))
  train(config, tmp_path)
  assert open_runs(tmp_path).names == ("session1-seed0",)
  # Only what is added trains: the first seed's run stays as it was.
  config.seeds = (0, 1)
  with pytest.raises(Stopped):
    experiment.train(config, tmp_path, should_stop=after(2))
  assert open_runs(tmp_path).names == ("session1-seed0",)
  with pytest.raises(UserError, match="session1-seed1 .* to epoch 0 of 2"):
    experiment.evaluate(config, tmp_path)


def test_other_shards_in_the_same_place_are_refused(shards, tmp_path):
  """Neither a resumed run nor an evaluation mixes two corpora."""
  here = tmp_path / "shards"
  shutil.copytree(shards["ds_lstm"], here)
  config = small(shards, "base1")
  config.data.shards = str(here)
  train(config, tmp_path / "run")
  before = (tmp_path / "run" / "inference.npz").read_bytes()
  metadata = json.loads((here / "metadata.json").read_text())
  other = metadata | {"digest": "of other audio", "pad_to": 7}
  (here / "metadata.json").write_text(json.dumps(other))
  for again in (train, experiment.evaluate):
    with pytest.raises(UserError, match="their digest, pad_to differ"):
      again(config, tmp_path / "run")
  assert (tmp_path / "run" / "inference.npz").read_bytes() == before
  made = metadata | {"recipe": metadata["recipe"] | {"rate": 8000}}
  (here / "metadata.json").write_text(json.dumps(made))
  with pytest.raises(UserError, match="build it again, python .* --overwrite"):
    train(config, tmp_path / "new")


def test_a_missing_class_argument_prints_no_traceback(tmp_path):
  done = subprocess.run(
    [
      *(sys.executable, "-m", "ser_jax.main"),
      "--config=configs/ds_lstm.py:duel",
    ],
    cwd=ROOT,
    capture_output=True,
    text=True,
  )
  assert done.returncode == 2
  assert "did you mean dual" in done.stderr
  assert "Traceback" not in done.stderr
