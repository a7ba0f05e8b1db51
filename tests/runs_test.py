"""What a group of runs leaves behind."""

import json

import numpy as np

from ser_jax import assembly, predictions, runs
from ser_jax.train.engine import predict
from tests.experiment_test import small, train


def test_predictions_are_of_the_best_epoch_and_of_the_last(
  synthetic_shards, tmp_path
):
  """The second epoch's rate spoils what the first has learnt."""
  shards = {"ds_lstm": synthetic_shards("ds_lstm")}
  config = small(shards, "base1", epochs=2)
  config.parallel.data = 1
  config.optimizer.schedule = "piecewise_constant_schedule"
  config.optimizer.schedule_kwargs = "boundaries_and_scales={1: 1e4}"
  train(config, tmp_path)
  text = (tmp_path / "metrics.jsonl").read_text()
  logged = [json.loads(line) for line in text.splitlines()]
  assert [line["best"] for line in logged] == [True, False]
  found = assembly.make_experiment(config, tmp_path)
  (group,), (engine,) = found.groups, runs.make_engines(found)
  (run,), stats = group, runs.group_statistics(found, group)
  best, last, _ = runs.restore_group(found, group)
  saved = []
  for stem, weights, line in (
    (predictions.PREDICTIONS, best, logged[0]),
    (predictions.LAST, last, logged[1]),
  ):
    parts = [run.validation], [run.test]
    (validation,), (test,) = (predict(engine, weights, stats, p) for p in parts)
    metrics = predictions.score(
      found.dataset, found.statistics[run.fold], run, validation
    )
    for name, value in metrics.items():
      np.testing.assert_allclose(value, line["validation"][name], rtol=1e-5)
    with np.load(predictions.file_of(tmp_path, run, stem)) as stored:
      np.testing.assert_allclose(stored["scores"], test, atol=1e-6)
      saved.append(stored["scores"])
  assert np.abs(saved[0] - saved[1]).max() > 0.1
