"""Learning rates as runs: each trains as it would alone; the comparison."""

import json

import numpy as np
import pytest

from configs import ds_lstm
from ser_jax import experiment
from ser_jax.evaluation import sweeps, training_log
from tests import adieu_test, dcaen_test

RATES = (1e-3, 1e-2)


def line(fold, rate, epoch, uar):
  return {
    **{"fold": fold, "seed": 0, "rate": rate, "epoch": epoch},
    "stage": "train",
    **{"train": {"loss": 1.0 / (epoch + 1)}, "seconds": 2.0},
    "validation": {"uar": uar},
  }


def write_log(folder, lines):
  """The log of a folder, which is made."""
  folder.mkdir(parents=True, exist_ok=True)
  text = "".join(json.dumps(each) + "\n" for each in lines)
  (folder / "metrics.jsonl").write_text(text)


def report_of(*folds):
  """What is read of the report of these folds with seed 0."""
  figures = {
    "uar": {"mean": 0.5, "std": 0.1, "pooled": 0.52, "ci95": [0.4, 0.6]}
  }
  runs = [{"fold": fold, "seed": 0} for fold in folds]
  return {
    **{"summary": figures, "last_epoch": figures, "runs": runs},
    **{"speaker_independent": False, "transductive": False, "speakers": 24},
    **{"folds": len(folds), "protocol": {"folds": len(folds)}},
  }


def write_row(folder, curves):
  """Logs and reports of an optimizer: rate to fold to validation UAR."""
  for rate, folds in curves.items():
    own = sweeps.rate_folder(folder, rate)
    write_log(
      own,
      [
        line(fold, rate, epoch, uar)
        for fold, values in folds.items()
        for epoch, uar in enumerate(values)
      ],
    )
    (own / "report.json").write_text(json.dumps(report_of(*folds)))


def test_rates_are_chosen_by_validation_and_timed_by_the_mean(tmp_path):
  write_row(
    tmp_path / "one",
    {
      0.1: {"a": [0.2, 0.8, 0.6], "b": [0.4, 0.6, 0.8]},
      1.0: {"a": [0.3, 0.3, 0.3], "b": [0.3, 0.3, 0.3]},
    },
  )
  write_row(tmp_path / "two", {0.1: {"a": [0.68, 0.5], "b": [0.68]}})
  rows = [
    {"name": "two", "label": "two", "rates": (0.1,)},
    {"name": "one", "label": "one", "rates": (0.1, 1.0)},
    {"name": "absent", "label": "absent", "rates": (0.1,)},
  ]
  found = sweeps.compare(rows, tmp_path, "uar")
  assert [row["label"] for row in found["rows"]] == ["one", "two"]
  best, other = found["rows"][0]["rates"]
  assert (best["rate"], other["rate"]) == (0.1, 1.0)
  # The mean over folds is .3, .7, .7, hence the target .95 x .7.
  assert best["validation"] == pytest.approx(0.7)
  assert best["reached"] == {"epochs": 2, "seconds": 4.0}
  assert other["reached"] is None
  assert found["target"] == pytest.approx(0.665)
  assert best["curve"] == pytest.approx([0.3, 0.7, 0.7])
  assert best["seconds"] == pytest.approx([2, 4, 6])
  # A run that stopped early stays where it was.
  assert found["rows"][1]["rates"][0]["curve"] == pytest.approx([0.68, 0.59])
  sweeps.write(rows, tmp_path, "uar", "title")
  text = (tmp_path / "table.md").read_text()
  assert "not reached" in text
  # Of two rates the first won; of a single one there is nothing to say.
  assert "| one | 0.1 (lowest) |" in text
  assert "| two | 0.1 |" in text
  assert "SPEAKER-DEPENDENT" in text and "| 52.0 (40.0–60.0) |" in text
  assert (tmp_path / "table.png").stat().st_size


