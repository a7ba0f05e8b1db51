"""Every preset of the raw-waveform system takes real steps from real audio."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import adieu
from ser_jax import assembly, cells, experiment, runs, streaming, workdir
from ser_jax.data.recordings import window_moments
from ser_jax.data.shards import open_shards
from ser_jax.errors import UserError
from ser_jax.evaluation.cells import FEATURES

# Parameters in millions, and exactly, with one bias an LSTM.
MILLIONS = {
  "bi128": 1.25,
  "uni256": 1.51,
  "depthwise500": 1.35,
  "literal500": 7.6,
  "tzirakis2017": 2.17,
}
PARAMETERS = {
  "bi128": 1_249_490,
  "uni256": 1_511_634,
  "depthwise500": 1_345_490,
  "literal500": 7_585_490,
  "tzirakis2017": 2_164_594,
}


def small(synthetic_shards, words, **changes):
  """A config that trains in seconds."""
  config = adieu.get_config(words)
  config.data.shards = str(synthetic_shards(config.data.features))
  config.protocol.folds = (0,)
  config.model.update(
    {
      "filters": (4, 4),
      "taps": (8, 12),
      "pool_channels": 2,
      "hidden": 4,
      "on_cpu": {"forms": ("direct", "direct")},
    }
  )
  config.batch_size = 8
  config.epochs = 1
  config.parallel.data = 1
  with config.unlocked():
    config.update(changes)
  return config


def train(config, workdir):
  return experiment.train(config, workdir, should_stop=lambda: False)


@pytest.fixture(scope="module", params=["bi128,ccc,prosody", "uni256,mse"])
def trained(request, synthetic_shards, tmp_path_factory):
  """A config, its finished workdir, and the report."""
  config = small(synthetic_shards, request.param)
  folder = tmp_path_factory.mktemp("adieu")
  return config, folder, train(config, folder)


def test_contours_are_predicted_and_reported(trained):
  config, folder, report = trained
  for name in config.data.classes:
    assert -1 <= report["summary"][f"ccc_{name}"]["mean"] <= 1
    assert report["runs"][0][f"rmse_{name}"] > 0
    assert f"CCC {name}" in (folder / "report.md").read_text()
  for figure in ("contours", "runs", "learning_curves"):
    assert (folder / "figures" / f"{figure}.png").stat().st_size
  line = json.loads((folder / "metrics.jsonl").read_text().splitlines()[0])
  loss = "ccc_loss" if config.task.objective == "ccc" else "mse"
  assert line["train"]["loss"] == pytest.approx(line["train"][loss])
  assert "ccc" in line["validation"]


def test_evaluation_repeats_the_predictions(trained):
  config, folder, _ = trained
  with np.load(folder / "predictions.npz") as found:
    before = dict(found)
  assert before["scores"].shape == before["target"].shape
  experiment.evaluate(config, folder)
  with np.load(folder / "predictions.npz") as found:
    for name, values in before.items():
      np.testing.assert_array_equal(values, found[name])


def test_cells_of_a_trained_model(trained):
  config, folder, _ = trained
  found = cells.look(folder)
  assert len(found["correlations"]) == 2 * 4 * (1 + config.model.bidirectional)
  for kind in ("best", "untrained"):
    assert [row["feature"] for row in found[kind]] == list(FEATURES)
  assert found["best"] != found["untrained"]
  assert (folder / "figures" / "cells.png").stat().st_size
  assert found["recording"] in (folder / "cells.md").read_text()
  with pytest.raises(UserError, match="--recording=nobody is not in the test"):
    cells.look(folder, "nobody")


def test_cells_are_those_of_the_first_finished_run(
  synthetic_shards, tmp_path, monkeypatch
):
  config = small(synthetic_shards, "uni256,prosody")
  config.protocol.folds = (0, 1)
  config.parallel.runs = "vmap"
  train(config, tmp_path)
  first, second = sorted(tmp_path.glob("runs/*/predictions.npz"))
  hear, heads = cells.hear, []

  def spy(found, run, weights, *rest):
    heads.append(weights[0].params["head"]["kernel"])
    return hear(found, run, weights, *rest)

  monkeypatch.setattr(cells, "hear", spy)
  for path in (first, second):
    found = cells.look(tmp_path)
    assert found["run"] == path.parent.name
    with np.load(path) as predicted:
      assert found["speaker"] in predicted["speaker"]
    path.unlink()  # a run that diverged has none
  assert np.any(heads[0] != heads[1])
  with pytest.raises(UserError, match="has no finished run: train"):
    cells.look(tmp_path)


def test_cells_hear_nothing_from_other_shards(trained):
  """Statistics and parts would be of what the run was not trained on."""
  _, folder, _ = trained
  path = folder / workdir.DATA
  kept = path.read_text()
  path.write_text(json.dumps({**json.loads(kept), "digest": "other"}))
  with pytest.raises(UserError, match="digest"):
    cells.look(folder)
  path.write_text(kept)


def test_a_stream_of_a_trained_run_repeats_its_predictions(trained):
  config, folder, _ = trained
  if config.model.bidirectional:
    with pytest.raises(UserError, match="train the preset uni256"):
      streaming.from_workdir(folder)
    return
  name = next(folder.glob("runs/*")).name
  stream = streaming.from_workdir(folder, name)
  with pytest.raises(UserError, match="give Stream.start"):
    stream.start()
  shards = open_shards(config.data.shards)
  ids = shards.table.ids.tolist()
  with np.load(folder / "predictions.npz") as saved:
    offline = zip(
      *(saved[key] for key in ("utterance", "scores", "frames")), strict=True
    )
    for utterance, scores, count in list(offline)[:3]:
      samples = shards.read(ids.index(utterance))["waveform"]
      assert samples.dtype == np.int16 and samples.shape[1] == stream.samples
      state = stream.start(moments=window_moments([(0, samples)]))
      told = []
      for frame in range(0, len(samples), 4):
        last = frame + 4 >= len(samples)
        chunk = samples[None, frame : frame + 4]
        state, contours = stream.push(state, chunk, last=last)
        told.append(contours[0])
      whole = np.concatenate(told)[:count]
      np.testing.assert_allclose(whole, scores[:count], atol=1e-5)
      assert np.ptp(whole) > 1e-3


def test_a_stream_standardises_as_the_training_did(synthetic_shards, tmp_path):
  config = small(synthetic_shards, "uni256,prosody")
  config.data.inputs.waveform.normalize = "train"
  train(config, tmp_path)
  stream = streaming.from_workdir(tmp_path)
  shards = open_shards(config.data.shards)
  with np.load(tmp_path / "predictions.npz") as saved:
    utterance, scores, count = (
      saved[key][0] for key in ("utterance", "scores", "frames")
    )
  samples = shards.read(shards.table.ids.tolist().index(utterance))["waveform"]
  _, contours = stream.push(stream.start(), samples[None], last=True)
  np.testing.assert_allclose(
    contours[0, :count], scores[:count], rtol=1e-4, atol=1e-5
  )


def test_a_workdir_without_samples_has_no_stream(tmp_path):
  config = {"model": {"name": "lstm_regressor"}}
  (tmp_path / "config.json").write_text(json.dumps(config))
  with pytest.raises(UserError, match="'lstm_regressor', which hears no"):
    streaming.from_workdir(tmp_path)


def test_a_workdir_without_cells_is_refused(tmp_path):
  with pytest.raises(UserError, match="has no config.json"):
    cells.look(tmp_path)
  config = {"model": {"name": "lstm_regressor"}}
  (tmp_path / "config.json").write_text(json.dumps(config))
  with pytest.raises(UserError, match="name='lstm_regressor', which has no"):
    cells.look(tmp_path)
  config = {"model": {"name": "raw_waveform"}}
  (tmp_path / "config.json").write_text(json.dumps(config))
  with pytest.raises(UserError, match="config.json is of another version"):
    cells.look(tmp_path)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_cells_hear_what_the_model_was_trained_on(
  synthetic_shards, tmp_path, precision
):
  """What is standardised, how, and how precisely, is the config's to say."""
  config = small(synthetic_shards, "uni256,prosody")
  config.precision = precision
  plain = {"standardize": False, "normalize": "train"}
  config.data.inputs.waveform.update(plain)
  found = assembly.make_experiment(config, tmp_path)
  ((run,),) = found.groups
  state = runs.initial_state(found, found.stages[-1], [run])
  weights = jax.tree.map(lambda x: jnp.array(x[0]), state.weights)
  samples, heard = cells.hear(found, run, [weights], run.test[:1], "one")
  model = experiment.make_model(config, classes=2)
  outputs = model.apply(
    {"params": weights.params},
    {"waveform": jnp.array(samples)[None]},
    {"waveform": jnp.array([len(samples)])},
    train=False,
  )
  apart = np.abs(heard - outputs["cells"][0]).max()
  assert 1e-4 < apart < 0.02 if precision == "bfloat16" else apart < 1e-5


