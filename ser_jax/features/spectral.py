"""Mel-spectrograms and cepstra in the manners of librosa, HTK and Kaldi."""

import functools

import numpy as np
import scipy.fft
from jaxtyping import Float

Samples = Float[np.ndarray, "samples"]

PREEMPHASIS = 0.97
LIFTER = 22
MEL_BANDS = 26
CEPSTRA = 12
DELTA_WINDOW = 2
FULL_SCALE = 32768  # HTK and openSMILE compute on 16-bit integers.


def log_mel(
  samples: Samples, rate: int, *, n_fft: int, n_mels: int, floor: float
) -> Float[np.ndarray, "time mel"]:
  """A mel-spectrogram in decibels, hop half a window.

  Args:
    samples: one channel.
    rate: in Hz.
    n_fft: window and transform length in samples (Hann).
    n_mels: bands from 0 Hz to half the rate (librosa's Slaney scale).
    floor: the least power; digital silence has no logarithm.

  Returns:
    10 log10 of the power, frames centred on multiples of the hop.
  """
  import librosa

  power = np.square(
    np.abs(librosa.stft(samples, n_fft=n_fft, hop_length=n_fft // 2))
  )
  mel = _hertz_triangles(rate, n_fft, n_mels, htk=False) @ power
  return _decibels(mel, floor).T.astype(np.float32)


@functools.cache
def _hertz_triangles(
  rate: int, n_fft: int, bands: int, *, htk: bool
) -> Float[np.ndarray, "bands bins"]:
  """Filters that are triangles over Hz; HTK's mel scale has no area norm."""
  import librosa

  return librosa.filters.mel(
    sr=rate,
    n_fft=n_fft,
    n_mels=bands,
    htk=htk,
    norm=None if htk else "slaney",
  )


def _decibels(power, floor: float):
  return 10.0 * np.log10(np.maximum(power, floor))


def htk_log_mel(
  samples: Samples, rate: int, *, n_fft: int, hop: int, n_mels: int
) -> Float[np.ndarray, "time mel"]:
  """A mel-spectrogram in decibels as torchaudio makes it.

  Args:
    samples: one channel, longer than half a window.
    rate: in Hz.
    n_fft: window and transform length in samples (Hann).
    hop: from frame to frame, in samples.
    n_mels: bands on HTK's mel scale, 0 Hz to half the rate.

  Returns:
    10 log10 of the power, at least -100; frames centred on multiples of the
    hop, the edges reflected.
  """
  import librosa

  spectra = librosa.stft(
    samples, n_fft=n_fft, hop_length=hop, pad_mode="reflect"
  )
  filters = _hertz_triangles(rate, n_fft, n_mels, htk=True)
  mel = filters @ np.square(np.abs(spectra))
  return _decibels(mel, 1e-10).T.astype(np.float32)


def decibel_cepstra(
  log_mel: Float[np.ndarray, "time mel"], count: int
) -> Float[np.ndarray, "time cepstra"]:
  """The MFCC that torchaudio makes of a mel-spectrogram in decibels.

  Args:
    log_mel: decibels; what is more than 80 below the peak is raised to that.
    count: coefficients to keep, the zeroth included.

  Returns:
    The orthonormal DCT-II over the bands.
  """
  raised = np.maximum(log_mel, log_mel.max() - 80.0)
  return scipy.fft.dct(raised, type=2, axis=1, norm="ortho")[:, :count]


def stretches(
  frames: Float[np.ndarray, "time dim"], count: int
) -> Float[np.ndarray, "count dim"]:
  """Means over equal parts of an utterance, however long it is.

  Args:
    frames: in time.
    count: of the parts; each has the frames that it touches, one at least.

  Returns:
    A row for each part.
  """
  edges = np.arange(count + 1) * len(frames)
  first, last = edges[:-1] // count, -(-edges[1:] // count)
  return np.stack(
    [frames[a:b].mean(axis=0) for a, b in zip(first, last, strict=True)]
  )


def _frames(samples: Samples, size: int, hop: int):
  """Whole frames only, `[frames, size]`, without a copy."""
  windows = np.lib.stride_tricks.sliding_window_view(samples, size)
  return windows[::hop]


def _emphasise(
  frames: Float[np.ndarray, "time size"],
) -> Float[np.ndarray, "time size"]:
  """Pre-emphasis within each frame, whose first sample is its own past."""
  emphasised = np.empty_like(frames)
  emphasised[:, 1:] = frames[:, 1:] - PREEMPHASIS * frames[:, :-1]
  emphasised[:, 0] = (1.0 - PREEMPHASIS) * frames[:, 0]
  return emphasised


@functools.cache
def _mel_triangles(
  rate: int, n_fft: int, bands: int, lowest: float = 0.0
) -> Float[np.ndarray, "bins bands"]:
  """Filters that are triangles over mel, `lowest` Hz to half the rate."""
  centres = np.linspace(_mel(lowest), _mel(rate / 2), bands + 2)
  bins = _mel(np.arange(n_fft // 2 + 1) * rate / n_fft)[:, None]
  rising = (bins - centres[:-2]) / np.diff(centres)[:-1]
  falling = (centres[2:] - bins) / np.diff(centres)[1:]
  return np.maximum(np.minimum(rising, falling), 0.0)


def _mel(hertz):
  """O'Shaughnessy's mel scale, as HTK and Kaldi write it."""
  return 1127.0 * np.log1p(hertz / 700.0)


def delta(x: Float[np.ndarray, "time dim"]) -> Float[np.ndarray, "time dim"]:
  """HTK's regression over a window of 2, edges repeated."""
  width = DELTA_WINDOW
  padded = np.pad(x, ((width, width), (0, 0)), mode="edge")
  time = len(x)
  total = sum(
    n * (padded[width + n :][:time] - padded[width - n :][:time])
    for n in range(1, width + 1)
  )
  return total / (2.0 * sum(n * n for n in range(1, width + 1)))


def _window_and_hop(rate: int) -> tuple[int, int]:
  """25 and 10 ms in samples."""
  return round(0.025 * rate), round(0.010 * rate)


def frame_count(samples: int, rate: int) -> int:
  """How many whole frames of 25 ms every 10 ms a recording has.

  Args:
    samples: its length.
    rate: in Hz.

  Returns:
    The number of frames.
  """
  size, hop = _window_and_hop(rate)
  return max(0, 1 + (samples - size) // hop)


def mfcc_e_d_a(samples: Samples, rate: int) -> Float[np.ndarray, "time 39"]:
  """HTK's MFCC_E_D_A: 12 cepstra and log-energy, deltas, accelerations.

  25 ms Hamming windows every 10 ms, pre-emphasis .97 within the frame, 26 mel
  bands on the power spectrum, lifter 22; the log-energy is that of the frame as
  it was recorded, before both (HTK's RAWENERGY), on 16-bit sample values.
  Recordings of at least 4 frames get openSMILE's values to 1e-3.

  Args:
    samples: one channel in [-1, 1], of at least 25 ms.
    rate: in Hz.

  Returns:
    39 features a frame (Young et al., The HTK Book, chapter 5).
  """
  size, hop = _window_and_hop(rate)
  n_fft = 1 << (size - 1).bit_length()
  frames = _frames(samples.astype(np.float64) * FULL_SCALE, size, hop)
  energy = np.log(np.maximum(np.square(frames).sum(axis=1), 1.0))
  emphasised = _emphasise(frames) * np.hamming(size)
  power = np.square(np.abs(np.fft.rfft(emphasised, n_fft)))
  bands = np.log(
    np.maximum(power @ _mel_triangles(rate, n_fft, MEL_BANDS), 1.0)
  )
  cepstra = scipy.fft.dct(bands, type=2, axis=1, norm="ortho")
  order = np.arange(1, CEPSTRA + 1)
  lifter = 1.0 + LIFTER / 2 * np.sin(np.pi * order / LIFTER)
  static = np.column_stack([cepstra[:, 1 : CEPSTRA + 1] * lifter, energy])
  # openSMILE repeats the last static frame, not the last delta, when it comes
  # to the end: its accelerations see the deltas of that longer recording.
  longer = delta(np.pad(static, ((0, DELTA_WINDOW), (0, 0)), mode="edge"))
  first, second = longer[: len(static)], delta(longer)[: len(static)]
  return np.column_stack([static, first, second]).astype(np.float32)


def kaldi_fbank(
  samples: Samples, rate: int, *, window_ms: int, hop_ms: int, bands: int
) -> Float[np.ndarray, "time features"]:
  """Kaldi's log-energy and log filter bank, without dither.

  Whole frames alone; each loses its mean, is pre-emphasised by .97 and
  windowed by a Hann window to the power .85 ("povey").

  Args:
    samples: one channel, of at least a window.
    rate: in Hz.
    window_ms: the frame's length.
    hop_ms: from frame to frame.
    bands: filters from 20 Hz to half the rate.

  Returns:
    The log-energy before pre-emphasis, of a power of at least 1, then the log
    of each band's power, at least that of float32's epsilon.
  """
  size, hop = rate * window_ms // 1000, rate * hop_ms // 1000
  n_fft = 1 << (size - 1).bit_length()
  frames = _frames(samples.astype(np.float64), size, hop)
  frames = frames - frames.mean(axis=1, keepdims=True)
  energy = np.log(np.maximum(np.square(frames).sum(axis=1), 1.0))
  windowed = _emphasise(frames) * np.hanning(size) ** 0.85
  power = np.square(np.abs(np.fft.rfft(windowed, n_fft)))
  filtered = power @ _mel_triangles(rate, n_fft, bands, 20.0)
  log_bands = np.log(np.maximum(filtered, np.finfo(np.float32).eps))
  return np.column_stack([energy, log_bands]).astype(np.float32)
