"""Every page of the app, clicked through without a browser."""

import dataclasses
import pathlib
import shutil
import sys

import numpy as np
import pytest

from ser_jax.errors import UserError

pytest.importorskip("streamlit", reason="needs the extra demo")

from streamlit.testing.v1 import AppTest  # noqa: E402

from configs import ds_lstm  # noqa: E402
from ser_jax import experiment  # noqa: E402
from ser_jax.demo import results  # noqa: E402
from ser_jax.trained import open_runs  # noqa: E402
from tests.demo.clips_test import flac_that_claims, wav  # noqa: E402

APP = pathlib.Path(__file__).resolve().parents[2] / "ser_jax/demo/app.py"


@pytest.fixture(scope="module")
def folder(trained, tmp_path_factory):
  """Two experiments, the second with one run."""
  folder = tmp_path_factory.mktemp("several")
  shutil.copytree(trained, folder / "one")
  shutil.copytree(trained, folder / "other")
  shutil.rmtree(folder / "other" / "runs" / "session2-seed0")
  return folder


@pytest.fixture
def app(folder, raw, monkeypatch):
  monkeypatch.setattr(sys, "argv", ["app", str(folder), f"--raw={raw}"])
  # The test's page replaces it, and processes started later would load that.
  monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])

  def page(name):
    app = AppTest.from_file(APP, default_timeout=120).run()
    app.sidebar.radio[0].set_value(name).run()
    assert not app.exception and not app.error
    return app

  return page


def test_results(app, folder):
  page = app("Results")
  found = results.read_results(folder / "one")
  counts = results.confusion(found)
  shown = {metric.label: metric.value for metric in page.metric}
  assert shown["Test utterances"] == str(counts.sum()) == "16"
  assert shown["WA"] == f"{100 * counts.trace() / 16:.1f} %"
  assert page.dataframe[0].value["support"].sum() == 16
  assert set(page.dataframe[1].value["gender"]) <= {"female", "male"}
  fold = page.sidebar.selectbox[1]
  assert fold.options == ["all", "session1", "session2"]
  fold.set_value("session1").run()
  shown = {metric.label: metric.value for metric in page.metric}
  assert shown["Test utterances"] == "8"


def test_utterances(app):
  page = app("Utterances")
  assert "16 predictions" in page.markdown[0].value
  emotion = page.multiselect[1].options[0]
  page.multiselect[1].set_value([emotion]).run()
  assert "4 predictions" in page.markdown[0].value
  (chosen,) = [box for box in page.selectbox if box.label == "Utterance"]
  assert all(f": {emotion}, " in name for name in chosen.options)
  assert len(page.get("audio")) == 1
  page.toggle[0].set_value(True).run()
  assert not page.exception and not page.error
  assert [caption.value for caption in page.caption] == [
    "lstm_mfcc_0",
    "lstm_mfcc_1",
  ]


def test_comparison(app):
  page = app("Compare")
  # What both tested: the session of the run that both have.
  assert sum(int(metric.value) for metric in page.metric) == 8
  assert page.subheader[0].value == "0 of 8 utterances changed"


def test_an_uploaded_recording_is_classified(app):
  page = app("Classify")
  page.file_uploader[0].upload("a.flac", wav(3.0, kind="FLAC"), "audio/flac")
  page.run()
  assert not page.exception and not page.error
  assert page.subheader[0].value.split(",")[0] in ("angry", "happy", "neutral",
                                                   "sad")  # fmt: skip
  assert "runs say so" in page.markdown[0].value


@pytest.mark.parametrize(
  "data, message",
  [
    (b"no audio", "cannot be read as audio"),
    (wav()[:30], "cannot be read as audio|is empty"),
    (flac_that_claims(2**36 - 1), "claims to last"),
    (wav(seconds=121, rate=1000), "at most 120 s"),
  ],
)
def test_bad_uploads_get_a_message_and_the_app_stays_up(app, data, message):
  page = app("Classify")
  page.file_uploader[0].upload("../../etc/passwd.wav", data, "audio/wav").run()
  assert not page.exception
  assert page.error[0].value and any(
    part in page.error[0].value for part in message.split("|")
  )
  page.sidebar.radio[0].set_value("Results").run()
  assert not page.exception and not page.error


