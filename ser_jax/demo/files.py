"""Files and folders -> predictions.

    paths -> clips, in processes -> batches of one shape -> recordings

Features are made while the device predicts; no more of them wait than a few
batches hold, however long the list is.
"""

import collections
import dataclasses
import functools
import itertools
import logging
import math
import multiprocessing
import os
import pathlib
import signal
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent import futures
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import connection

import numpy as np
from jaxtyping import Float

from ser_jax.demo.clips import Clip, Windows, read_clips
from ser_jax.demo.output import Recording
from ser_jax.errors import UserError
from ser_jax.evaluation import contours
from ser_jax.inference import (
  Predictor,
  Recipe,
  contour_frames,
  standardize_speaker,
)
from ser_jax.progress import progress

LOG = logging.getLogger(__name__)
SUFFIXES = (
  *(".wav", ".flac", ".ogg", ".opus", ".mp3", ".aiff", ".aif", ".au"),
  *(".caf", ".w64", ".rf64"),
)
# Files under which starting processes takes longer than it saves.
ALONE = 16
WAITING = 8  # files in the hands of each process

Read = tuple[pathlib.Path, list[Clip], str]  # and why there are no clips


def find_files(
  given: Sequence[str],
) -> tuple[list[pathlib.Path], list[pathlib.Path]]:
  """The audio files named, and those in the folders named.

  Args:
    given: files, or folders, which are searched with all below.

  Returns:
    Each file once, in order, and those of the folders that are left out, since
    their names do not end as those of audio do.

  Raises:
    UserError: a path that does not exist, or no audio at all.
  """
  found, others = [], []
  for path in map(pathlib.Path, given):
    if path.is_dir():
      for below in sorted(p for p in path.rglob("*") if p.is_file()):
        is_audio = below.suffix.lower() in SUFFIXES
        (found if is_audio else others).append(below)
    elif path.is_file():
      found.append(path)
    else:
      raise UserError(f"there is no file or folder {path}: correct its name.")
  if not found:
    raise UserError(
      f"there is no audio in {', '.join(given) or 'what was given'}: name "
      f"files, or folders with files ending in {', '.join(SUFFIXES)}."
    )
  return list(dict.fromkeys(found)), list(dict.fromkeys(others))


def predict_files(
  predictor: Predictor,
  paths: Sequence[pathlib.Path],
  windows: Windows,
  *,
  workers: int,
  same_speaker: bool = False,
) -> tuple[list[Recording], dict[str, str]]:
  """Predicts recordings by the average of a predictor's runs.

  Args:
    predictor: trained runs.
    paths: audio files.
    windows: how long ones are cut.
    workers: processes that make features.
    same_speaker: the files are of one speaker, by whose own statistics
      features may be standardised.

  Returns:
    What was predicted, in order, and why a file could not be read, by path.

  Raises:
    UserError: a system that needs to know the speaker.
  """
  check_speaker(predictor.recipe, same_speaker)
  bad, recordings = {}, []

  def readable() -> Iterator[Read]:
    for path, clips, reason in progress(
      _read_all(paths, predictor.recipe, windows, workers),
      *("predicting", "file", len(paths)),
    ):
      if reason:
        bad[str(path)] = reason
      else:
        yield path, clips, reason

  read = readable()
  if predictor.recipe.by_speaker:
    read = _standardized(predictor.recipe, list(read))
  for group in _batches(read, predictor.batch_size):
    recordings += _predict(predictor, group)
  return recordings, bad


def check_speaker(recipe: Recipe, same_speaker: bool) -> None:
  """Refuses to guess whose statistics to standardise by.

  Raises:
    UserError: a system that needs to know the speaker.
  """
  if recipe.by_speaker and not same_speaker:
    raise UserError(
      f"{recipe.system} standardises {', '.join(recipe.by_speaker)} by each "
      "speaker's own mean and deviation (transductive): give the recordings of "
      "one speaker and --same_speaker, or train it with statistics of the "
      "training part (--config.data.inputs.NAME.normalize=train)."
    )
  if same_speaker and not recipe.by_speaker:
    raise UserError(
      f"--same_speaker has no use: {recipe.system} does not standardise by "
      "speaker. Leave it out."
    )


def _standardized(recipe: Recipe, read: list[Read]) -> list[Read]:
  """The same, features standardised over all of them."""
  clips = [c for _, found, _ in read for c in found if c.features is not None]
  LOG.info(
    "%s standardised by the mean and deviation of %d windows",
    ", ".join(recipe.by_speaker),
    len(clips),
  )
  features = [clip.features for clip in clips]
  reasons = [reason for *_, reason in read if reason]
  changed = iter(standardize_speaker(recipe, features, reasons))
  return [
    (
      path,
      [
        clip
        if clip.features is None
        else dataclasses.replace(clip, features=next(changed))
        for clip in found
      ],
      reason,
    )
    for path, found, reason in read
  ]


