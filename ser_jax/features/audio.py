"""Audio file -> checked mono samples; every complaint names the file."""

import os

import numpy as np
from jaxtyping import Float

from ser_jax.errors import UserError

Samples = Float[np.ndarray, "samples"]


def load(path: str | os.PathLike) -> tuple[Samples, int]:
  """Reads a WAV or FLAC file.

  Several channels are accepted only where they are identical (as in five files
  of RAVDESS).

  Args:
    path: the file.

  Returns:
    Samples in [-1, 1] and the rate in Hz.

  Raises:
    UserError: a file that is missing, truncated, empty, silent, not finite or
      has different channels.
  """
  import soundfile

  try:
    with soundfile.SoundFile(path) as file:
      expected, rate = file.frames, file.samplerate
      samples = file.read(dtype="float32", always_2d=True)
  except (soundfile.LibsndfileError, OSError) as error:
    raise UserError(
      f"{path} cannot be read as audio ({error}): copy the file again from the "
      "corpus, or leave it out."
    ) from error
  if len(samples) < expected:
    raise UserError(
      f"{path} is truncated: its header promises {expected} samples, it has "
      f"{len(samples)}. Copy the file again from the corpus."
    )
  if (samples != samples[:, :1]).any():
    raise UserError(
      f"{path} has {samples.shape[1]} different channels; utterances are mono: "
      "choose a channel, for example with `sox IN OUT remix 1`."
    )
  return check(samples[:, 0], source=str(path)), rate


def check(samples: Samples, *, source: str) -> Samples:
  """Refuses audio that no feature can be computed from.

  Args:
    samples: one channel.
    source: what messages call it.

  Returns:
    The samples.

  Raises:
    UserError: no samples, digital silence, NaN or infinity.
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
  return samples


def resample(samples: Samples, rate: int, wanted: int) -> Samples:
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
      f"the audio has {len(samples)} samples, {recipe} needs at least {least} "
      "for one frame: leave the recording out."
    )
