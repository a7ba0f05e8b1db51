"""Which seeds a workdir has, once others are asked for."""

import json

import pytest

from ser_jax import experiment, runs
from ser_jax.errors import UserError
from ser_jax.trained import open_runs
from tests.experiment_test import small, train


def kept(folder):
  """Seeds of a workdir's config, as they came, and those of its report."""
  config = json.loads((folder / "config.json").read_text())
  reported = json.loads((folder / "report.json").read_text())["runs"]
  seeds = [config["seeds"], *config.get("later", [])]
  return seeds, [run["seed"] for run in reported]


def test_seeds_of_a_workdir_are_those_it_was_trained_with(
  synthetic_shards, tmp_path, monkeypatch
):
  """More of them join the report; an evaluation adds none.

  Those that share a program do not train again with those that are added.
  """
  config = small({"ds_lstm": synthetic_shards("ds_lstm")}, "base1")
  config.parallel.runs, config.seeds = "vmap", (0, 1)
  train(config, tmp_path)
  config.seeds = (2,)
  with pytest.raises(UserError, match="session1-seed2 .* has no checkpoint"):
    experiment.evaluate(config, tmp_path)
  assert kept(tmp_path) == ([[0, 1]], [0, 1])
  config.seeds = (0,)
  experiment.evaluate(config, tmp_path)
  assert kept(tmp_path) == ([[0, 1]], [0, 1])

  trained, train_group = [], runs.train_group

  def spy(part, engines, group, *rest):
    trained.append([run.seed for run in group])
    return train_group(part, engines, group, *rest)

  monkeypatch.setattr(runs, "train_group", spy)
  config.seeds = (2, 0)
  train(config, tmp_path)
  assert trained == [[2]]
  assert kept(tmp_path) == ([[0, 1], [2]], [0, 1, 2])
  assert len(open_runs(tmp_path).names) == 3
  before = (tmp_path / "predictions.npz").read_bytes()
  experiment.evaluate(config, tmp_path)
  assert (tmp_path / "predictions.npz").read_bytes() == before
