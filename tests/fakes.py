"""A small corpus in memory, with the interface of a shard folder."""

import dataclasses
import types

import numpy as np

EMOTIONS = ("angry", "happy", "neutral", "sad")


@dataclasses.dataclass
class FakeTable:
  corpus: str
  ids: np.ndarray
  speakers: np.ndarray
  sessions: np.ndarray
  genders: np.ndarray
  emotions: np.ndarray
  digests: np.ndarray
  origins: np.ndarray
  speeds: np.ndarray
  frames: dict


class FakeShards:
  """Utterances of random length whose frames encode class and speaker."""

  path = "fake"

  def __init__(
    self, corpus="fake", speakers=("a", "b", "c", "d", "e", "f"), each=8
  ):
    generator = np.random.default_rng(0)
    count = len(speakers) * each
    who = np.repeat(np.array(speakers), each)
    emotions = np.array([EMOTIONS[i % 4] for i in range(count)])
    frames = generator.integers(5, 20, count).astype(np.int32)
    self.table = FakeTable(
      corpus=corpus,
      ids=np.array([f"u{i:03d}" for i in range(count)]),
      speakers=who,
      sessions=np.array([f"s{list(speakers).index(w) // 2}" for w in who]),
      genders=np.array(["female"] * count),
      emotions=emotions,
      digests=np.array([f"d{i:03d}" for i in range(count)]),
      origins=np.arange(count),
      speeds=np.ones(count),
      frames={"frames": frames, "spectrum": 2 * frames},
    )
    self._records = []
    for index in range(count):
      label = EMOTIONS.index(emotions[index])
      self._records.append(
        {
          "frames": generator.normal(label, 1.0, (frames[index], 3)).astype(
            np.float32
          ),
          "spectrum": generator.normal(
            -label, 1.0, (2 * frames[index], 4)
          ).astype(np.float32),
        }
      )
    self.metadata = {
      "corpus": corpus,
      "features": "fake",
      "inputs": {
        "frames": {"dim": 3, "frame_rate": 100.0},
        "spectrum": {"dim": 4, "frame_rate": 200.0},
      },
    }

  def __len__(self):
    return len(self._records)

  def read(self, index):
    return self._records[index]


def input_config(**changes):
  """How an input is prepared, as a config says it."""
  usual = {"resample": False, "standardize": True, "normalize": "train"}
  usual |= {"clip": 0.0, "buckets": ()}
  return types.SimpleNamespace(**usual | changes)


def data_config(**changes):
  """A data section over both inputs of `FakeShards`."""
  section = types.SimpleNamespace(
    inputs={
      "frames": input_config(),
      "spectrum": input_config(resample=True, standardize=False),
    },
    max_frames=0,
    speeds=(),
  )
  vars(section).update(changes)
  return section


def protocol_config(name, **changes):
  """A protocol section."""
  section = types.SimpleNamespace(
    name=name, folds=(), count=5, seed=0, train=(), validation=(), test=()
  )
  vars(section).update(changes)
  return section


def whole(row):
  """The share of a process that is alone."""
  return row