def test_noise_is_no_merit(tmp_path):
  """A rate whose runs have their peaks apart is not the better one."""
  noisy = {"a": [0.9, 0.1, 0.5], "b": [0.1, 0.9, 0.5]}
  calm = {"a": [0.5, 0.58, 0.6], "b": [0.5, 0.58, 0.6]}
  fast = {"a": [0.58, 0.5, 0.5], "b": [0.58, 0.5, 0.5]}
  write_row(tmp_path / "one", {0.1: noisy, 1.0: calm, 10.0: fast})
  rows = [{"name": "one", "label": "one", "rates": (0.1, 1.0, 10.0)}]
  text = sweeps.write(rows, tmp_path, "uar", "title")
  (found,) = json.loads((tmp_path / "table.json").read_text())["rows"]
  assert [each["rate"] for each in found["rates"]] == [1.0, 10.0, 0.1]
  # The chosen rate is at .95 x .6 after two epochs, the largest after one.
  assert "| one | 1 | 60.0 | 2 | 4.0 |" in text
  assert "| 1 at 10 |" in text


def test_runs_that_no_report_has_are_not_judged(tmp_path):
  """Those that diverged, and those of a training that was ended."""
  write_row(tmp_path / "one", {0.1: {"a": [0.2, 0.6], "b": [0.9]}})
  own = sweeps.rate_folder(tmp_path / "one", 0.1)
  (own / "report.json").write_text(json.dumps(report_of("a")))
  # The training's own log is of another, which is still under way.
  write_log(tmp_path / "one", [line("a", 0.1, 0, 0.1)])
  rows = [{"name": "one", "label": "one", "rates": (0.1,)}]
  (row,) = sweeps.compare(rows, tmp_path, "uar")["rows"]
  assert row["rates"][0]["curve"] == pytest.approx([0.2, 0.6])
  assert row["rates"][0]["runs"] == 1
  text = sweeps.console({0.1: report_of("a")}, tmp_path / "one", "uar", ["b"])
  assert "0.1" in text and " 60.0 " in text


def test_what_diverged_at_any_rate_is_told(tmp_path):
  """A rate that lost a run is not chosen; one that lost all is in the grid."""
  whole = {"a": [0.5, 0.6], "b": [0.5, 0.6]}
  write_row(tmp_path / "one", {0.1: whole, 1.0: {"a": [0.9, 0.9]}})
  lossy = sweeps.rate_folder(tmp_path / "one", 1.0) / "report.json"
  lost = {"diverged": ["b-seed0-lr1"]}
  lossy.write_text(json.dumps(report_of("a") | lost))
  write_log(sweeps.rate_folder(tmp_path / "one", 10.0), [])
  rows = [{"name": "one", "label": "one", "rates": (0.1, 1.0, 10.0, 100.0)}]
  text = sweeps.write(rows, tmp_path, "uar", "title")
  (row,) = json.loads((tmp_path / "table.json").read_text())["rows"]
  assert [each["rate"] for each in row["rates"]] == [0.1, 1.0]
  # Nothing is known yet of the fourth rate.
  assert row["lost"] == [10.0]
  assert "not in any figure: b-seed0-lr1, every run at 10." in text
  assert "| one | 0.1 (lowest) | 60.0 |" in text
  assert "| one | 10 | diverged |" in text
  # The target is of whole rates: .95 x .6, which 0.1 meets in its 2nd epoch.
  assert "| 2 at 0.1 |" in text


def test_a_rate_below_those_that_diverged_ends_no_grid(tmp_path):
  write_row(tmp_path / "one", {0.1: {"a": [0.5]}, 1.0: {"a": [0.6]}})
  write_log(sweeps.rate_folder(tmp_path / "one", 10.0), [])
  rows = [{"name": "one", "label": "one", "rates": (0.1, 1.0, 10.0)}]
  assert "| one | 1 | 60.0 |" in sweeps.write(rows, tmp_path, "uar", "title")


