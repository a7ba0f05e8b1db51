"""Recordings too long for a batch: utterances `RECORDING@SECONDS` are windows.

Windows overlap; what is of the recording as a whole counts no frame twice.
"""

import numpy as np
from jaxtyping import Float

from ser_jax.data.statistics import as_float

MARK = "@"


def recording_of(name: str) -> str:
  """The recording that an utterance is of; itself, where it is no window."""
  return name.partition(MARK)[0]


def start_of(name: str, rate: float) -> int:
  """The frame of its recording that an utterance starts with.

  Args:
    name: of the utterance.
    rate: frames a second.

  Returns:
    A number of frames; 0 for whole recordings.
  """
  _, mark, seconds = name.partition(MARK)
  return round(float(seconds) * rate) if mark else 0


def moments_of(name: str) -> str:
  """The target that holds the moments of an input's recordings."""
  return f"{name}_moments"


def recording_moments(shards, name: str) -> Float[np.ndarray, "all 2"] | None:
  """Mean and deviation of all values of each utterance's recording.

  Args:
    shards: the corpus.
    name: of an input with a frame rate.

  Returns:
    A row for each utterance, the deviation of a constant being 1; None where
    no recording was cut.
  """
  ids = [str(i) for i in shards.table.ids]
  if not any(MARK in i for i in ids):
    return None
  rate = shards.metadata["inputs"][name]["frame_rate"]
  order = sorted(range(len(ids)), key=lambda i: start_of(ids[i], rate))
  sums, ends = {}, {}
  for index in order:
    recording, first = recording_of(ids[index]), start_of(ids[index], rate)
    known = max(ends.get(recording, first) - first, 0)
    values = as_float(shards.read(index)[name])
    ends[recording] = first + len(values)
    fresh = values[known:].astype(np.float64)
    row = np.array([fresh.size, fresh.sum(), np.square(fresh).sum()])
    sums[recording] = sums.get(recording, 0.0) + row
  found = np.zeros((len(ids), 2), np.float32)
  for index, i in enumerate(ids):
    count, total, squares = sums[recording_of(i)]
    mean = total / count
    deviation = np.sqrt(max(squares / count - mean**2, 0.0))
    found[index] = mean, deviation if deviation > 1e-8 else 1.0
  return found
