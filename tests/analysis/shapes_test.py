"""Corpora without data have the shapes of those with data."""

import numpy as np
import pytest

from configs import common, ds_lstm
from ser_jax.analysis.shapes import CORPORA, blank_shards, utterance_frames
from ser_jax.data.dataset import load_dataset
from ser_jax.data.labels import CHOICES, LEVELS
from ser_jax.errors import UserError
from ser_jax.features.sets import FEATURE_SETS
from tests.fakes import FakeShards


def config_of(corpus="iemocap", protocol=None, **analysis):
  config = ds_lstm.get_config(f"dual,{corpus}")
  config.data.shards = "nowhere"
  config.protocol.name = protocol or config.protocol.name
  config.analysis.update(analysis)
  return config


def test_every_corpus_of_the_configs_is_known():
  assert set(CORPORA) == set(common.CORPORA)


@pytest.mark.parametrize("protocol", [None, "random", "speaker_folds"])
@pytest.mark.parametrize("corpus", CORPORA)
def test_every_protocol_has_its_folds(corpus, protocol):
  config = config_of(corpus, protocol)
  dataset = load_dataset(config, blank_shards(config))
  count, speakers, _ = CORPORA[corpus]
  assert len(dataset.examples.keep) == count
  assert len(set(dataset.shards.table.speakers)) == speakers
  for fold in dataset.protocol.folds:
    labels = dataset.labels[fold.train]
    assert set(labels) == set(range(len(config.data.classes)))


@pytest.mark.parametrize("binning", CHOICES)
def test_an_attribute_has_all_its_levels(binning):
  config = config_of("emodb")
  config.data.update(
    {"target": "activation", "binning": binning, "classes": LEVELS}
  )
  dataset = load_dataset(config, blank_shards(config))
  assert set(dataset.labels[dataset.examples.keep]) == {0, 1, 2}


def test_a_fixed_protocol_names_its_speakers():
  config = config_of(protocol="fixed")
  config.protocol.update(
    {"train": ("a", "b"), "validation": ("c",), "test": ("d",)}
  )
  (fold,) = load_dataset(config, blank_shards(config)).protocol.folds
  speakers = blank_shards(config).table.speakers
  assert set(speakers[fold.train]) == {"a", "b"}
  assert set(speakers[fold.test]) == {"d"}


@pytest.mark.parametrize("name", FEATURE_SETS)
def test_records_look_like_the_feature_set_s(name):
  config = config_of()
  config.data.features = name
  blank = blank_shards(config)
  for input_name, values in blank.read(0).items():
    spec = FEATURE_SETS[name].inputs[input_name]
    wanted = (spec.dim,) if spec.frame_rate is None else (1, spec.dim)
    assert values.shape == wanted


def test_lengths_are_seconds_or_frames():
  inputs = {
    "mfcc": {"frame_rate": 100.0},
    "s1": {"frame_rate": 125.0},
    "egemaps": {"frame_rate": None},
  }
  config = config_of(seconds=3.0, frames="s1=40").analysis
  assert utterance_frames(config, inputs) == {
    "mfcc": 300,
    "s1": 40,
    "egemaps": 1,
  }


@pytest.mark.parametrize(
  ("frames", "message"),
  [("s9=40", "names s9"), ("s1=0", "whole numbers"), ("s1", "cannot be read")],
)
def test_lengths_that_make_no_sense_are_refused(frames, message):
  with pytest.raises(UserError, match=message):
    blank_shards(config_of(frames=frames))


def test_a_corpus_of_unknown_size_is_refused():
  config = config_of()
  config.data.corpus = "unheard_of"
  with pytest.raises(UserError, match="config.data.corpus='unheard_of'"):
    blank_shards(config)


def test_shards_give_their_lengths_but_no_record(monkeypatch, tmp_path):
  fake = FakeShards(corpus="synthetic")
  monkeypatch.setattr(fake, "read", None)
  monkeypatch.setattr(
    "ser_jax.analysis.shapes.open_shards", lambda folder: fake
  )
  config = config_of()
  config.data.shards = str(tmp_path)
  blank = blank_shards(config)
  np.testing.assert_array_equal(
    blank.table.frames["frames"], fake.table.frames["frames"]
  )
  assert blank.read(5)["spectrum"].shape == (1, 4)
  config.analysis.frames = "frames=7"
  with pytest.raises(UserError, match="for a corpus without shards; those at"):
    blank_shards(config)
