"""What a dataset says of its labels."""

import numpy as np
import pytest

from configs import common
from ser_jax.data import dataset
from ser_jax.errors import UserError
from tests import fakes


def make_config():
  """Of one input of `FakeShards`."""
  config = common.get_config()
  config.data.corpus, config.data.features = "fake", "fake"
  common.add_input(config, "frames")
  return config


def notes_of(emotions, **changes):
  shards = fakes.FakeShards()
  shards.table.emotions = np.resize(emotions, len(shards))
  config = make_config()
  for field, value in changes.items():
    config.data[field] = value
  return dataset.load_dataset(config, shards).protocol.notes


def test_a_merged_category_is_noted_where_it_occurs():
  every = ("angry", "excited", "happy", "neutral", "sad", "sad")
  note = "8 utterances labelled excited count as happy."
  assert note in notes_of(every)
  assert note not in notes_of(every, classes=("angry", "sad"))
  assert note not in notes_of(every, merge={})
  assert not any("excited" in note for note in notes_of(fakes.EMOTIONS))


def test_what_has_no_time_is_not_interpolated():
  shards, config = fakes.FakeShards(), make_config()
  config.data.inputs.frames.resample = True
  dataset.load_dataset(config, shards)
  shards.metadata["inputs"]["frames"]["frame_rate"] = None
  with pytest.raises(UserError, match="inputs.frames.resample=True interpol"):
    dataset.load_dataset(config, shards)
