"""The recurrent baseline and post-processing, from audio to the report."""

import json
import pathlib

import numpy as np
import pytest

from configs import adieu
from ser_jax import experiment
from ser_jax.data.dataset import load_dataset
from ser_jax.evaluation import contour_baselines, contour_tables, report
from ser_jax.reproduce import load_table

ROOT = pathlib.Path(__file__).resolve().parents[1]


def small(synthetic_shards, words):
  config = adieu.get_config(words)
  config.data.shards = str(synthetic_shards(config.data.features))
  config.protocol.folds = (0,)
  config.model.update({"hidden": 4, "layers": 1})
  config.epochs = 1
  config.parallel.data = 1
  return config


@pytest.fixture(scope="module")
def trained(synthetic_shards, tmp_path_factory, opensmile_installed):
  config = small(synthetic_shards, "blstm_compare,mse")
  folder = tmp_path_factory.mktemp("trained")
  return experiment.train(config, folder, should_stop=lambda: False), folder


def test_chains_are_chosen_saved_and_reported(trained):
  found, folder = trained
  after = found["postprocessed"]
  (run,) = after["runs"]
  assert set(run["chains"]) == {"arousal", "valence"}
  for name, steps in run["chains"].items():
    development = run["development"]
    gained = sum(step["gain"] for step in steps if step["kept"])
    assert development["after"][f"ccc_{name}"] == pytest.approx(
      development["before"][f"ccc_{name}"] + gained
    )
    # The speakers of one fold are too few for an interval.
    assert after["summary"]["test"]["after"][f"ccc_{name}"]["ci95"] is None
    before = run["test"]["before"][f"ccc_{name}"]
    assert before == pytest.approx(found["runs"][0][f"ccc_{name}"])
  assert "## Post-processing" in (folder / "report.md").read_text()
  saved = json.loads((folder / "postprocess.json").read_text())
  (name,) = [path.name for path in (folder / "runs").iterdir()]
  assert saved == {name: run["chains"]}


def test_the_report_is_rebuilt_without_a_device(trained):
  found, folder = trained
  again = report.rebuild(folder)
  stored = json.loads((folder / "report.json").read_text())
  assert again["postprocessed"] == found["postprocessed"]
  assert stored["postprocessed"] == found["postprocessed"]


def test_validation_speakers_are_no_test_speakers(trained):
  _, folder = trained
  sides = [
    set(np.load(folder / f"{stem}.npz")["speaker"])
    for stem in ("predictions", "predictions_validation")
  ]
  assert sides[0] and sides[1] and not sides[0] & sides[1]


def test_a_linear_regressor_on_the_same_folds(synthetic_shards, trained):
  _, folder = trained
  config = small(synthetic_shards, "blstm_compare,mse")
  found = contour_baselines.predict(load_dataset(config), "windows")
  test, validation = found["predictions"], found["predictions_validation"]
  with np.load(folder / "predictions.npz") as network:
    for name in ("utterance", "target", "frames", "fold"):
      np.testing.assert_array_equal(test[name], network[name])
    assert test["scores"].shape == network["scores"].shape
  assert np.isfinite(validation["scores"]).all()


@pytest.mark.parametrize(
  ("words", "features"),
  [
    ("blstm_egemaps", "egemaps_windows"),
    ("blstm_compare,emodb", "compare_lld_windows_prosody"),
  ],
)
def test_words_choose_functionals(words, features):
  config = adieu.get_config(words)
  experiment.check(config)
  assert config.data.features == features
  assert config.batch_size == 5


def test_the_paper_s_numbers_are_beside_their_rows():
  config = adieu.get_config("blstm_compare,mse,recola")
  assert config.paper.ccc_arousal == 0.132
  assert config.paper.ccc_valence == 0.117
  assert not adieu.get_config("blstm_compare,mse,emodb").paper


def test_the_table_has_the_paper_s_eight_rows(tmp_path):
  path = str(ROOT / "configs/tables/adieu_table1.py")
  for corpus, baseline in (
    ("recola", "egemaps_windows"),
    ("emodb", "egemaps_windows_prosody"),
  ):
    table = load_table(path, corpus)
    assert len({row["name"] for row in table["rows"]}) == 8
    assert table["rows"][0]["baseline"] == baseline
    for row in table["rows"]:
      experiment.check(row["config"])
  found = contour_tables.compare(table["rows"], {}, "ccc")
  text = contour_tables.render(found, table["title"], "emodb", "recola")
  assert text.count("not yet") == 8
  assert "| .686 (.741) | .261 (.325) | not yet" in text
  path = tmp_path / "table.png"
  contour_tables.draw(found, path, "Table 1", "predictor", "emodb", "recola")
  assert path.stat().st_size


def test_a_row_is_filled_and_compared(trained):
  report, _ = trained
  rows = load_table(str(ROOT / "configs/tables/adieu_table1.py"), "synthetic")[
    "rows"
  ]
  reports = {"blstm_compare-mse": report, "blstm_compare-ccc": report}
  found = contour_tables.compare(rows, reports, "ccc")
  filled = [row for row in found["rows"] if "summary" in row]
  assert [row["name"] for row in filled] == list(reports)
  # One run is no pair of runs.
  assert "p" not in filled[1]
  twice = report["postprocessed"]["runs"] * 2
  twice[1] = twice[1] | {"seed": 1}
  again = report | {"postprocessed": report["postprocessed"] | {"runs": twice}}
  reports = dict.fromkeys(reports, again)
  found = contour_tables.compare(rows, reports, "ccc")
  (tested,) = [row for row in found["rows"] if "p" in row]
  assert tested["difference"] == 0.0 and tested["p_holm"] == 1.0
  text = contour_tables.render(found, "Table 1", "synthetic", "recola")
  assert "+0.000 | 1.000 | 1.000" in text
