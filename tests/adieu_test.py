"""Every preset of the raw-waveform system takes real steps from real audio."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import adieu
from ser_jax import experiment
from ser_jax.errors import UserError

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
      "forms": ("direct", "direct"),
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


@pytest.mark.parametrize("words", ["bi128,ccc", "uni256,mse,prosody"])
def test_contours_are_predicted_and_reported(synthetic_shards, tmp_path, words):
  config = small(synthetic_shards, words)
  report = train(config, tmp_path)
  names = list(config.data.classes)
  for name in names:
    assert -1 <= report["summary"][f"ccc_{name}"]["mean"] <= 1
    assert report["runs"][0][f"rmse_{name}"] > 0
  text = (tmp_path / "report.md").read_text()
  assert all(f"CCC {name}" in text for name in names)
  for figure in ("contours", "runs", "learning_curves"):
    assert (tmp_path / "figures" / f"{figure}.png").stat().st_size
  line = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[0])
  loss = line["train"]["ccc_loss" if "ccc" in words else "mse"]
  assert line["train"]["loss"] == pytest.approx(loss)
  assert "ccc" in line["validation"]


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


def test_evaluation_repeats_the_predictions(synthetic_shards, tmp_path):
  config = small(synthetic_shards, "bi128")
  train(config, tmp_path)
  with np.load(tmp_path / "predictions.npz") as found:
    before = dict(found)
  experiment.evaluate(config, tmp_path)
  with np.load(tmp_path / "predictions.npz") as found:
    for name, values in before.items():
      np.testing.assert_array_equal(values, found[name])
  assert before["scores"].ndim == before["target"].ndim == 3


@pytest.mark.parametrize(
  ("field", "value", "message"),
  [
    ("selection.metric", "uar", "not ccc"),
    ("task.name", "classify", "regress predicts contours"),
    ("model.dropout", 1.0, r"dropout=1.0 must lie in \[0, 1\)"),
    ("model.forms", ("direct", "slow"), "forms has 'slow'"),
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