def test_only_the_last_stage_is_judged(tmp_path):
  history = [
    line("a", 0.1, epoch, uar) | {"stage": stage}
    for stage, values in (("first", [0.9, 0.9]), ("second", [0.4, 0.6]))
    for epoch, uar in enumerate(values)
  ]
  write_log(tmp_path, history)
  found = sweeps.summarize(tmp_path, report_of("a"), "uar")
  assert found["curve"] == pytest.approx([0.4, 0.6])
  assert found["validation"] == pytest.approx(0.6)


def config_of(shards, **changes):
  config = ds_lstm.get_config("base1")
  config.data.shards = str(shards)
  config.protocol.folds = (0,)
  config.model.hidden, config.batch_size, config.epochs = 8, 8, 2
  config.parallel.data = 1
  config.optimizer.update(changes)
  return config


def test_the_console_has_the_metric_that_epochs_were_chosen_by(tmp_path):
  entries = [
    line(fold, 0.1, 0, 0.0) | {"validation": {"ccc": 0.5}} for fold in "ab"
  ]
  write_log(sweeps.rate_folder(tmp_path, 0.1), entries)
  summary = {"summary": {"ccc": {"mean": 0.25, "std": 0.125}}}
  report = report_of("a", "b") | summary
  text = sweeps.console({0.1: report}, tmp_path, "ccc", ["a-lr1"])
  assert "best validation CCC   test CCC" in text
  assert ".500 " in text and ".250 ± .125" in text


def train_rates(config, folder):
  """Trains two learning rates at once; their reports."""
  config.optimizer.learning_rates = RATES
  config.parallel.runs = "vmap"
  experiment.train(config, folder, should_stop=lambda: False)
  return [
    json.loads((sweeps.rate_folder(folder, rate) / "report.json").read_text())
    for rate in RATES
  ]


def test_learning_rates_of_contours(synthetic_shards, tmp_path):
  config = adieu_test.small(synthetic_shards, "bi128,ccc,prosody")
  for rate, report in zip(RATES, train_rates(config, tmp_path), strict=True):
    assert -1 <= report["summary"]["ccc"]["mean"] <= 1
    folder = sweeps.rate_folder(tmp_path, rate)
    (name,) = json.loads((folder / "postprocess.json").read_text())
    assert (tmp_path / "runs" / name / "predictions.npz").exists()


def test_learning_rates_of_two_embeddings(synthetic_shards, tmp_path):
  config = dcaen_test.small(synthetic_shards, "dcaen,thr_m0.7")
  config.report.embeddings = True
  for report in train_rates(config, tmp_path):
    assert report["threshold"] == -0.7
    assert report["embeddings"]["embedding_raw"]["runs"] == 1
    shown = {"figures/cosine.png", "figures/tsne_both.png"}
    assert shown <= set(report["figures"])


def test_a_learning_rate_among_others_trains_as_alone(
  synthetic_shards, tmp_path
):
  shards = synthetic_shards("ds_lstm")
  schedule = {"schedule": "cosine_decay_schedule"}
  together = config_of(shards, learning_rates=RATES, **schedule)
  together.parallel.runs = "vmap"
  text = experiment.train(
    together, tmp_path / "both", should_stop=lambda: False
  )["text"]
  assert "0.001" in text
  alone = config_of(shards, learning_rate=RATES[1], **schedule)
  experiment.train(alone, tmp_path / "alone", should_stop=lambda: False)
  folders = tmp_path / "alone", sweeps.rate_folder(tmp_path / "both", RATES[1])
  one, two = (np.load(folder / "predictions.npz") for folder in folders)
  np.testing.assert_allclose(one["scores"], two["scores"], atol=1e-4)
  logs = [training_log.read(folder) for folder in folders]
  assert len(logs[0]) == len(logs[1]) == 2
  for left, right in zip(*logs, strict=True):
    assert left["learning_rate"] == pytest.approx(right["learning_rate"])
    assert left["train"] == pytest.approx(right["train"], abs=1e-4)