def test_learning_rates_are_systems_of_their_own(
  synthetic_shards, raw, tmp_path, monkeypatch
):
  config = ds_lstm.get_config("base1")
  config.data.shards = str(synthetic_shards("ds_lstm"))
  config.protocol.folds = (0,)
  config.model.hidden, config.batch_size, config.epochs = 8, 8, 1
  config.parallel.data = 1
  config.optimizer.learning_rates = (1e-3, 1e-2)
  experiment.train(config, tmp_path, should_stop=lambda: False)
  found = results.read_results(tmp_path)
  assert set(found.table["rate"]) == {"0.001", "0.01"}
  with pytest.raises(UserError, match="runs of 2 learning rates.*by --run"):
    open_runs(tmp_path)
  monkeypatch.setattr(sys, "argv", ["app", str(tmp_path), f"--raw={raw}"])
  monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
  page = AppTest.from_file(APP, default_timeout=120).run()
  page.sidebar.radio[0].set_value("Utterances").run()
  assert "8 predictions" in page.markdown[0].value  # not those of both
  (rate,) = [x for x in page.sidebar.selectbox if x.label == "Learning rate"]
  assert rate.options == ["0.001", "0.01"]
  rate.set_value("0.01").run()
  page.toggle[0].set_value(True).run()
  assert not page.exception and not page.error


def test_runs_that_finish_meanwhile_are_seen(trained, tmp_path, monkeypatch):
  workdir, later = tmp_path / "several" / "one", "session2-seed0"
  shutil.copytree(trained, workdir)
  shutil.move(workdir / "runs" / later, tmp_path / later)
  monkeypatch.setattr(sys, "argv", ["app", str(workdir.parent)])
  monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
  page = AppTest.from_file(APP, default_timeout=120).run()
  assert "8" in [metric.value for metric in page.metric]
  page.sidebar.radio[0].set_value("Classify").run()
  page.file_uploader[0].upload("a.flac", wav(3.0, kind="FLAC"), "audio/flac")
  assert "of 1 runs" in page.run().markdown[0].value

  shutil.move(tmp_path / later, workdir / "runs" / later)
  assert "of 2 runs" in page.run().markdown[0].value
  page.sidebar.radio[0].set_value("Results").run()
  assert "16" in [metric.value for metric in page.metric]
  shutil.copytree(trained, workdir.parent / "other")
  page.run()
  assert page.sidebar.selectbox[0].options == ["one", "other"]


# --- tables ------------------------------------------------------------------


def test_a_folder_without_runs_is_refused(tmp_path):
  with pytest.raises(UserError, match="holds no finished run"):
    results.find_experiments(tmp_path)


def test_a_workdir_stands_for_itself(trained):
  assert results.find_experiments(trained) == {trained.name: trained}


def test_changes_are_counted_by_who_is_right(trained):
  found = results.choose(
    results.read_results(trained), fold="session1", seed="0"
  )
  same = results.compare(found, found)
  right = int(found.table["correct"].sum())
  counts = same["change"].value_counts()
  assert counts.get("both right", 0) == right
  assert counts.get("both wrong", 0) == 8 - right


def test_experiments_with_other_labels_are_not_compared(trained):
  found = results.read_results(trained)
  table = found.table.copy()
  other = table["true"].map(
    dict(zip(found.classes, np.roll(found.classes, 1), strict=True))
  )
  one = table["utterance"] == table["utterance"][0]
  table["true"] = table["true"].where(~one, other)
  changed = dataclasses.replace(found, table=table)
  with pytest.raises(UserError, match="label 1 of 16 utterances differently"):
    results.compare(found, changed)
