"""What values of a config are refused before anything is computed."""

import logging
import math
import pathlib
import types

import pytest

from configs import aae, adieu, dat, dcaen, ds_lstm
from ser_jax import assembly, experiment
from ser_jax.errors import UserError
from ser_jax.train import loop


def changed(config, field, value):
  """The config with a field set as a command line or a table sets it."""
  *path, last = field.split(".")
  section = config
  for name in path:
    section = section[name]
  section[last] = value
  return config


@pytest.mark.parametrize(
  ("field", "value", "message"),
  [
    ("epochs", 10**10, "at most 1000000000"),
    ("seeds", (2**32,), "at most 4294967295"),
    ("seeds", (0, -1), "at least 0"),
    ("seeds", (0.5,), "has 0.5, which is no whole number"),
    ("seeds", (0, "a"), "has 'a', which is no whole number"),
    ("seeds", (True,), "has True, which is no whole number"),
    ("protocol.seed", -1, "at least 0"),
    ("optimizer.learning_rate", 0.0, "above 0"),
    ("optimizer.learning_rate", -0.1, "above 0"),
    ("optimizer.learning_rate", math.nan, "above 0"),
    ("optimizer.learning_rates", (1e-3, math.inf), "above 0"),
    ("optimizer.learning_rates", ("a",), "has 'a', which is no number"),
    ("optimizer.clip_norm", -1.0, "at least 0"),
    ("optimizer.clip_norm", math.nan, "at least 0"),
    ("data.max_frames", -1, "at least 0"),
    ("data.speeds", ("a",), "has 'a', which is no number"),
    ("data.speeds", (0.0,), "above 0"),
    ("data.inputs.mfcc.buckets", ("a",), "has 'a', which is no whole number"),
    ("data.inputs.mfcc.buckets", (0,), "at least 1"),
    ("data.classes", ("angry",), "2 or more different words"),
    ("data.classes", ("angry", "sad", "angry"), "2 or more different words"),
    ("data.classes", (1, 2), "2 or more different words"),
    ("task.label_smoothing", 1.0, r"lie in \[0, 1\)"),
    ("task.label_smoothing", -3.0, r"lie in \[0, 1\)"),
    ("checkpoint.every_epochs", 0, "at least 1"),
    ("selection.patience", -1, "at least 0"),
    ("parallel.run", 0, "at least 1"),
    ("parallel.data", -1, "at least 0"),
    ("model.hidden", 0, "at least 1"),
    ("model.channels", (64, 0), "at least 1"),
    ("augment.noise", math.nan, "nan must be finite"),
    ("analysis.seconds", 0.0, "above 0"),
    ("analysis.seconds", math.nan, "above 0"),
  ],
)
def test_a_value_out_of_range_is_refused(field, value, message):
  config = changed(ds_lstm.get_config(), field, value)
  with pytest.raises(UserError, match=f"^config.{field}.*{message}"):
    experiment.check(config)


@pytest.mark.parametrize(
  ("make", "field", "value", "message"),
  [
    (dat.get_config, "model.conv_dropout", 1.0, r"lie in \[0, 1\)"),
    (dat.get_config, "model.head_dropout", -0.1, r"lie in \[0, 1\)"),
    (dat.get_config, "model.head", 0, "at least 1"),
    (dcaen.get_config, "model.dropout", math.nan, r"lie in \[0, 1\)"),
    (dcaen.get_config, "model.embedding", 0, "at least 1"),
    (adieu.get_config, "data.classes", ("f0", "f0"), "1 or more different"),
  ],
)
def test_so_are_those_of_one_system(make, field, value, message):
  with pytest.raises(UserError, match=f"^config.{field}.*{message}"):
    experiment.check(changed(make(), field, value))


@pytest.mark.parametrize(
  ("make", "field", "value"),
  [
    (ds_lstm.get_config, "optimizer.clip_norm", 0.0),  # none
    (ds_lstm.get_config, "optimizer.learning_rates", (1, 0.1)),
    (ds_lstm.get_config, "seeds", (2**32 - 1,)),
    (dat.get_config, "model.head_dropout", 0.0),
    (adieu.get_config, "data.classes", ("arousal",)),
  ],
)
def test_the_ends_of_ranges_are_accepted(make, field, value):
  experiment.check(changed(make(), field, value))


def test_shards_that_are_not_finished_are_told_as_such(tmp_path):
  config = ds_lstm.get_config("emodb")
  config.data.shards = str(tmp_path / "emodb")
  with pytest.raises(UserError, match="^no shards at"):
    assembly.ensure_shards(config)
  (tmp_path / "emodb.partial").mkdir()
  with pytest.raises(UserError, match="^only unfinished shards at .*to build"):
    assembly.ensure_shards(config)


def test_noise_on_functionals_is_refused():
  config = changed(aae.get_config("utt_base"), "augment.noise", 0.1)
  with pytest.raises(UserError, match=r"inputs \(functionals\) is"):
    experiment.check(config)
  experiment.check(changed(aae.get_config("fr_base"), "augment.noise", 0.1))


def test_a_feature_set_that_does_not_exist_is_refused():
  config = changed(ds_lstm.get_config(), "data.features", "ds_lsmt")
  with pytest.raises(UserError, match="'ds_lsmt' is unknown: did you mean ds_"):
    experiment.check(config)


def test_inputs_are_cut_at_one_moment():
  config = changed(ds_lstm.get_config("dual"), "data.max_frames", 100)
  with pytest.raises(
    UserError, match="^config.data.max_frames=100.* s1, s2.*every utterance"
  ):
    experiment.check(config)
  for plan in config.data.inputs.values():
    plan.resample = False
  with pytest.raises(UserError, match="mfcc, s1, s2.*not as long. Set it to 0"):
    experiment.check(config)
  del config.data.inputs["mfcc"], config.data.inputs["s2"]
  experiment.check(config)


def test_what_diverged_is_told_once(monkeypatch, tmp_path, caplog):
  """Groups before the last are logged when they end; the last is the error."""
  config = ds_lstm.get_config()
  pairs = [(types.SimpleNamespace(name=name),) for name in ("one", "two")]
  made, found = (
    [],
    types.SimpleNamespace(
      config=config, workdir=tmp_path, dataset=None, groups=tuple(pairs)
    ),
  )

  def diverge(_, engines, group, *rest):
    raise loop.Diverged(f"{group[0].name} diverged.")

  for module, name, value in (
    (experiment, "_open", lambda *_: [found]),
    (experiment.runs, "make_engines", lambda _: made.append(0) or [None]),
    (experiment.runs, "train_group", diverge),
    (experiment.predictions, "file_of", lambda w, r: pathlib.Path(w, "none")),
    (experiment.groups, "name", lambda group: group[0].name),
  ):
    monkeypatch.setattr(module, name, value)
  for _ in range(2):  # the second time nothing is trained
    caplog.clear()
    with (
      caplog.at_level(logging.ERROR),
      pytest.raises(loop.Diverged, match="^two diverged"),
    ):
      experiment.train(config, tmp_path, should_stop=lambda: False)
    (record,) = caplog.records
    assert record.getMessage().startswith("one diverged")
  assert len(made) == 1
