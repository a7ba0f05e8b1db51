"""Functionals of three seconds around every 40 ms, for time-continuous targets.

What regressors on designed features see (Trigeorgis et al. 2016, section 3):
each frame of `waveform.frames` has the functionals of the window around its
middle.
"""

import numpy as np
from jaxtyping import Float

from ser_jax.features import opensmile

Samples = Float[np.ndarray, "samples"]

SECONDS = 3.0
LLD_MS = 10  # From descriptor to descriptor.
FUNCTIONALS = ("max", "min", "range", "mean", "std")


def egemaps(
  samples: Samples, rate: int, *, size: int
) -> Float[np.ndarray, "frames 88"]:
  """Functionals of eGeMAPSv02, by openSMILE itself.

  openSMILE knows whole windows alone: the recording is mirrored at its ends,
  which keeps level, spectrum and pitch as they are there.

  Args:
    samples: one channel in [-1, 1].
    rate: in Hz.
    size: samples in a frame.

  Returns:
    A row for every frame, the last one's frame whole or not.
  """
  frames = -(-len(samples) // size)
  window = round(SECONDS * rate)
  before = window // 2 - size // 2
  # The pitch is smoothed: its last frames come with more audio.
  after = frames * size - len(samples) + window // 2 + rate // 4
  padded = np.pad(samples, (before, after), "reflect")
  rows = opensmile.windows(
    padded, rate, feature_set="eGeMAPSv02", seconds=SECONDS, step=size / rate
  )
  return rows[:frames]


def lld(
  samples: Samples, rate: int, *, size: int
) -> Float[np.ndarray, "frames 325"]:
  """Maximum, minimum, range, mean and deviation of ComParE's descriptors.

  A window that reaches past the recording is that much shorter.

  Args:
    samples: one channel in [-1, 1].
    rate: in Hz.
    size: samples in a frame.

  Returns:
    A row for every frame: 65 maxima, then minima and so on.
  """
  descriptors = opensmile.standard(
    samples, rate, feature_set="IS13", level="LowLevelDescriptors"
  )
  frames = -(-len(samples) // size)
  step = 1000 * size // rate // LLD_MS
  return functionals(
    descriptors,
    reach=round(500 * SECONDS / LLD_MS),
    middles=np.arange(frames) * step,
  )


def functionals(
  values: Float[np.ndarray, "time dim"],
  *,
  reach: int,
  middles: np.ndarray,
) -> Float[np.ndarray, "windows functionals"]:
  """`FUNCTIONALS` of windows, which are cut at the ends.

  Args:
    values: in time.
    reach: values on either side of a window's middle.
    middles: positions; each window must hold a value.

  Returns:
    float32, the functionals of one kind side by side.
  """
  start = np.clip(middles - reach, 0, len(values) - 1)
  end = np.clip(middles + reach + 1, 1, len(values))
  parts = [
    values[a:b].astype(np.float64) for a, b in zip(start, end, strict=True)
  ]
  high = np.stack([part.max(axis=0) for part in parts])
  low = np.stack([part.min(axis=0) for part in parts])
  mean = np.stack([part.mean(axis=0) for part in parts])
  deviation = np.stack([part.std(axis=0) for part in parts])
  return np.concatenate(
    [high, low, high - low, mean, deviation], axis=1
  ).astype(np.float32)
