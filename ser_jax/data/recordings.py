"""Long recordings: utterances called `RECORDING@SECONDS` are their windows."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped

from ser_jax.data.moments import Running

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


def as_float(x: Shaped[Any, "*axes"]):
  """16-bit samples in [-1, 1); other values as they are."""
  return x.astype(np.float32) / 32768 if x.dtype == np.int16 else x


def moments_of(name: str) -> str:
  """What holds the moments of an input's recordings, beside the input."""
  return f"{name}_moments"


def window_moments(
  windows: Iterable[tuple[int, Shaped[np.ndarray, "frames dim"]]],
) -> Float[np.ndarray, "2"]:
  """Mean and deviation of all values of a recording.

  Args:
    windows: the first frame and the values of each, in order; where they
      overlap no frame is counted twice.

  Returns:
    Both; the deviation of a constant is 1.
  """
  running, end = Running(), 0
  for first, values in windows:
    running.add(as_float(values[max(end - first, 0) :]).ravel())
    end = max(end, first + len(values))
  return np.array(running.moments(), np.float32)
