"""The command that makes a whole table, on two small rows of our own."""

import json
import os
import pathlib
import re
import subprocess
import sys
import types

import numpy as np
import pytest

from ser_jax import assembly, experiment
from ser_jax.errors import UserError
from ser_jax.evaluation import figures
from ser_jax.reproduce import (
  fill_row,
  load_table,
  prepare,
  run,
  run_baseline,
  write_table,
)
from ser_jax.train import loop

ROOT = pathlib.Path(__file__).resolve().parents[1]
TABLE = """
from configs import dat
from configs.tables.rows import baselines

def get_table(corpus):
  rows = []
  for gamma in ("plain", "gamma2.5"):
    config = dat.get_config(f"depth1,{{gamma}},{{corpus}}")
    config.data.shards = {shards!r}
    config.protocol.folds = ()
    config.model.update({{"channels": 4, "hidden": 8, "head": 8}})
    config.model.on_cpu.forms = ("direct", "direct")
    config.batch_size = 8
    config.parallel.data = 1
    config.epochs = 1
    rows.append(
      {{"name": gamma, "label": gamma, "config": config, "paper": (60.0, 5.0),
       "against": None if gamma == "plain" else "plain", "curve": "depth 1",
       "x": gamma}}
    )
  return {{"title": "Small", "paper_corpus": corpus, "metric": "wa",
          "rows": [*baselines(config, {svms!r}), *rows], "x": "gamma"}}
"""


@pytest.fixture(scope="module")
def table(synthetic_shards, tmp_path_factory):
  path = tmp_path_factory.mktemp("table") / "small.py"
  path.write_text(
    TABLE.format(shards=str(synthetic_shards("dat_mfcc")), svms=())
  )
  return path


def networks(name, corpus):
  """Rows of a table of ours, or of a file."""
  path = ROOT / "configs" / "tables" / f"{name}"
  rows = load_table(str(path.with_suffix(".py")), corpus)["rows"]
  return [row for row in rows if "baseline" not in row]


def reproduce(table, workdir, *more):
  return subprocess.run(
    [
      *(sys.executable, "-m", "ser_jax.reproduce", f"--table={table}"),
      *("--corpus=synthetic", f"--workdir={workdir}", *more),
    ],
    cwd=ROOT,
    env=os.environ | {"PYTHONPATH": str(ROOT)},
    capture_output=True,
    text=True,
  )


def test_a_table_grows_by_the_same_command(table, tmp_path, monkeypatch):
  fold = "--set=protocol.folds=(0,)"
  result = reproduce(table, tmp_path, fold, "--rows=plain")
  assert result.returncode == 0, result.stderr
  assert re.search(r"plain \| 60.0 ± 5.0 \| [0-9.]+ \| ", result.stdout)
  assert re.search(r"gamma2.5 \| 60.0 ± 5.0 \| not yet", result.stdout)
  finished = next(tmp_path.glob("plain/runs/*-seed0/predictions.npz"))
  before = finished.stat().st_mtime_ns
  # The other row, and a second seed of both.
  result = reproduce(table, tmp_path, fold, "--seeds=2")
  assert result.returncode == 0, result.stderr
  assert finished.stat().st_mtime_ns == before
  found = json.loads((tmp_path / "table.json").read_text())
  rows = {row["name"]: row for row in found["rows"]}
  assert rows["gamma2.5"]["pairs"] == rows["gamma2.5"]["runs"] == 2
  assert 0 < rows["gamma2.5"]["p"] <= rows["gamma2.5"]["p_holm"] <= 1
  apart = {
    name: rows[name]["summary"]["wa"]["pooled"]
    for name in ("plain", "gamma2.5")
  }
  pooled = rows["gamma2.5"]["pooled_difference"]["value"]
  assert pooled == pytest.approx(apart["gamma2.5"] - apart["plain"])
  assert found["small"].keys() == {"test", "validation"}
  assert (tmp_path / "table.png").exists()
  # The yardstick is measured on the very same test utterances.
  ids = []
  for name in ("plain", "majority"):
    with np.load(tmp_path / name / "predictions.npz") as arrays:
      ids.append(set(zip(arrays["fold"], arrays["utterance"], strict=True)))
  assert ids[0] == ids[1]
  # Whoever looks at it again asks for no seeds, and loses none.
  asked = {"table": str(table), "corpus": "synthetic", "raw": "", "seeds": 1,
           "workdir": str(tmp_path), "rows": ["plain"], "baselines": True,
           "set": ["protocol.folds=(0,)"]}  # fmt: skip
  given = types.SimpleNamespace(FLAGS=types.SimpleNamespace(**asked))
  monkeypatch.setattr("ser_jax.reproduce.flags", given)
  monkeypatch.setattr("ser_jax.command_line.stop_on_signals", list)
  assert run(["reproduce"]) == 0
  assert finished.stat().st_mtime_ns == before
  report = json.loads((tmp_path / "plain" / "report.json").read_text())
  assert report["seeds"] == 2


