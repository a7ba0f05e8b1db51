"""Audio file -> checked mono samples; every complaint names the file."""

import io
import os
import struct

import numpy as np
from jaxtyping import Float

from ser_jax.errors import UserError

Samples = Float[np.ndarray, "samples"]

# Decoders of lossy formats overshoot 1 a little; integers kept as floats do so
# by far.
LOUDEST = 2.0
# Bytes of audio from which on a WAV header says that it cannot know: programs
# that write to a pipe claim this much (sox) or more.
UNKNOWN = 0x7FFFF000


def load(
  path: str | os.PathLike, *, start: float = 0.0, seconds: float | None = None
) -> tuple[Samples, int]:
  """Reads a WAV or FLAC file, or part of it.

  Several channels are accepted only where they are identical (as in five files
  of RAVDESS).

  Args:
    path: the file.
    start: where to begin, in seconds.
    seconds: how much to read, where the file has as much; None for the rest.

  Returns:
    Samples in [-1, 1] and the rate in Hz.

  Raises:
    UserError: a file that is missing, truncated, empty, silent, not finite,
      out of range or has different channels.
  """
  import soundfile

  try:
    with open(path, "rb") as stream:
      require_whole(stream, source=str(path))
    with soundfile.SoundFile(path) as file:
      rate = file.samplerate
      first = min(round(start * rate), file.frames)
      expected = file.frames - first
      if seconds is not None:
        expected = min(expected, round(seconds * rate))
      file.seek(first)
      samples = file.read(expected, dtype="float32", always_2d=True)
  except (soundfile.LibsndfileError, OSError, ValueError, MemoryError) as error:
    # The latter two where a header claims more than an array can hold.
    raise UserError(
      f"{path} cannot be read as audio ({error}): copy the file again from the "
      "corpus, or leave it out."
    ) from error
  if len(samples) < expected:
    raise UserError(
      f"{path} is truncated: its header promises {expected} samples, it has "
      f"{len(samples)}. Copy the file again from the corpus."
    )
  check(samples.ravel(), source=str(path))
  if (samples != samples[:, :1]).any():
    raise UserError(
      f"{path} has {samples.shape[1]} different channels; utterances are mono: "
      "choose a channel, for example with `sox IN OUT remix 1`."
    )
  return np.ascontiguousarray(samples[:, 0]), rate


def require_whole(file: io.BufferedIOBase, *, source: str) -> None:
  """Refuses files of nothing, and WAV files shorter than their header says.

  libsndfile takes the rest of a truncated WAV file for the whole of it, so
  its data chunk is compared with the file's size.

  Args:
    file: of any format, seekable; it is left where the reading ended.
    source: what messages call it.

  Raises:
    UserError: audio is missing.
  """
  size = file.seek(0, os.SEEK_END)
  if not size:
    raise UserError(f"{source} is a file of 0 bytes: copy it again.")
  file.seek(0)
  start = file.read(12)
  if start[:4] != b"RIFF" or start[8:] != b"WAVE":
    return
  while len(header := file.read(8)) == 8:
    name, length = struct.unpack("<4sI", header)
    if name == b"data":
      present = size - file.tell()
      if present < length < UNKNOWN:
        raise UserError(
          f"{source} is truncated: its header promises {length} bytes of "
          f"audio, it has {present}. Copy the file again."
        )
      return
    file.seek(length + length % 2, os.SEEK_CUR)


def check(samples: Samples, *, source: str) -> Samples:
  """Refuses audio that no feature can be computed from.

  Args:
    samples: one channel.
    source: what messages call it.

  Returns:
    The samples.

  Raises:
    UserError: no samples, digital silence, NaN, infinity, or values that can
      only be integers that nobody scaled.
  """
  if not len(samples):
    raise UserError(f"{source} is empty: it has no samples. Leave it out.")
  if not np.isfinite(samples).all():
    raise UserError(
      f"{source} has NaN or infinite samples: convert it again from the "
      "original recording."
    )
  if not samples.any():
    raise UserError(
      f"{source} is silent: every sample is 0. Leave it out, or record it "
      "again."
    )
  peak = np.abs(samples).max()
  if peak > LOUDEST:
    raise UserError(
      f"{source} reaches {peak:g}, but samples must lie in [-1, 1]: divide "
      "16-bit values by 32768."
    )
  return samples


def resample(
  samples: Samples, rate: int, wanted: int
) -> Float[np.ndarray, "resampled"]:
  """Changes the sampling rate (soxr, high quality); a no-op if it is right.

  Args:
    samples: one channel.
    rate: its rate in Hz.
    wanted: the rate in Hz to return.

  Returns:
    The resampled signal.

  Raises:
    UserError: a rate that is not positive.
  """
  if rate <= 0:
    raise UserError(f"audio at {rate} Hz: the sampling rate must be positive.")
  if rate == wanted:
    return samples
  import librosa

  changed = librosa.resample(
    samples, orig_sr=rate, target_sr=wanted, res_type="soxr_hq"
  )
  return changed.astype(np.float32)


def require_samples(samples: Samples, least: int, recipe: str) -> None:
  """Refuses audio shorter than one frame of a recipe.

  Raises:
    UserError: too few samples.
  """
  if len(samples) < least:
    raise UserError(
      f"the audio is {len(samples)} samples long, {recipe} needs at least "
      f"{least} for one frame: leave the recording out."
    )


def trim(samples: Samples, *, top_db: float) -> Float[np.ndarray, "kept"]:
  """Cuts the quiet ends off.

  Args:
    samples: one channel.
    top_db: frames (2048 samples, every 512) whose mean square lies more than
      this below the loudest frame's are quiet.

  Returns:
    From the first frame that is not quiet to the last.
  """
  import librosa

  return librosa.effects.trim(samples, top_db=top_db)[0]


def denoise(samples: Samples) -> Samples:
  """Wiener filter over 3 samples; the noise is the mean local variance.

  Args:
    samples: one channel.

  Returns:
    The local mean, plus the deviation from it as far as that exceeds noise.

  Raises:
    UserError: a constant signal, in which signal and noise are both 0.
  """
  import scipy.signal

  # Where a stretch is constant the filter divides by 0, but takes the mean.
  with np.errstate(divide="ignore", invalid="ignore"):
    filtered = scipy.signal.wiener(samples).astype(np.float32)
  if not np.isfinite(filtered).all():
    raise UserError(
      "the audio is constant: there is no noise to estimate. Leave the "
      "recording out."
    )
  return filtered
