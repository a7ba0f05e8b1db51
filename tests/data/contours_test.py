"""Targets in time: read whole, standardised by the training part."""

import types

import jax
import numpy as np
import pytest

from ser_jax.data import dataset as datasets
from ser_jax.data.contours import read_contours
from ser_jax.data.prepare import prepare
from ser_jax.data.recordings import start_of
from ser_jax.data.statistics import recording_moments
from ser_jax.errors import UserError
from tests import fakes

NAMES = ("loudness", "f0")


@pytest.fixture
def shards():
  """The fake corpus, with contours as long as its frames."""
  found = fakes.FakeShards()
  generator = np.random.default_rng(1)
  found.table.frames = {"frames": found.table.frames["frames"]}
  found.table.frames["contours"] = found.table.frames["frames"]
  found.metadata["inputs"]["contours"] = {
    "dim": 2, "frame_rate": 25.0, "names": list(NAMES),
  }  # fmt: skip
  for index in range(len(found)):
    length = found.table.frames["frames"][index]
    found._records[index]["contours"] = generator.normal(
      (index, 100.0), (1.0, 5.0), (length, 2)
    ).astype(np.float32)
  return found


def config_of(**changes):
  data = fakes.data_config(
    corpus="fake", features="fake", target="contours", classes=NAMES
  )
  data.inputs = {"frames": fakes.input_config(normalize="utterance")}
  vars(data).update(changes)
  # As a ConfigDict: attributes, and names that may be asked for.
  section = type("Data", (dict,), {"__getattr__": dict.__getitem__})
  return types.SimpleNamespace(
    data=section(vars(data)),
    protocol=fakes.protocol_config("leave_two_speakers_out"),
  )


def test_columns_are_those_asked_for(shards):
  both = read_contours(shards, NAMES, ["frames"], 0)
  swapped = read_contours(shards, NAMES[::-1], ["frames"], 0)
  np.testing.assert_array_equal(both.values, swapped.values[..., ::-1])
  cut = read_contours(shards, NAMES, ["frames"], 7)
  np.testing.assert_array_equal(cut.values, both.values[:, :7])
  assert cut.frames.max() == 7 and both.rate == 25.0
  for index, length in enumerate(both.frames):
    assert not both.values[index, length:].any()


def test_moments_are_of_the_training_part_s_valid_frames(shards):
  found = datasets.load_dataset(config_of(), shards)
  for fold in found.protocol.folds:
    each = [shards.read(i)["contours"] for i in fold.train]
    wanted = np.concatenate(each).astype(np.float64)
    statistics = datasets.fold_statistics(found, fold)
    np.testing.assert_allclose(
      statistics.mean["contours"], wanted.mean(axis=0), rtol=1e-5
    )
    np.testing.assert_allclose(
      statistics.deviation["contours"], wanted.std(axis=0), rtol=1e-5
    )


def batch_of(found, index):
  """What a model sees of some utterances."""
  fold = found.protocol.folds[0]
  source = datasets.make_source("resident", found.examples, lambda row: row)
  weight = np.ones((1, len(index)), np.float32)
  row = index[None].astype(np.int32), weight
  frames, item = next(iter(source.items([row])))

  @jax.jit
  def make(constants, item, statistics):
    batch = source.gather(constants, item, frames)
    return prepare(batch, statistics, found.examples.plans)

  item = tuple(x[0] for x in item)
  return make(source.constants, item, datasets.fold_statistics(found, fold))


def test_batches_have_standardised_contours(shards):
  found = datasets.load_dataset(config_of(), shards)
  fold = found.protocol.folds[0]
  statistics = datasets.fold_statistics(found, fold)
  batch = batch_of(found, fold.train[:4])
  for number, index in enumerate(fold.train[:4]):
    wanted = shards.read(index)["contours"]
    assert batch.targets["frames"][number] == len(wanted)
    np.testing.assert_allclose(
      batch.targets["contours"][number, : len(wanted)],
      (wanted - statistics.mean["contours"]) / statistics.deviation["contours"],
      atol=1e-4,
    )
  assert set(batch.inputs) == {"frames"}


def windowed(shards):
  """Each speaker's utterances become windows of 10 frames, 5 apart."""
  draw = np.random.default_rng(2)
  whole = draw.normal(3.0, 2.0, (6, 45, 3)).astype(np.float32)
  for index in range(len(shards)):
    start = 5 * (index % 8)
    shards.table.ids[index] = f"r{index // 8}@{start / 25:07.2f}"[:16]
    record = shards._records[index]
    record["frames"] = whole[index // 8, start : start + 10]
    record["contours"] = record["frames"][:, :2]
  shards.table.frames = dict.fromkeys(
    ("frames", "contours"), np.full(len(shards), 10)
  )
  return whole


def test_windows_are_standardised_by_their_recording(shards):
  shards.table.ids = shards.table.ids.astype("<U16")
  assert recording_moments(shards, "frames") is None
  whole = windowed(shards)
  assert start_of(str(shards.table.ids[3]), 100.0) == 60
  config = config_of()
  config.data["inputs"]["frames"].normalize = "recording"
  shards.metadata["inputs"]["frames"]["frame_rate"] = 25.0
  found = datasets.load_dataset(config, shards)
  moments = found.examples.targets["frames_moments"]
  np.testing.assert_allclose(
    moments[::8, 0], whole.mean(axis=(1, 2)), rtol=1e-5
  )
  np.testing.assert_allclose(moments[::8, 1], whole.std(axis=(1, 2)), rtol=1e-5)
  batch = batch_of(found, np.array([9, 17]))
  for row, index in enumerate((9, 17)):
    mean, deviation = moments[index]
    np.testing.assert_allclose(
      batch.inputs["frames"][row],
      (shards.read(index)["frames"] - mean) / deviation,
      atol=1e-5,
    )


def test_contours_that_cannot_serve_are_refused(shards):
  with pytest.raises(UserError, match="choose from loudness, f0"):
    read_contours(shards, ("anger",), ["frames"], 0)
  shards._records[3]["contours"][1, 0] = np.nan
  with pytest.raises(UserError, match="u003 has contours that are not finite"):
    read_contours(shards, NAMES, ["frames"], 0)
  shards.table.frames["contours"] = shards.table.frames["frames"] + 1
  with pytest.raises(UserError, match="u000 has .* they must be equal"):
    read_contours(shards, NAMES, ["frames"], 0)
  del shards.metadata["inputs"]["contours"]
  with pytest.raises(UserError, match="have none"):
    read_contours(shards, NAMES, ["frames"], 0)


def test_lengths_must_be_one(shards):
  config = config_of()
  config.data["inputs"]["frames"].buckets = (8,)
  with pytest.raises(UserError, match="contours need every frame"):
    datasets.load_dataset(config, shards)
