"""Kaldi's pitch tracker in NumPy: normalised cross-correlation and pitch.

Ghahremani et al., "A pitch extraction algorithm tuned for automatic speech
recognition", ICASSP 2014. Every frame has a pitch: where speech is unvoiced,
the smoothest path leads across, and the correlation tells how far to trust it.

torchaudio (seen in 2.0.2) compiled Kaldi's tracker against vectors of its own
whose exchange is incomplete, so that its path follows something else: see
`_torchaudio_path`. Features made with it can be had by name.
"""

import functools
from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int

Samples = Float[np.ndarray, "samples"]

RATE = 4000  # The signal is searched at this rate, in Hz.
LOWPASS = 1000.0  # Hz
LOWPASS_ZEROS = 1  # Zero crossings of the filter on either side.
LOWEST, HIGHEST = 50.0, 400.0  # Pitch in Hz.
SOFT_LOWEST = 10.0  # Hz; lowers the score of long lags.
STEP = 0.005  # Neighbouring lags differ by this part.
PENALTY = 0.1  # Of the squared change of log pitch between frames.
BALLAST = 7000.0  # Keeps the correlation of quiet frames near 0.
LAG_ZEROS = 5  # Zero crossings of the filter between measured lags.


def _windowed_sinc(
  time: Float[np.ndarray, "..."], cutoff: float, zeros: int
) -> Float[np.ndarray, "..."]:
  """A low-pass filter's response under a Hann window, times in seconds."""
  half = zeros / (2.0 * cutoff)
  window = 0.5 * (1.0 + np.cos(np.pi * time / half))
  response = 2.0 * cutoff * np.sinc(2.0 * cutoff * time) * window
  return np.where(np.abs(time) < half, response, 0.0)