def test_what_is_wrong_is_one_line_before_any_training(table, tmp_path):
  result = reproduce(table, tmp_path, "--set=model.depht=2")
  assert result.returncode == 2
  assert "did you mean depth" in result.stderr
  assert "Traceback" not in result.stderr
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
  ("only", "changes", "message"),
  [
    (["depth9"], [], "--rows=depth9 fits none of the table's: mfcc-depth1"),
    ([], ["optimizer.learning_rat=1"], "did you mean learning_rate"),
    (
      [],
      ["optimiser.name=adam"],
      "no config.optimiser; did you mean optimizer",
    ),
    ([], ["epochs=many"], "--set=epochs=many: "),
    ([], ["epochs=0"], "config.epochs=0 must be at least 1"),
    ([], ["epochs.x=3"], "config.epochs is the value 100, which has no fields"),
    ([], ["epochs.a.b=1"], "config.epochs is the value 100"),
    ([], ["optimizer.name.a=1"], "config.optimizer.name is the value 'adam'"),
  ],
)
def test_bad_flags_name_themselves(only, changes, message):
  rows = networks("dat_table1", "emodb")
  with pytest.raises(UserError, match=message):
    prepare(rows, only, 1, "", changes)


def test_rows_are_chosen_by_names_then_by_parts():
  rows = networks("ds_lstm_table1", "emodb")

  def chosen(*only):
    return [row["name"] for row in prepare(rows, list(only), 1, "", [])]

  assert chosen("ds_lstm") == ["ds_lstm"]
  assert chosen("base6", "rbn") == [
    "base6",
    "ds_lstm-no_rbn",
    "ds_lstm-pre_rbn",
  ]
  with pytest.raises(UserError, match="--rows=base7 fits none"):
    chosen("base6", "base7")


def test_baselines_of_fewer_labels_have_every_label():
  """They learn from all labels, and their reports say so."""
  path = str(ROOT / "configs/tables/aae_labels.py")
  table = load_table(path, "emodb")["rows"]
  shares = [
    row["config"].data.labelled_fraction for row in table if "baseline" in row
  ]
  assert shares == [1.0, 1.0]


def test_a_row_that_diverges_does_not_end_the_table(
  table, tmp_path, monkeypatch, caplog
):
  plain = networks(table, "synthetic")[0]

  def filled(train):
    monkeypatch.setattr(experiment, "train", train)
    return fill_row(plain, tmp_path, lambda: False)

  def lost(*args, **kwargs):
    raise loop.Diverged("not finite")

  assert not filled(lost)
  assert "row plain is left out: not finite" in caplog.text
  assert not filled(lambda *args, **kwargs: {"diverged": ["fold0-seed0"]})
  assert filled(lambda *args, **kwargs: {"diverged": []})


def test_the_status_tells_of_runs_that_diverged(table, tmp_path):
  config = ("--set=optimizer.learning_rate=1e30", "--set=protocol.folds=(0,)")
  result = reproduce(table, tmp_path, *config)
  assert result.returncode == 1, result.stderr
  for row in ("plain", "gamma2.5"):
    assert f"row {row} is left out" in result.stderr
    assert re.search(rf"{row} \| 60.0 ± 5.0 \| not yet", result.stdout)


def test_the_figure_tells_of_the_corpus(table, tmp_path, monkeypatch):
  titles = []
  monkeypatch.setattr(
    figures, "write", lambda figure, path: titles.append(figure.get_suptitle())
  )
  write_table(load_table(str(table), "synthetic"), "synthetic", tmp_path)
  assert titles == ["Small, on synthetic"]


@pytest.fixture
def baseline(table):
  """The table's majority class."""
  (row,) = (
    row
    for row in load_table(str(table), "synthetic")["rows"]
    if "baseline" in row
  )
  return row


def test_a_baseline_is_measured_once(baseline, tmp_path):
  config = baseline["config"]
  run_baseline("majority", config, tmp_path)
  before = (tmp_path / "report.json").stat().st_mtime_ns
  config.epochs += 1  # a matter of networks
  run_baseline("majority", config, tmp_path)
  assert (tmp_path / "report.json").stat().st_mtime_ns == before
  config.protocol.folds = (0, 1)
  with pytest.raises(
    UserError, match=r"protocol.folds: \[\] there, \[0, 1\] now"
  ):
    run_baseline("majority", config, tmp_path)


