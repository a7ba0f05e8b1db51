"""The waveform itself, cut into frames; 16-bit integers, as recorded."""

import numpy as np
from jaxtyping import Float, Int

from ser_jax.features.spectral import FULL_SCALE


def frames(
  samples: Float[np.ndarray, "samples"], *, size: int, most: int
) -> Int[np.ndarray, "frames size"]:
  """The first frames of a recording (Huang et al., section II-B2).

  Args:
    samples: one channel in [-1, 1]; rounded to 16 bits.
    size: samples in a frame.
    most: frames to take.

  Returns:
    int16, the last frame filled with zeros. Frames that a shorter recording
    lacks are not kept: a batch is padded with them.
  """
  scaled = np.round(samples[: size * most].astype(np.float64) * FULL_SCALE)
  values = np.clip(scaled, -FULL_SCALE, FULL_SCALE - 1).astype(np.int16)
  return np.pad(values, (0, -len(values) % size)).reshape(-1, size)
