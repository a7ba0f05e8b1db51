"""Copies at other speeds: in training parts alone, beside their originals."""

import subprocess

import numpy as np
import pytest

from configs import common, dat
from ser_jax import assembly
from ser_jax.data import dataset
from ser_jax.errors import UserError
from tests import fakes


def with_copies(*speeds):
  """Fake shards, each utterance again at every speed."""
  shards = fakes.FakeShards()
  table, count = shards.table, len(shards)
  names = [f.name for f in table.__dataclass_fields__.values()]
  for name in set(names) - {"corpus", "frames"}:
    setattr(table, name, np.tile(getattr(table, name), 1 + len(speeds)))
  table.frames = {
    name: np.tile(x, 1 + len(speeds)) for name, x in table.frames.items()
  }
  table.speeds = np.repeat([1.0, *speeds], count)
  marks = np.repeat(["", *(f"~{speed:g}" for speed in speeds)], count)
  table.ids = np.char.add(table.ids, marks)
  table.speakers = np.char.add(table.speakers, marks)
  shards._records = shards._records * (1 + len(speeds))
  return shards


def load(shards, speeds=(), protocol="leave_two_speakers_out", **changes):
  config = common.get_config()
  config.data.corpus, config.data.features = "fake", "fake"
  common.add_input(config, "frames")
  config.data.speeds, config.protocol.name = speeds, protocol
  with config.data.unlocked():
    for field, value in changes.items():
      config.data[field] = value
  return dataset.load_dataset(config, shards)


PROTOCOLS = (
  *("leave_two_speakers_out", "leave_one_session_out", "random"),
  *("leave_one_pair_out", "speaker_folds"),
)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_copies_train_beside_their_originals_and_do_nothing_else(protocol):
  shards = with_copies(0.9, 1.1)
  table = shards.table
  plain = load(fakes.FakeShards(), protocol=protocol).protocol
  found = load(shards, (0.9, 1.1), protocol=protocol).protocol
  for alone, fold in zip(plain.folds, found.folds, strict=True):
    for side in ("validation", "test"):
      np.testing.assert_array_equal(getattr(fold, side), getattr(alone, side))
    assert len(fold.train) == 3 * len(alone.train)
    assert set(table.origins[fold.train]) == set(alone.train)
    held = np.concatenate([alone.validation, alone.test])
    assert not set(table.origins[fold.train]) & set(held)
  assert "Training parts have copies played 0.9 and 1.1" in found.notes[-1]


def test_some_speeds_can_be_left_out():
  shards = with_copies(0.9, 1.1)
  plain = load(fakes.FakeShards()).protocol
  none, some = load(shards), load(shards, (1.1,))
  for alone, fold, more in zip(
    plain.folds, none.protocol.folds, some.protocol.folds, strict=True
  ):
    np.testing.assert_array_equal(fold.train, alone.train)
    assert set(shards.table.speeds[more.train]) == {1.0, 1.1}
  assert none.protocol.notes == plain.notes
  assert len(some.examples.keep) == 2 * len(none.examples.keep)


def test_a_copy_has_a_label_where_its_original_has():
  shards = with_copies(0.9)
  seen = load(shards, (0.9,), labelled_fraction=0.75).examples.targets
  np.testing.assert_array_equal(
    seen["labelled"], seen["labelled"][shards.table.origins]
  )
  alone = load(fakes.FakeShards(), labelled_fraction=0.75).examples.targets
  count = len(alone["labelled"])
  np.testing.assert_array_equal(seen["labelled"][:count], alone["labelled"])


def test_a_speed_that_is_not_there_is_told():
  with pytest.raises(
    UserError, match="has 1.2, a speed.*it has: 0.9.*--speeds"
  ):
    load(with_copies(0.9), (1.2,))
  with pytest.raises(UserError, match="it has: none"):
    load(fakes.FakeShards(), (0.9,))


def test_shards_with_copies_have_a_folder_of_their_own():
  config = common.get_config().data
  config.corpus, config.features = "emodb", "egemaps"
  assert str(dataset.shard_folder(config)) == "shards/emodb-egemaps"
  config.speeds = (0.95, 1.05)
  assert str(dataset.shard_folder(config)) == "shards/emodb-egemaps-0.95-1.05"


@pytest.mark.parametrize("words, speeds", [("best", True), ("depth1", False)])
def test_missing_shards_are_built_with_the_copies_of_the_config(
  monkeypatch, tmp_path, words, speeds
):
  config = dat.get_config(f"{words},emodb")
  config.data.raw = str(tmp_path)
  monkeypatch.chdir(tmp_path)
  called = []

  def run(command):
    called.append(command)
    return subprocess.CompletedProcess(command, 1)

  monkeypatch.setattr(subprocess, "run", run)
  with pytest.raises(UserError, match="building the shards .* failed"):
    assembly.ensure_shards(config)
  assert ("--speeds=0.95,1.05" in called[0]) == speeds
  assert f"--out={dataset.shard_folder(config.data)}" in called[0]
  config.data.raw = ""
  with pytest.raises(UserError) as told:
    assembly.ensure_shards(config)
  assert ("--speeds=0.95,1.05 --raw=DIR" in str(told.value)) == speeds
