"""What a recipe says of its shards, and how features are brought to shape."""

import types

import numpy as np
import pytest

from ser_jax import inference
from ser_jax.data.prepare import prepare
from ser_jax.data.statistics import InputPlan, Statistics
from ser_jax.demo import predictor

PLAN = {"resample": False, "standardize": True, "buckets": ()}


def dataset(durations, *, contours=None, **metadata):
  """Utterances of one input, frames of 40 ms, of which 150 are kept."""
  count = len(durations)
  table = types.SimpleNamespace(
    duration=np.array(durations),
    speakers=np.array(["a"] * count),
    genders=np.array(["female"] * count),
  )
  spec = {"dim": 640, "frame_rate": 25.0, "dtype": "int16"}
  known = {"inputs": {"waveform": spec}, "rate": 16000, "skipped": {}}
  known |= {"recipe": {}, "pad_to": None}
  frames = min(150, int(np.ceil(np.round(25 * max(durations), 6))))
  plan = InputPlan(frames, frames, **PLAN)
  return types.SimpleNamespace(
    shards=types.SimpleNamespace(
      metadata=known | metadata, table=table, path="here"
    ),
    examples=types.SimpleNamespace(
      plans={"waveform": plan}, keep=np.arange(count)
    ),
    classes=("x",),
    protocol=types.SimpleNamespace(chosen=()),
    count_speakers=lambda config: 2,
    contours=contours,
  )


def recipe_of(*arguments, **options):
  data = types.SimpleNamespace(corpus="c", features="waveform_6s")
  config = types.SimpleNamespace(system="s", variant="", data=data)
  return inference.make_recipe(config, dataset(*arguments, **options))


def test_audio_is_padded_as_the_shards_were():
  """Longer than any that is left: the longest recording was skipped."""
  assert recipe_of([1.0, 2.0], pad_to=160000).pad_to == 160000


def test_the_longest_utterance_is_whole_whatever_an_input_keeps():
  assert recipe_of([1.0, 8.97825]).longest == 8.97825
  contours = types.SimpleNamespace(rate=25.0)
  assert recipe_of([8.97825], contours=contours).longest == 6.0
  # A last frame that has begun is a frame.
  assert recipe_of([3.77], contours=contours).longest == pytest.approx(3.8)


def test_samples_are_counted_whole():
  for rate in (8000, 16000, 22050, 44100, 48000):
    for samples in range(143600, 143700):
      assert inference.samples_in(samples / rate, rate) == samples
  assert inference.samples_in(1.00001, 16000) == 16001


def test_samples_standardised_by_speaker_stay_fractions():
  """As in training, where integers are made fractions first."""
  recipe = recipe_of([1.0])
  recipe.plans["waveform"]["normalize"] = "speaker"
  generator = np.random.default_rng(0)
  examples = [
    {"waveform": generator.integers(-900, 900, (25, 640)).astype(np.int16)}
    for _ in range(inference.LEAST_OF_SPEAKER)
  ]
  changed = inference.standardize_speaker(recipe, examples)
  inputs, lengths = inference.pack(recipe, changed, len(changed))
  batch = predictor.make_batch(inputs, lengths)
  statistics = Statistics({}, {}, {}, speaker_class=np.zeros(1, np.int32))
  plans = predictor.device_plans(recipe)
  x = np.asarray(prepare(batch, statistics, plans).inputs["waveform"])
  assert abs(x.mean()) < 1e-5 and x.std() == pytest.approx(1.0, abs=1e-4)
  np.testing.assert_allclose(x[0], changed[0]["waveform"], atol=1e-6)


@pytest.mark.parametrize("value", [10.0**power / 3 for power in range(6, 14)])
def test_what_is_constant_of_a_speaker_is_zero_whatever_its_size(value):
  recipe = recipe_of([1.0])
  recipe.plans["waveform"]["normalize"] = "speaker"
  examples = [{"waveform": np.float32([[value]])}] * 7
  for example in inference.standardize_speaker(recipe, examples):
    assert abs(example["waveform"]) < 1e-6
