"""Every feature set keeps what its inputs promise."""

import dataclasses
import importlib.util
import json

import numpy as np
import pytest

from ser_jax.errors import UserError
from ser_jax.features import audio
from ser_jax.features.sets import FEATURE_SETS, require_unchanged

NEEDS = dict.fromkeys(
  ("ds_lstm_opensmile", "egemaps", "is10_functionals")
  + ("is13_functionals", "is13_lld", "dcaen")
  + ("egemaps_windows", "egemaps_windows_prosody")
  + ("compare_lld_windows", "compare_lld_windows_prosody"),
  "opensmile",
)
EVERY_SET = pytest.mark.parametrize("name", sorted(FEATURE_SETS))


def needed(name):
  # Not imported here: after TensorFlow, `features.opensmile` must do it first.
  if name in NEEDS and importlib.util.find_spec(NEEDS[name]) is None:
    pytest.skip(f"{NEEDS[name]} is not installed")
  return FEATURE_SETS[name]


def noise(samples):
  rng = np.random.default_rng(0)
  return rng.normal(0, 0.1, samples).astype(np.float32)


def assert_kept(feature_set, features):
  assert set(features) == set(feature_set.computed)
  for name, spec in feature_set.computed.items():
    values = features[name]
    axes = 1 if spec.frame_rate is None else 2
    assert values.dtype == spec.dtype and values.ndim == axes
    assert values.shape[-1] == spec.dim and values.size
    assert np.isfinite(values).all()


@EVERY_SET
def test_promises_hold_on_real_speech(corpora, name):
  feature_set = needed(name)
  samples, rate = audio.load(corpora / "emodb" / "03a01Fa.flac")
  assert_kept(feature_set, feature_set.extract(samples, rate))


@EVERY_SET
def test_frame_rates_are_true(name):
  feature_set = needed(name)
  rate = feature_set.rate
  short, long = (
    feature_set.extract(noise(seconds * rate), rate) for seconds in (2, 6)
  )
  for input_name, spec in feature_set.computed.items():
    if spec.frame_rate is not None:
      more = len(long[input_name]) - len(short[input_name])
      assert abs(more - 4 * spec.frame_rate) <= 1


@EVERY_SET
def test_names_and_recipes_are_plain(name):
  feature_set = FEATURE_SETS[name]
  assert feature_set.name == name
  recipe = dict(feature_set.recipe)
  assert json.loads(json.dumps(recipe)) == recipe
  assert recipe["rate"] == feature_set.rate
  with pytest.raises(dataclasses.FrozenInstanceError):
    feature_set.name = "other"


@pytest.mark.parametrize("targets", ["", "_prosody"])
@pytest.mark.parametrize("by", ["egemaps", "compare_lld"])
def test_recipes_tell_the_context(by, targets):
  """So that shards of excerpts that were heard alone are refused."""
  feature_set = FEATURE_SETS[f"{by}_windows{targets}"]
  # Half a window, and what the descriptors need.
  assert feature_set.context >= 1.75
  assert feature_set.recipe[by]["context"] == feature_set.context
  made = json.loads(json.dumps(dict(feature_set.recipe)))
  del made[by]["context"]
  with pytest.raises(UserError, match="made otherwise"):
    require_unchanged(feature_set.name, made, source="shards")


def test_recipes_tell_the_sets_apart():
  recipes = [json.dumps(dict(s.recipe)) for s in FEATURE_SETS.values()]
  assert len(set(recipes)) == len(recipes)


@EVERY_SET
def test_the_same_audio_gives_the_same_bits(name):
  feature_set = needed(name)
  samples = noise(feature_set.rate)
  before = samples.copy()
  one, two = (feature_set.extract(samples, feature_set.rate) for _ in range(2))
  for input_name in one:
    np.testing.assert_array_equal(one[input_name], two[input_name])
  np.testing.assert_array_equal(samples, before)


@EVERY_SET
def test_shortest_audio_works_and_one_sample_less_is_refused(name):
  feature_set = needed(name)
  samples = noise(feature_set.least)
  assert_kept(feature_set, feature_set.extract(samples, feature_set.rate))
  with pytest.raises(UserError, match=f"{name} needs at least"):
    feature_set.extract(samples[1:], feature_set.rate)


@EVERY_SET
@pytest.mark.parametrize(
  ("samples", "message"),
  [
    (np.zeros(0, np.float32), "is empty"),
    (np.zeros(16000, np.float32), "is silent"),
    (np.full(16000, np.nan, np.float32), "NaN or infinite"),
  ],
)
def test_bad_audio_is_refused(name, samples, message):
  with pytest.raises(UserError, match=message):
    FEATURE_SETS[name].extract(samples, FEATURE_SETS[name].rate)


@EVERY_SET
def test_padding_makes_equal_lengths(name):
  feature_set = needed(name)
  wanted = 2 * feature_set.rate
  shapes = set()
  for samples in (wanted // 2, wanted - 7, wanted):
    features = feature_set.extract(
      noise(samples), feature_set.rate, pad_to=wanted
    )
    assert_kept(feature_set, features)
    shapes.add(tuple(sorted((k, v.shape) for k, v in features.items())))
  assert len(shapes) == 1


@EVERY_SET
def test_audio_longer_than_the_padding_is_whole(name):
  feature_set = needed(name)
  samples = noise(2 * feature_set.rate)
  whole = feature_set.extract(samples, feature_set.rate)
  padded = feature_set.extract(
    samples, feature_set.rate, pad_to=feature_set.rate
  )
  for input_name in whole:
    np.testing.assert_array_equal(whole[input_name], padded[input_name])


def test_other_rates_are_resampled_first():
  feature_set = FEATURE_SETS["ds_lstm"]
  samples = noise(48000)
  direct = feature_set.extract(audio.resample(samples, 48000, 16000), 16000)
  for name, values in feature_set.extract(samples, 48000).items():
    np.testing.assert_array_equal(values, direct[name])
