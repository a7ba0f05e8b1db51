"""Loudness and pitch in time: targets that every recording has.

Frames are those of `waveform.frames`, so that a contour has a value for each
row of samples. Loudness is that of the frame over that of all frames; pitch is
the frame's own but for the tracker's path across them.
"""

import numpy as np
from jaxtyping import Float

from ser_jax.features import kaldi_pitch

Samples = Float[np.ndarray, "samples"]

NAMES = ("loudness", "f0")
QUIETEST = -60.0  # dB of the recording's own level; silence has no logarithm.
REFERENCE = 27.5  # Hz: semitones are counted from the piano's lowest key.
HOP_MS = 10  # The tracker's, whose penalty is of changes in this time.


def contours(
  samples: Samples, rate: int, *, size: int, most: int
) -> Float[np.ndarray, "frames 2"]:
  """Loudness and pitch of the first frames of a recording.

  The loudness is the level of each frame in decibels of the level of all of
  them: networks that hear recordings at unit variance can tell no other. The
  pitch is Kaldi's (Ghahremani et al. 2014), whose smoothest path leads across
  unvoiced frames and silence: every frame has a value, and none stands for
  "unvoiced".

  Args:
    samples: one channel in [-1, 1].
    rate: in Hz, a multiple of 4000.
    size: samples in a frame, a multiple of 10 ms.
    most: frames to take.

  Returns:
    Decibels, and semitones over 27.5 Hz.
  """
  heard = samples[: size * most]
  padded = np.pad(heard, (0, -len(heard) % size))
  tracked = kaldi_pitch.nccf_pitch(
    padded,
    rate,
    window_ms=1000 * size // rate,
    hop_ms=HOP_MS,
    path="viterbi",
  )
  hertz = tracked[:: 1000 * size // rate // HOP_MS, 1].astype(np.float64)
  semitones = 12.0 * np.log2(hertz / REFERENCE)
  return np.column_stack([_loudness(heard, padded, size), semitones]).astype(
    np.float32
  )


def _loudness(
  heard: Samples, padded: Float[np.ndarray, "padded"], size: int
) -> Float[np.ndarray, "frames"]:
  """Mean squares in dB of the whole's; padding is not counted."""
  energy = np.square(padded.reshape(-1, size), dtype=np.float64).sum(axis=1)
  count = np.full(len(energy), size)
  count[-1] -= len(padded) - len(heard)
  floor = 10.0 ** (QUIETEST / 10.0)
  whole = energy.sum() / len(heard)
  relative = energy / count / whole if whole else np.zeros_like(energy)
  return 10.0 * np.log10(np.maximum(relative, floor))
