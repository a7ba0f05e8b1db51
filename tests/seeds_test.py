"""Which seeds a workdir has, once others are asked for."""

import json

import pytest

from ser_jax import experiment
from ser_jax.errors import UserError
from ser_jax.trained import open_runs
from tests.experiment_test import small, train


def test_seeds_of_a_workdir_are_those_it_was_trained_with(
  synthetic_shards, tmp_path
):
  """More of them join the report; an evaluation adds none."""

  def kept():
    config = json.loads((tmp_path / "config.json").read_text())
    reported = json.loads((tmp_path / "report.json").read_text())["runs"]
    return config["seeds"], [run["seed"] for run in reported]

  config = small({"ds_lstm": synthetic_shards("ds_lstm")}, "base1")
  config.seeds = (0, 1)
  train(config, tmp_path)
  config.seeds = (2,)
  with pytest.raises(UserError, match="session1-seed2 .* has no checkpoint"):
    experiment.evaluate(config, tmp_path)
  assert kept() == ([0, 1], [0, 1])
  config.seeds = (0,)
  experiment.evaluate(config, tmp_path)
  assert kept() == ([0, 1], [0, 1])
  config.seeds = (2,)
  train(config, tmp_path)
  assert kept() == ([0, 1, 2], [0, 1, 2])
  assert len(open_runs(tmp_path).names) == 3
