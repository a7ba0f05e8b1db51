"""Recordings -> cached features, in parallel; a killed build loses nothing.

Each utterance's features are kept in a file whose name is a digest of the
audio and of all that determines the result, so that what a cache holds is
right whenever it is there.
"""

import contextlib
import dataclasses
import functools
import hashlib
import importlib.metadata
import json
import math
import multiprocessing
import os
import pathlib
import platform
import signal
import threading
import time
import zipfile
from collections.abc import Iterator, Sequence
from concurrent import futures
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import connection

import numpy as np
from jaxtyping import Shaped

from data_prep import excerpt
from data_prep.skipped import Skipped
from data_prep.utterance import Utterance
from ser_jax.errors import UserError
from ser_jax.features import sets
from ser_jax.features.sets import FEATURE_SETS, FeatureSet
from ser_jax.progress import progress

CHUNK = 8
# What features depend on.
LIBRARIES = (
  *("librosa", "numpy", "opensmile", "scipy"),
  *("ser_jax", "soundfile", "soxr"),
)
# What writes them.
WRITERS = ("array_record", "tensorflow-datasets")
# A worker is one core's worth; its numerical libraries must not start threads.
ONE_THREAD = {
  name: "1"
  for name in (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMBA_NUM_THREADS",
  )
}

Features = dict[str, Shaped[np.ndarray, "..."]]


@dataclasses.dataclass(frozen=True)
class Recording:
  """An utterance and its audio file, as far as the header tells.

  Attributes:
    utterance: whose recording it is.
    digest: SHA-256 of the file.
    samples: of one channel, of the utterance.
    rate: in Hz, at which they are played.
  """

  utterance: Utterance
  digest: str
  samples: int
  rate: int

  @property
  def seconds(self) -> float:
    """Duration of the raw utterance."""
    return self.samples / self.rate


@dataclasses.dataclass(frozen=True)
class Throughput:
  """How fast features were extracted, leaving out what the cache had."""

  utterances: int
  audio_seconds: float
  seconds: float
  workers: int

  def as_metadata(self) -> dict:
    """Plain data, with utterances a second and the real-time factor."""
    rates = {"utterances_per_second": None, "real_time_factor": None}
    if self.utterances:
      rates = {
        "utterances_per_second": self.utterances / self.seconds,
        "real_time_factor": self.seconds / self.audio_seconds,
      }
    return dataclasses.asdict(self) | rates


def probe(utterances: Sequence[Utterance], skipped: Skipped) -> list[Recording]:
  """Reads every file's digest and header.

  Args:
    utterances: the corpus.
    skipped: takes the files that are not audio.

  Returns:
    The others, in order.

  Raises:
    UserError: files that are not audio, unless those are skipped.
  """
  import soundfile

  recordings, digest_of = [], functools.cache(_digest)
  for utterance in progress(utterances, "checking", "file"):
    try:
      digest = digest_of(utterance.path)
      header = soundfile.info(utterance.path)
    except (OSError, soundfile.LibsndfileError) as error:
      skipped.add(
        utterance,
        f"{utterance.path} cannot be read as audio ({error}): copy the file "
        "again from the corpus.",
      )
      continue
    samples, rate = header.frames, header.samplerate
    if utterance.seconds is not None:
      samples = round(utterance.seconds * rate)
    rate = excerpt.played(rate, utterance)
    recordings.append(Recording(utterance, digest, samples, rate))
  skipped.check()
  return recordings


def _digest(path: pathlib.Path) -> str:
  with path.open("rb") as file:
    return hashlib.file_digest(file, "sha256").hexdigest()


def padded_length(
  feature_set: FeatureSet, recordings: Sequence[Recording]
) -> int | None:
  """Samples that a set pads every recording to, at its own rate.

  Args:
    feature_set: whose recipe may ask for the corpus' longest raw recording.
    recordings: the corpus.

  Returns:
    The length, or None for a set that does not pad.
  """
  if feature_set.recipe.get("pad_to") != "longest_raw":
    return None
  return max(
    math.ceil(r.samples * feature_set.rate / r.rate) for r in recordings
  )


def versions(others: Sequence[str] = ()) -> dict[str, str]:
  """Of Python, the libraries that features may depend on, and their code.

  Args:
    others: distributions to tell of, too.

  Returns:
    Versions of what is installed, and a digest of the code.
  """
  found = {"python": platform.python_version()}
  for name in sorted((*LIBRARIES, *others)):
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
      found[name] = importlib.metadata.version(name)
  sources = sorted(pathlib.Path(sets.__file__).parent.glob("*.py"))
  code = hashlib.sha256(b"".join(path.read_bytes() for path in sources))
  found["ser_jax.features"] = code.hexdigest()
  return found


def cache_path(
  cache: pathlib.Path, digest: str, determinants: dict
) -> pathlib.Path:
  """Where the features of a file are kept.

  Args:
    cache: the folder.
    digest: SHA-256 of the audio file.
    determinants: all else that the features depend on, as plain data.

  Returns:
    The path.
  """
  text = json.dumps([digest, determinants], sort_keys=True)
  return cache / f"{hashlib.sha256(text.encode()).hexdigest()}.npz"


def load_cached(path: pathlib.Path) -> Features | None:
  """Reads cached features; None if they are absent or damaged."""
  try:
    with np.load(path) as stored:
      return dict(stored)
  except (OSError, ValueError, EOFError, zipfile.BadZipFile):
    return None