@pytest.mark.parametrize("preset", adieu.PRESETS)
def test_parameters_are_those_of_the_table(preset):
  config = adieu.get_config(preset)
  model = experiment.make_model(config, classes=2)
  shapes = jax.eval_shape(
    lambda: model.init(
      jax.random.key(0),
      {"waveform": jnp.zeros((1, 150, 640))},
      {"waveform": jnp.full(1, 150)},
      train=False,
    )
  )["params"]
  assert set(shapes) == {"front_end", "lstm_0", "lstm_1", "head"}
  count = sum(x.size for x in jax.tree.leaves(shapes))
  assert count == PARAMETERS[preset]
  assert count == pytest.approx(1e6 * MILLIONS[preset], abs=2e4)


@pytest.mark.parametrize(
  ("field", "value", "message"),
  [
    ("selection.metric", "uar", "not ccc"),
    ("task.name", "classify", "regress predicts contours"),
    ("model.dropout", 1.0, r"dropout=1.0 must lie in \[0, 1\)"),
    ("model.on_cpu.forms", ("direct", "slow"), "on_cpu: forms has 'slow'"),
    (
      "model.on_accelerator.forms",
      ("direct", "slow"),
      "on_accelerator: forms has 'slow'",
    ),
    ("model.pool_channels", 7, "multiple of"),
    ("model.layers", 0, "at least 1"),
  ],
)
def test_what_does_not_exist_is_refused(field, value, message):
  config = adieu.get_config()
  *path, last = field.split(".")
  section = config
  for name in path:
    section = section[name]
  section[last] = value
  with pytest.raises(UserError, match=message):
    experiment.check(config)


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"data.classes": ("arousal", "anger")}, "choose from arousal, valence"),
    ({"data.inputs.waveform.buckets": (10,)}, "frame of one length"),
    ({"data.inputs.waveform.resample": True}, "frame of one length"),
    ({"task.objective": "mae"}, "must be one of ccc, mse"),
    (
      {"task.objective": "mse", "task.per_sequence": True},
      "goes with ccc alone",
    ),
  ],
)
def test_what_cannot_be_trained_is_refused(
  synthetic_shards, tmp_path, changes, message
):
  config = small(synthetic_shards, "bi128")
  for field, value in changes.items():
    *path, last = field.split(".")
    section = config
    for name in path:
      section = section[name]
    section[last] = value
  with pytest.raises(UserError, match=message):
    train(config, tmp_path)


def test_words():
  assert adieu.get_config("emodb").data.features == "adieu_prosody"
  assert adieu.get_config("recola").protocol.name == "partition"
  assert adieu.get_config("recola,mse").paper.ccc_arousal == 0.684
  assert not adieu.get_config("recola,uni256").paper
  with pytest.raises(ValueError, match="emodb is not rated in time"):
    adieu.get_config("emodb,ratings")


def scores_of(workdir):
  with np.load(workdir / "predictions.npz") as found:
    return found["scores"]


def test_devices_and_stacked_runs_are_invisible(synthetic_shards, tmp_path):
  """One by one over two devices; in one program, streamed, on one."""
  for name, parallel, source in (
    ("loop", {"data": 2}, "resident"),
    ("stack", {"data": 1, "runs": "vmap"}, "stream"),
  ):
    config = small(synthetic_shards, "uni256,prosody", seeds=(0, 1))
    config.parallel.update(parallel)
    config.data.source = source
    train(config, tmp_path / name)
    np.testing.assert_allclose(
      scores_of(tmp_path / name), scores_of(tmp_path / "loop"), atol=5e-3
    )
