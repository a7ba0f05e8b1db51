"""Two real processes on loopback train as one does, and one of them writes."""

import json
import os
import pathlib
import socket
import subprocess
import sys

import numpy as np
import pytest

from ser_jax.errors import UserError
from ser_jax.train import processes

ROOT = pathlib.Path(__file__).resolve().parents[2]


def command(shards, workdir, *more):
  return [
    *(sys.executable, "-m", "ser_jax.main"),
    *("--config=configs/ds_lstm.py:base1", f"--workdir={workdir}"),
    f"--config.data.shards={shards}",
    *("--config.protocol.folds=(0,)", "--config.model.hidden=8"),
    *("--config.batch_size=8", "--config.epochs=2"),
    *("--config.seeds=(0,1)", *more),
  ]


def environment(devices, **changes):
  count = "--xla_force_host_platform_device_count"
  flags = os.environ["XLA_FLAGS"].split()
  flags = [flag for flag in flags if not flag.startswith(count)]
  changes["XLA_FLAGS"] = " ".join([*flags, f"{count}={devices}"])
  return os.environ | changes | {"JAX_PLATFORMS": "cpu"}


def free_port():
  with socket.socket() as found:
    found.bind(("localhost", 0))
    return found.getsockname()[1]


def start_two(arguments, devices=1):
  port = free_port()
  return [
    subprocess.Popen(
      [*arguments, "--distributed"],
      cwd=ROOT,
      env=environment(
        devices,
        JAX_COORDINATOR_ADDRESS=f"localhost:{port}",
        JAX_NUM_PROCESSES="2",
        JAX_PROCESS_ID=str(number),
      ),
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
    )
    for number in range(2)
  ]


# Asked to stop on one process, both do; then they go on to the end.
STOP_AND_RESUME = """
import pathlib, sys
from jax.experimental import multihost_utils
from configs import ds_lstm
from ser_jax import experiment
from ser_jax.train import loop, processes
processes.join()
config = ds_lstm.get_config("base1")
config.data.shards, workdir = sys.argv[1], pathlib.Path(sys.argv[2])
config.protocol.folds, config.seeds = (0,), (0, 1)
config.model.hidden, config.batch_size, config.epochs = 8, 8, 2
config.parallel.runs = "shard"
asked = []
gather, add = multihost_utils.process_allgather, loop._add
def add_alone(*arguments):
  # Metrics of other processes' runs are there; no program fetches them.
  multihost_utils.process_allgather = None
  add(*arguments)
  multihost_utils.process_allgather = gather
loop._add = add_alone
def should_stop():
  asked.append(None)
  return not processes.primary() and len(asked) == 2
try:
  experiment.train(config, workdir, should_stop=should_stop)
except loop.Stopped:
  assert len(asked) == 3
  experiment.train(config, workdir, should_stop=lambda: False)
  print("resumed")
"""


FAIL = """
from ser_jax.train import processes
processes.join()
def fail():
  raise KeyError("lost")
try:
  processes.on_primary(fail)
except Exception as error:
  print(type(error).__name__, error)
"""


def finish(started):
  ended = [process.communicate(timeout=120) for process in started]
  return [p.returncode for p in started], ended


def files(folder):
  return sorted(
    str(path.relative_to(folder))
    for path in folder.rglob("*")
    if path.is_file() and "checkpoints" not in path.parts
  )


def lines(folder):
  found = (folder / "metrics.jsonl").read_text().splitlines()
  return [json.loads(line) for line in found]


def scores(folder):
  with np.load(folder / "predictions.npz") as found:
    return found["scores"]


@pytest.fixture(scope="module")
def alone(synthetic_shards, tmp_path_factory):
  """What one process makes of it."""
  folder = tmp_path_factory.mktemp("one")
  done = subprocess.run(
    command(synthetic_shards("ds_lstm"), folder),
    cwd=ROOT,
    env=environment(1),
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  return folder


def assert_same_results(one, two):
  assert files(one) == files(two)
  key = lambda line: (line["seed"], line["epoch"])  # noqa: E731
  pairs = zip(
    sorted(lines(one), key=key), sorted(lines(two), key=key), strict=True
  )
  for left, right in pairs:
    for part in ("train", "validation"):
      assert left[part] == pytest.approx(right[part], abs=1e-4)
  np.testing.assert_allclose(scores(one), scores(two), atol=1e-4)


def test_two_processes_train_as_one(synthetic_shards, tmp_path, alone):
  shards = synthetic_shards("ds_lstm")
  status, output = finish(start_two(command(shards, tmp_path)))
  assert status == [0, 0], output
  assert "UAR" in output[0][0]
  assert "UAR" not in output[1][0]
  assert_same_results(alone, tmp_path)


def test_a_signal_to_one_process_stops_both(synthetic_shards, tmp_path, alone):
  """Runs over processes: stopped, resumed, the same again."""
  shards = synthetic_shards("ds_lstm")
  arguments = [sys.executable, "-c", STOP_AND_RESUME, shards, tmp_path]
  status, output = finish(start_two(arguments))
  assert status == [0, 0], output
  assert all("resumed" in text for text, _ in output)
  assert_same_results(alone, tmp_path)


def test_whatever_fails_on_process_0_fails_on_all():
  status, output = finish(start_two([sys.executable, "-c", FAIL]))
  assert status == [0, 0], output
  told = [text.splitlines()[-1] for text, _ in output]  # gloo's lines first
  assert told == ["KeyError 'lost'", "UserError 'lost'"]


def test_alone_there_is_nobody_to_ask():
  assert processes.primary()
  assert processes.on_primary(lambda: [1, None]) == [1, None]
  question = [True, False].pop
  assert processes.agreed(question) is question


def test_without_a_cluster_the_remedy_is_named(monkeypatch):
  monkeypatch.delenv(processes.ADDRESS, raising=False)
  with pytest.raises(UserError, match="HOST:PORT of process 0"):
    processes.join()
