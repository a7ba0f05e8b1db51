"""Whose statistics standardise an input, and samples of 16 bits."""

import jax
import numpy as np
import pytest

from ser_jax.batch import Batch
from ser_jax.data import statistics
from ser_jax.data.examples import Examples
from ser_jax.data.prepare import prepare
from ser_jax.data.protocols import Fold
from ser_jax.data.resident import Resident
from ser_jax.data.stream import Stream
from ser_jax.errors import UserError
from tests import fakes

SPEAKERS = ("a", "b", "c")
FOLD = Fold("one", np.arange(16), np.arange(16, 20), np.arange(20, 24))


def inputs(normalize, **changes):
  return {"frames": fakes.input_config(normalize=normalize, **changes)}


@pytest.fixture
def shards():
  return fakes.FakeShards(speakers=SPEAKERS, each=8)


@pytest.fixture
def recorded(shards):
  """The same frames, as samples of 16 bits."""
  shards.metadata["inputs"]["frames"]["dtype"] = "int16"
  for index in range(len(shards)):
    record = shards.read(index)
    record["frames"] = np.round(1000 * record["frames"]).astype(np.int16)
  return shards


def plans_of(shards, section):
  config = fakes.data_config(inputs=section)
  return statistics.make_plans(shards, config, (FOLD,), np.arange(24))


def examples_of(shards, plans):
  labels = np.zeros(24, np.int32)
  return Examples(
    shards,
    plans,
    {"emotion": labels},
    np.repeat(np.arange(3, dtype=np.int32), 8),
    np.arange(24),
  )


def prepared(source, item, frames, found, plans):
  """A batch as the compiled step makes it."""

  @jax.jit
  def make(constants, item, found):
    return prepare(source.gather(constants, item, frames), found, plans)

  return make(source.constants, item, found)


def everyone(shards, section):
  """All utterances as the model sees them; the last of a batch is filler."""
  plans = plans_of(shards, section)
  found = statistics.fold_statistics(shards, plans, FOLD)
  source = Resident(examples_of(shards, plans), fakes.whole)
  index = np.append(np.arange(24), 0)[None]
  weight = np.append(np.ones(24), 0)[None].astype(np.float32)
  ((frames, (position, weight)),) = source.items([(index, weight)])
  item = position[0], weight[0]
  return prepared(source, item, frames, found, plans)


def valid(batch: Batch, index):
  """Frames of an utterance; what lies past them is zero."""
  x, length = np.asarray(batch.inputs["frames"])[index], batch.lengths["frames"]
  assert not x[length[index] :].any()
  return x[: length[index]]


def test_each_speaker_has_unit_moments_test_speakers_included(shards):
  batch = everyone(shards, inputs("speaker"))
  for speaker in range(3):
    values = np.concatenate(
      [valid(batch, 8 * speaker + number) for number in range(8)]
    )
    np.testing.assert_allclose(values.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(values.std(0), 1, atol=1e-4)
  assert not valid(batch, 24).size


def test_utterances_have_unit_moments(shards):
  batch = everyone(shards, inputs("utterance"))
  for number in range(24):
    values = valid(batch, number)
    assert values.mean() == pytest.approx(0, abs=1e-5)
    assert values.std() == pytest.approx(1, abs=1e-4)
  assert np.isfinite(batch.inputs["frames"]).all()


def test_padding_does_not_move_an_utterance_s_moments(shards):
  plans = plans_of(shards, inputs("utterance"))
  found = statistics.fold_statistics(shards, plans, FOLD)
  source = Resident(examples_of(shards, plans), fakes.whole)
  item = np.array([3]), np.ones(1, np.float32)
  short, long = (
    prepared(source, item, (("frames", size),), found, plans)
    for size in (int(shards.table.frames["frames"][3]), 19)
  )
  np.testing.assert_allclose(valid(short, 0), valid(long, 0), rtol=1e-5)


def test_samples_keep_their_16_bits_until_a_step(recorded):
  section = inputs("train", standardize=False)
  plans = plans_of(recorded, section)
  found = statistics.fold_statistics(recorded, plans, FOLD)
  sources = (
    Resident(examples_of(recorded, plans), fakes.whole),
    Stream(examples_of(recorded, plans), fakes.whole),
  )
  row = np.array([[5, 9, 0]]), np.array([[1, 1, 0]], np.float32)
  batches = []
  for source in sources:
    ((frames, item),) = source.items([row])
    item = jax.tree.map(lambda x: x[0], item)
    raw = source.gather(source.constants, item, frames)
    assert raw.inputs["frames"].dtype == np.int16
    batches.append(prepared(source, item, frames, found, plans))
  for place, index in enumerate((5, 9)):
    wanted = recorded.read(index)["frames"] / np.float32(32768)
    for batch in batches:
      np.testing.assert_array_equal(valid(batch, place), wanted)


def test_statistics_of_samples_are_of_floats(recorded):
  plans = plans_of(recorded, inputs("train"))
  found = statistics.fold_statistics(recorded, plans, FOLD)
  frames = np.concatenate([recorded.read(i)["frames"] for i in FOLD.train])
  np.testing.assert_allclose(
    found.mean["frames"], frames.mean(0) / 32768, rtol=1e-4
  )


@pytest.mark.parametrize(
  ("section", "message"),
  [
    (inputs("corpus"), "choose from train, speaker, recording"),
    (inputs("speaker", standardize=False), "needs standardize=True"),
    (inputs("speaker", resample=True), "resample=False"),
  ],
)
def test_normalisations_that_do_not_exist_are_refused(shards, section, message):
  with pytest.raises(UserError, match=message):
    plans_of(shards, section)