def _batches(read: Iterable[Read], size: int) -> Iterator[list[Read]]:
  """Files whose windows fill a batch, or several."""
  group, count = [], 0
  for item in read:
    windows = sum(clip.features is not None for clip in item[1])
    # A whole file at a time: what overflows would leave a batch half empty.
    if group and count + windows > size and windows <= size:
      yield group
      group, count = [], 0
    group.append(item)
    count += windows
    if count >= size:
      yield group
      group, count = [], 0
  if group:
    yield group


def _predict(predictor: Predictor, group: list[Read]) -> list[Recording]:
  """What the files of a group are; the features are dropped."""
  features = [
    c.features for _, clips, _ in group for c in clips if c.features is not None
  ]
  found = iter(predictor.scores(features).mean(axis=0))
  if predictor.recipe.contour_rate is not None:
    return _contours(predictor.recipe, group, found)
  unknown = np.full(len(predictor.recipe.classes), np.nan, np.float32)
  return [
    Recording(
      path,
      [dataclasses.replace(clip, features=None) for clip in clips],
      np.stack(
        [unknown if clip.features is None else next(found) for clip in clips]
      ),
    )
    for path, clips, _ in group
  ]


def _contours(
  recipe: Recipe, group: list[Read], found: Iterator
) -> list[Recording]:
  """One contour a file, of windows that overlap."""
  recordings = []
  for path, clips, _ in group:
    scores = [next(found) for clip in clips if clip.features is not None]
    contour = join_contour(recipe, clips, scores, str(path))
    kept = [dataclasses.replace(clip, features=None) for clip in clips]
    recordings.append(Recording(path, kept, contour))
  return recordings


def join_contour(
  recipe: Recipe,
  clips: Sequence[Clip],
  scores: Iterable[Float[np.ndarray, "_ targets"]],
  source: str,
) -> Float[np.ndarray, "frames targets"]:
  """One contour of a recording's windows, which may overlap.

  Args:
    recipe: of the model.
    clips: all windows, in order.
    scores: of each window that has features.
    source: what messages call the recording.

  Returns:
    Values of every frame; NaN where no window has features.

  Raises:
    UserError: values that are not finite.
  """
  rate = recipe.contour_rate
  heard = [clip for clip in clips if clip.features is not None]
  starts = [round(clip.start * rate) for clip in heard]
  windows = [
    values[: contour_frames(recipe, clip.features)]
    for clip, values in zip(heard, scores, strict=True)
  ]
  last = math.ceil(round(clips[-1].end * rate, 3))
  ends = [s + len(w) for s, w in zip(starts, windows, strict=True)]
  known = np.zeros(max(last, *ends), bool)
  for start, end in zip(starts, ends, strict=True):
    known[start:end] = True
  # Unknown frames are stepped over: those that are known lie end to end.
  places = (np.cumsum(known) - 1)[starts].tolist()
  contour = np.full((len(known), len(recipe.classes)), np.nan, np.float32)
  contour[known] = contours.merge(windows, places, source)
  return contour


def read_one(recipe: Recipe, windows: Windows, path: pathlib.Path) -> Read:
  """The clips of a file, or why there are none."""
  try:
    return path, read_clips(path, recipe, windows, source=str(path)), ""
  except UserError as error:
    return path, [], str(error)


def _read_all(
  paths: Sequence[pathlib.Path], recipe: Recipe, windows: Windows, workers: int
) -> Iterator[Read]:
  """Clips of every file, in order."""
  read = functools.partial(read_one, recipe, windows)
  if workers < 2 or len(paths) < ALONE:
    yield from map(read, paths)
    return
  pool = futures.ProcessPoolExecutor(
    workers,
    # Forked children of a process with threads may hang.
    mp_context=multiprocessing.get_context("spawn"),
    initializer=_start_worker,
  )
  try:
    left = iter(paths)
    waiting = collections.deque(
      pool.submit(read, path)
      for path in itertools.islice(left, WAITING * workers)
    )
    while waiting:
      done = waiting.popleft().result()
      for path in itertools.islice(left, 1):
        waiting.append(pool.submit(read, path))
      yield done
  except BrokenProcessPool as error:
    raise UserError(
      "a process that makes features was killed, most likely for want of "
      f"memory: pass fewer --workers than {workers}."
    ) from error
  finally:
    pool.shutdown(cancel_futures=True)


def _start_worker() -> None:
  """One core's worth, which ends when its parent is killed."""
  import threadpoolctl

  threadpoolctl.threadpool_limits(1)
  signal.signal(signal.SIGINT, signal.SIG_IGN)
  parent = multiprocessing.parent_process()

  def watch():
    connection.wait([parent.sentinel])
    os._exit(1)

  threading.Thread(target=watch, daemon=True).start()
