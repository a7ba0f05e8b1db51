"""A recording of any rate and channel count -> clips with features.

    file or bytes -> windows of mono samples -> features of each

Runs in processes without JAX. Nothing of a header is believed: what is read is
bounded, and what lacks is an error.
"""

import contextlib
import dataclasses
import math
import pathlib
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
from jaxtyping import Float

from ser_jax.errors import UserError
from ser_jax.features.audio import require_whole
from ser_jax.features.sets import FEATURE_SETS
from ser_jax.inference import Features, Recipe, add_moments, samples_in

RATES = (1000, 384_000)  # Hz
MOST_CHANNELS = 32
LEAST = 0.01  # seconds of a window, and of a hop: less is no end of windows


@dataclasses.dataclass(frozen=True)
class Windows:
  """How recordings are cut.

  Attributes:
    length: seconds of a window; shorter recordings are one.
    hop: seconds from the start of a window to that of the next.
    step: seconds that starts are whole numbers of; 0 for any.
    context: seconds that are read on either side of a window, as far as the
      recording has them.
    most: seconds of the longest recording that is accepted.
  """

  length: float
  hop: float
  step: float = 0.0
  context: float = 0.0
  most: float = math.inf


@dataclasses.dataclass(frozen=True)
class Clip:
  """A window of a recording.

  Attributes:
    start: in seconds.
    end: in seconds.
    features: None where none can be computed.
    note: why none can be computed.
  """

  start: float
  end: float
  features: Features | None
  note: str = ""


def make_windows(
  recipe: Recipe, length: float = 0.0, hop: float = 0.0
) -> Windows:
  """Checks how recordings are to be cut.

  Args:
    recipe: of the model.
    length: seconds; 0 for those of the longest utterance of training.
    hop: seconds; 0 for windows end to end or, of contours, that half overlap.

  Returns:
    The windows, with the context that excerpts of recordings have in training.

  Raises:
    UserError: windows that the model cannot take, or that leave gaps.
  """
  if length and not LEAST <= length <= recipe.longest:
    at_most = math.floor(1000 * recipe.longest) / 1000
    raise UserError(
      f"--window={length:g}: {recipe.system} was made for utterances of up to "
      f"{at_most:g} s; give at most that and at least {LEAST:g}, or 0 for just "
      "that."
    )
  length = length or recipe.longest
  if hop and not LEAST <= hop <= length:
    raise UserError(
      f"--hop={hop:g} must lie between {LEAST:g} and the window's {length:g} "
      "s, or be 0 (the default)."
    )
  context = FEATURE_SETS[recipe.features].context
  if recipe.contour_rate is None:
    return Windows(length, hop or length, context=context)
  step = 1 / recipe.contour_rate
  length = max(1, math.floor(length / step + 1e-6)) * step
  hop = max(1, math.floor((hop or length / 2) / step + 1e-6)) * step
  return Windows(length, hop, step, context)


def read_clips(
  file: str | pathlib.Path | BinaryIO,
  recipe: Recipe,
  windows: Windows,
  *,
  source: str,
) -> list[Clip]:
  """Features of every window of a recording.

  Args:
    file: audio in any format that libsndfile reads.
    recipe: of the model.
    windows: how to cut.
    source: what messages call the file.

  Returns:
    At least one clip with features; windows that are silent, or too short,
    have none.

  Raises:
    UserError: the file cannot be read, or no window has features.
  """
  feature_set = FEATURE_SETS[recipe.features]
  clips = []
  for start, samples, rate, around in cut(file, windows, source):
    end = start + (len(samples) - sum(around)) / rate
    try:
      features = feature_set.extract(
        samples, rate, around=around, pad_to=recipe.pad_to
      )
      _require_finite(features)
      clips.append(Clip(start, end, features))
    except UserError as error:
      clips.append(Clip(start, end, None, str(error)))
  heard = [clip for clip in clips if clip.features is not None]
  if not heard:
    raise UserError(f"{source}: {clips[0].note}")
  known = iter(
    add_moments(
      recipe,
      [clip.features for clip in heard],
      [clip.start for clip in heard],
    )
  )
  return [
    clip
    if clip.features is None
    else dataclasses.replace(clip, features=next(known))
    for clip in clips
  ]


def _require_finite(features: Features) -> None:
  for name, values in features.items():
    if not np.isfinite(values).all():
      raise UserError(f"its {name} features are not finite: leave it out.")


def cut(
  file, windows: Windows, source: str
) -> Iterator[tuple[float, Float[np.ndarray, "samples"], int, tuple[int, int]]]:
  """Windows with their context, channels averaged.

  Args:
    file: audio in any format that libsndfile reads.
    windows: how to cut.
    source: what messages call the file.

  Yields:
    Start of the window in seconds, samples, rate in Hz, and how many of the
    samples are context, before the window and after it.

  Raises:
    UserError: the file cannot be read.
  """
  import soundfile

  named = isinstance(file, str | pathlib.Path)
  try:
    with open(file, "rb") if named else contextlib.nullcontext(file) as stream:
      require_whole(stream, source=source)
      stream.seek(0)
    with soundfile.SoundFile(file) as audio:
      rate = audio.samplerate
      _check_header(audio, windows, source)
      context = round(windows.context * rate)
      for first, count in _spans(audio.frames, rate, windows):
        before = min(context, first)
        after = min(context, audio.frames - first - count)
        samples = _read(audio, first - before, before + count + after, source)
        yield first / rate, samples, rate, (before, after)
  except (soundfile.SoundFileError, OSError, TypeError, ValueError) as error:
    reason = getattr(error, "error_string", str(error)).rstrip(".")
    raise UserError(
      f"{source} cannot be read as audio ({reason}): give WAV, FLAC, OGG, MP3 "
      "or AIFF."
    ) from error


def _read(
  audio, first: int, count: int, source: str
) -> Float[np.ndarray, "samples"]:
  """Some samples, channels averaged.

  Raises:
    UserError: the file has fewer than its header promises.
  """
  audio.seek(first)
  found = audio.read(count, dtype="float32", always_2d=True)
  if len(found) < count:
    raise UserError(
      f"{source} is truncated: its header promises {audio.frames} samples a "
      f"channel, it has {first + len(found)}."
    )
  return found.mean(axis=1, dtype=np.float32)


def _check_header(audio, windows: Windows, source: str) -> None:
  """Refuses what no recording of speech claims to be."""
  if not RATES[0] <= audio.samplerate <= RATES[1]:
    raise UserError(
      f"{source} claims {audio.samplerate} samples a second: between "
      f"{RATES[0]} and {RATES[1]} can be read."
    )
  if audio.channels > MOST_CHANNELS:
    raise UserError(
      f"{source} claims {audio.channels} channels: at most {MOST_CHANNELS} can "
      "be read."
    )
  if audio.frames <= 0:
    raise UserError(f"{source} is empty: it has no samples. Leave it out.")
  if audio.frames > windows.most * audio.samplerate:
    raise UserError(
      f"{source} claims to last {audio.frames / audio.samplerate:.0f} s: at "
      f"most {windows.most:.0f} s are accepted here."
    )


def _spans(
  frames: int, rate: int, windows: Windows
) -> Iterator[tuple[int, int]]:
  """First sample and number of samples of each window, the last one whole."""
  length = samples_in(windows.length, rate)
  step = round(windows.step * rate) or 1
  hop = max(step, round(windows.hop * rate))
  first = 0
  while first + length < frames:
    yield first, length
    first += hop
  # So that it is as long as the others, as far as steps allow.
  first = math.ceil(max(0, frames - length) / step) * step
  yield first, min(length, frames - first)