def extract(
  feature_set: FeatureSet, utterance: Utterance, pad_to: int | None
) -> Features:
  """Features of one utterance, checked against what the set promises.

  Raises:
    UserError: audio that the set cannot use.
    ValueError: the set broke its promise.
  """
  samples, rate, around = excerpt.load(utterance, feature_set.context)
  features = feature_set.extract(samples, rate, around=around, pad_to=pad_to)
  features = excerpt.annotate(features, feature_set, utterance)
  path = utterance.path
  if set(features) != set(feature_set.inputs):
    raise ValueError(
      f"{feature_set.name} made {sorted(features)} of {path}, but promises "
      f"{sorted(feature_set.inputs)}."
    )
  for name, spec in feature_set.inputs.items():
    values = features[name]
    axes = 1 if spec.frame_rate is None else 2
    if (
      values.dtype != spec.dtype
      or values.ndim != axes
      or values.shape[-1] != spec.dim
    ):
      raise ValueError(
        f"{feature_set.name}/{name} of {path} is {values.dtype} "
        f"{values.shape}, but promises {spec.dtype} with {axes} axes, the last "
        f"of {spec.dim}."
      )
    if not values.size or not np.isfinite(values).all():
      raise UserError(
        f"{path}: the {name} features of {feature_set.name} are empty or not "
        "finite; the recording is too short, silent or damaged."
      )
  return features


def extract_all(
  feature_set: str,
  jobs: Sequence[tuple[Recording, pathlib.Path]],
  pad_to: int | None,
  workers: int,
  skipped: Skipped,
) -> Throughput:
  """Fills the cache.

  Args:
    feature_set: its name.
    jobs: recordings, and where to keep their features.
    pad_to: see `padded_length`.
    workers: processes; 0 works in this one.
    skipped: takes the recordings that cannot be used.

  Returns:
    How fast it went.

  Raises:
    UserError: bad audio, all of it named, unless it is skipped; a full disk.
  """
  run = functools.partial(_extract_chunk, feature_set, pad_to)
  chunks = [jobs[start : start + CHUNK] for start in range(0, len(jobs), CHUNK)]
  fresh, heard = 0, 0.0
  start = time.perf_counter()
  with progress(jobs, feature_set, "utterance") as bar:
    for chunk, outcomes in _map(run, chunks, workers):
      for (recording, _), (made, reason) in zip(chunk, outcomes, strict=True):
        if reason:
          skipped.add(recording.utterance, reason)
        elif made:
          fresh += 1
          heard += recording.seconds
      bar.update(len(chunk))
  skipped.check()
  return Throughput(fresh, heard, time.perf_counter() - start, workers)


def _extract_chunk(
  name: str,
  pad_to: int | None,
  jobs: Sequence[tuple[Recording, pathlib.Path]],
) -> list[tuple[bool, str]]:
  """Whether each result was made anew, and why it could not be made."""
  outcomes = []
  for recording, kept in jobs:
    if load_cached(kept) is not None:
      outcomes.append((False, ""))
      continue
    path = recording.utterance.path
    try:
      features = extract(FEATURE_SETS[name], recording.utterance, pad_to)
    except UserError as error:
      reason = str(error)
      outcomes.append(
        (False, reason if str(path) in reason else f"{path}: {reason}")
      )
      continue
    except Exception as error:
      error.add_note(f"while extracting {name} from {path}")
      raise
    _save(kept, features)
    outcomes.append((True, ""))
  return outcomes


def _save(path: pathlib.Path, features: Features) -> None:
  """Writes a file that is whole or absent."""
  unfinished = path.with_suffix(f".{os.getpid()}.tmp")
  try:
    with unfinished.open("wb") as file:
      np.savez(file, **features)
    unfinished.replace(path)
  except OSError as error:
    unfinished.unlink(missing_ok=True)
    raise UserError(
      f"cannot write to {path.parent}: {error.strerror}. Free disk space or "
      "choose another --out; the same command then goes on where it stopped."
    ) from error


def _map(run, chunks, workers: int) -> Iterator[tuple[Sequence, list]]:
  """Chunks and their outcomes, as they are done."""
  if not workers:
    for chunk in chunks:
      yield chunk, run(chunk)
    return
  before = {name: os.environ.get(name) for name in ONE_THREAD}
  os.environ.update(ONE_THREAD)
  pool = futures.ProcessPoolExecutor(
    workers,
    # Forked children of a process with threads may hang.
    mp_context=multiprocessing.get_context("spawn"),
    initializer=_end_with_parent,
  )
  try:
    waiting = {pool.submit(run, chunk): chunk for chunk in chunks}
    for done in futures.as_completed(waiting):
      yield waiting[done], done.result()
  except BrokenProcessPool as error:
    raise UserError(
      "a worker was killed, most likely for want of memory: pass fewer "
      f"--workers than {workers}; the same command then goes on where it "
      "stopped."
    ) from error
  finally:
    pool.shutdown(cancel_futures=True)
    for name, value in before.items():
      if value is None:
        del os.environ[name]
      else:
        os.environ[name] = value


def _end_with_parent() -> None:
  """Ends this worker when its parent is killed, which a pool would not.

  Ctrl-C is the parent's business.
  """
  signal.signal(signal.SIGINT, signal.SIG_IGN)
  parent = multiprocessing.parent_process()

  def watch():
    connection.wait([parent.sentinel])
    os._exit(1)

  threading.Thread(target=watch, daemon=True).start()
