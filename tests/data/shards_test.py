"""Folders of shards that are valid JSON, and yet no shards."""

import json
import pathlib
import shutil

import pytest

from ser_jax.data.shards import open_shards
from ser_jax.errors import UserError

METADATA, INFO = "metadata.json", "dataset_info.json"


@pytest.fixture
def folder(synthetic_shards, tmp_path) -> pathlib.Path:
  """Shards that a test may damage."""
  return shutil.copytree(synthetic_shards("dat_mfcc"), tmp_path / "shards")


def shorten(column):
  """Takes a column's last entry away."""
  return lambda found: found["utterances"][column].pop()


@pytest.mark.parametrize(
  ("name", "damage", "message"),
  [
    (INFO, lambda found: found.clear(), "its splits are not"),
    (INFO, lambda found: found["splits"].clear(), "its splits are not"),
    (INFO, lambda found: found["splits"][0].pop("shardLengths"), "its splits"),
    (INFO, lambda found: found.update(splits=3), "its splits are not"),
    (METADATA, lambda found: found.pop("recipe"), "it has no recipe"),
    (METADATA, lambda found: found.pop("utterances"), "it has no utterances"),
    (METADATA, lambda found: found.update(utterances=[]), "cannot be read"),
    (METADATA, lambda found: found["utterances"].pop("ids"), "KeyError: 'ids'"),
    (
      METADATA,
      lambda found: found["utterances"]["frames"].pop("features"),
      "KeyError: 'features'",
    ),
    (METADATA, shorten("ids"), "cannot be read .KeyError"),
    (METADATA, shorten("speakers"), "column speakers has 39 entries for 40"),
    (METADATA, shorten("attributes"), "column attributes has 39 entries"),
    (
      METADATA,
      lambda found: found["utterances"]["frames"]["features"].pop(),
      "column frames.features has 39 entries",
    ),
  ],
)
def test_shards_of_other_content_are_damaged(folder, name, damage, message):
  path = folder / name
  found = json.loads(path.read_text())
  damage(found)
  path.write_text(json.dumps(found))
  told = f"{name} is damaged: .*{message}.*Build the shards again"
  with pytest.raises(UserError, match=told):
    open_shards(folder)


@pytest.mark.parametrize("name", [METADATA, INFO])
def test_a_list_is_no_metadata(folder, name):
  (folder / name).write_text("[]")
  with pytest.raises(UserError, match=f"{name} is damaged: it holds no object"):
    open_shards(folder)


def of_another_size(found):
  """Frames that an utterance does not have."""
  found["utterances"]["frames"]["features"][3] += 1


@pytest.mark.parametrize(
  "damage",
  [
    of_another_size,
    lambda found: found["inputs"]["features"].update(dim=19),
    lambda found: found["inputs"]["features"].update(frame_rate=None),
    lambda found: found["inputs"]["features"].update(dtype="int16"),
    lambda found: (
      found["inputs"].update(other=found["inputs"]["features"])
      or found["utterances"]["frames"].update(other=[1] * 40)
    ),
  ],
)
def test_a_record_of_another_shape_is_damaged(folder, damage):
  """As where metadata are of another build: told as it is read."""
  found = json.loads((folder / METADATA).read_text())
  damage(found)
  (folder / METADATA).write_text(json.dumps(found))
  with pytest.raises(
    UserError, match="record 3 cannot be read: (cannot reshape|.other)"
  ):
    open_shards(folder).read(3)


def test_whole_shards_are_opened(folder):
  assert len(open_shards(folder)) == 40