def _downsample(samples: Samples, rate: int) -> Float[np.ndarray, "slow"]:
  """Low-pass filters and keeps every `rate / RATE`-th sample."""
  reach = int(rate * LOWPASS_ZEROS / (2.0 * LOWPASS))
  time = np.arange(-reach, reach + 1) / rate
  taps = _windowed_sinc(time, LOWPASS, LOWPASS_ZEROS) / rate
  padded = np.pad(samples.astype(np.float64), reach)
  return np.convolve(padded, taps, "valid")[:: rate // RATE]


@functools.cache
def _lags() -> Float[np.ndarray, "lags"]:
  """The lags in seconds that the path may take, shortest first."""
  count = 1 + int(np.log(HIGHEST / LOWEST) / np.log1p(STEP))
  return (1.0 + STEP) ** np.arange(count) / HIGHEST


@functools.cache
def _interpolation() -> tuple[int, int, Float[np.ndarray, "measured lags"]]:
  """First and last measured lag in samples, and weights to `_lags()`."""
  reach = LAG_ZEROS / 2.0
  first = int(np.ceil(RATE / HIGHEST - reach))
  last = int(np.floor(RATE / LOWEST + reach))
  time = _lags() - np.arange(first, last + 1)[:, None] / RATE
  return first, last, _windowed_sinc(time, RATE / 2.0, LAG_ZEROS) / RATE


def _correlate(
  slow: Float[np.ndarray, "slow"], size: int, hop: int
) -> tuple[
  Float[np.ndarray, "time measured"], Float[np.ndarray, "time measured"]
]:
  """Inner products of frames and lagged frames, and products of energies."""
  first, last, _ = _interpolation()
  time = 1 + (len(slow) - size) // hop
  # Kaldi takes zeros for the samples that lie past the end.
  padded = np.pad(slow, (0, last))
  frames = np.lib.stride_tricks.sliding_window_view(padded, size + last)
  frames = frames[::hop][:time]
  frames = frames - frames[:, :size].mean(axis=1, keepdims=True)
  lagged = np.lib.stride_tricks.sliding_window_view(frames, size, axis=1)
  inner = np.einsum("tls,ts->tl", lagged[:, first:], frames[:, :size])
  ends = np.pad(np.cumsum(np.square(frames), axis=1), ((0, 0), (1, 0)))
  energy = np.maximum(ends[:, size:] - ends[:, :-size], 0.0)
  return inner, energy[:, :1] * energy[:, first:]


def _normalise(
  inner: Float[np.ndarray, "time measured"],
  norm: Float[np.ndarray, "time measured"],
  ballast: float,
) -> Float[np.ndarray, "time lags"]:
  """The correlation at every lag of the path; 0 where there is no energy."""
  scale = np.sqrt(norm + ballast)
  found = np.divide(inner, scale, out=np.zeros_like(inner), where=scale > 0)
  return found @ _interpolation()[2]


@functools.cache
def _moves() -> Float[np.ndarray, "lags lags"]:
  """The cost of a change from one lag to another."""
  steps = np.arange(len(_lags()))
  return np.square(np.subtract.outer(steps, steps)) * (
    PENALTY * np.log1p(STEP) ** 2
  )


def _viterbi_path(
  cost: Float[np.ndarray, "time lags"],
) -> Int[np.ndarray, "time"]:
  """The lags whose costs and moves are the least in sum."""
  # In a tail of digital silence all lags cost the same: the path stays put.
  heard = 1 + int(np.flatnonzero(np.ptp(cost, axis=1)).max(initial=0))
  moves = _moves()
  total = cost[:heard].copy()
  arrival = np.empty_like(moves)
  for t in range(1, heard):
    np.add(moves, total[t - 1][:, None], out=arrival)
    total[t] += np.minimum.reduce(arrival, axis=0)
    total[t] -= total[t].min()
  path = np.empty(heard, np.int64)
  path[-1] = total[-1].argmin()
  for t in range(heard - 1, 0, -1):
    path[t - 1] = (total[t - 1] + moves[path[t]]).argmin()
  return np.pad(path, (0, len(cost) - heard), "edge")


def _torchaudio_path(
  cost: Float[np.ndarray, "time lags"],
) -> Int[np.ndarray, "time"]:
  """The path of torchaudio 2.0's tracker, which lags behind the pitch.

  Its vectors exchange their tensors but not their pointers to the data. The
  forward pass reads and writes through the pointers and adds a frame's cost
  through the tensor: one buffer only gathers the costs of every second frame,
  and every step back is chosen by that sum.
  """
  moves = _moves()
  counted = cost.copy()
  counted[::2] = 0.0
  gathered = np.cumsum(counted, axis=0)
  before = gathered - counted
  last = gathered[-1]
  if len(cost) % 2:
    last = (moves + before[-1]).min(axis=1) + cost[-1]
  path = np.empty(len(cost), np.int64)
  path[-1] = last.argmin()
  for t in range(len(cost) - 1, 0, -1):
    path[t - 1] = (before[t] + moves[path[t]]).argmin()
  return path


Path = Callable[[Float[np.ndarray, "time lags"]], Int[np.ndarray, "time"]]
PATHS: dict[str, Path] = {
  "viterbi": _viterbi_path,
  "torchaudio": _torchaudio_path,
}


def nccf_pitch(
  samples: Samples, rate: int, *, window_ms: int, hop_ms: int, path: str
) -> Float[np.ndarray, "time 2"]:
  """Tracks the pitch of whole frames.

  Args:
    samples: one channel, of at least a window; its level does not matter.
    rate: in Hz, a multiple of 4000.
    window_ms: the frame's length.
    hop_ms: from frame to frame.
    path: "viterbi", as published, or "torchaudio", as in its version 2.0.

  Returns:
    For each frame the normalised cross-correlation at its pitch, about 1 at
    most, and the pitch in Hz.

  Raises:
    ValueError: another rate.
  """
  if rate % RATE:
    raise ValueError(f"pitch at {rate} Hz: not a multiple of {RATE} Hz.")
  size, hop = RATE * window_ms // 1000, RATE * hop_ms // 1000
  slow = _downsample(samples, rate)
  inner, norm = _correlate(slow, size, hop)
  score = _normalise(inner, norm, BALLAST * (slow.var() * size) ** 2)
  lags = _lags()
  found = PATHS[path](1.0 - score * (1.0 - SOFT_LOWEST * lags))
  trust = _normalise(inner, norm, 0.0)[np.arange(len(found)), found]
  return np.column_stack([trust, 1.0 / lags[found]]).astype(np.float32)