def test_the_majority_class_is_never_transductive(baseline, tmp_path):
  """It is on the config of a row that may be, and reads no input."""
  config = baseline["config"]
  config.data.inputs.features.update(standardize=True, normalize="speaker")
  run_baseline("majority", config, tmp_path)
  report = json.loads((tmp_path / "report.json").read_text())
  assert not report["transductive"]


def test_a_baseline_of_an_unknown_config_is_measured_again(baseline, tmp_path):
  run_baseline("majority", baseline["config"], tmp_path)
  (tmp_path / "config.json").unlink()
  (tmp_path / "report.json").write_text("{}")
  run_baseline("majority", baseline["config"], tmp_path)
  assert json.loads((tmp_path / "report.json").read_text())["folds"] == 5


def test_overrides_reach_every_row():
  changes = ["epochs=3", "optimizer.name=lion", "protocol.folds=(0, 1)"]
  table = networks("dat_table1", "emodb")
  rows = prepare(table, ["depth1"], 2, "raw/emodb", changes)
  assert len(rows) == 4
  # Those of the table stay, to be compared with.
  assert {row["config"].epochs for row in table} == {100}
  for config in (row["config"] for row in rows):
    assert (config.epochs, config.optimizer.name) == (3, "lion")
    assert config.protocol.folds == (0, 1)
    assert (config.seeds, config.data.raw) == ((0, 1), "raw/emodb")


def test_a_baseline_is_on_the_terms_of_the_rows(tmp_path, monkeypatch):
  """By speaker where the rows are, and told apart from that by training."""
  for name in ("dcaen_table1", "dcaen_table2", "dcaen_weights"):
    path = str(ROOT / f"configs/tables/{name}.py")
    rows = load_table(path, "synthetic")["rows"]
    assert [row["name"] for row in rows[1:3]] == [
      "svm-egemaps",
      "svm-egemaps-by_speaker",
    ]
    assert rows[2]["label"] == "linear SVM, egemaps by speaker"
  opened = []

  def opened_by(config):
    opened.append(config.data.inputs.functionals)
    raise UserError("enough")

  monkeypatch.setattr(assembly, "ensure_shards", opened_by)
  for row in rows[1:3]:
    with pytest.raises(UserError, match="enough"):
      fill_row(row, tmp_path, lambda: False)
  trained, by_speaker = opened
  assert not trained.standardize
  assert by_speaker.standardize and by_speaker.normalize == "speaker"


@pytest.mark.parametrize(
  ("path", "corpus", "message"),
  [
    ("configs/tables/none.py", "emodb", "none.py does not exist"),
    ("configs/tables/dat_table1.py", "emodbb", "unknown word 'emodbb'"),
  ],
)
def test_tables_and_corpora_are_checked(path, corpus, message):
  with pytest.raises(UserError, match=message):
    load_table(str(ROOT / path), corpus)


@pytest.mark.parametrize(
  ("name", "corpus", "count"),
  [
    *((f"dat_table{number}", "emodb", count)
      for number, count in ((1, 16), (2, 16), (3, 12))),
    ("dat_table1", "ravdess", 16),
    ("dat_legacy", "emodb", 8),
    ("dat_best", "ravdess", 8),
    ("aae_table1", "emodb", 10),
    ("aae_table1", "iemocap", 15),
    ("dcaen_table1", "ravdess", 9),
    ("ds_lstm_table1", "emodb", 12),
    ("ds_lstm_table1", "iemocap", 12),
    ("dcaen_table2", "iemocap", 5),
    ("aae_labels", "ravdess", 10),
    ("dcaen_weights", "emodb", 5),
    ("optimizers", "emodb", 16),
    ("optimizers_lstm", "emodb", 16),
  ],
)  # fmt: skip
def test_every_published_row_is_there(name, corpus, count):
  table = load_table(str(ROOT / f"configs/tables/{name}.py"), corpus)
  names = [row["name"] for row in table["rows"]]
  assert len(set(names)) == len(names)
  rows = networks(name, corpus)
  assert len(rows) == count
  for row in rows:
    experiment.check(row["config"])
    assert row["against"] is None or row["against"] in names
    published = row["config"].paper.to_dict()
    if row["paper"] and name != "dat_table3":
      assert published[table["metric"]] == row["paper"][0]
