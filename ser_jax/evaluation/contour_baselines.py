"""What a network must beat in time: a linear regressor on functionals.

Trigeorgis et al. 2016 take libsvm's linear support vector regression. Frames
are many and features few: liblinear's primal solver with the squared
epsilon-insensitive loss takes seconds where libsvm would take hours, and
converges at every cost.
"""

import logging

import numpy as np
from jaxtyping import Bool, Float, Int

from ser_jax.data.moments import moments
from ser_jax.data.recordings import recording_of, start_of
from ser_jax.evaluation import contours

LOG = logging.getLogger(__name__)
COSTS = tuple(10.0**power for power in range(-6, 1))
EPSILON = 0.1  # In deviations of the target.
VALIDATION = "predictions_validation"
FURTHEST = 10.0  # Features are cut there, in deviations.

Features = Float[np.ndarray, "_ dim"]
Values = Float[np.ndarray, "_ targets"]


def linear_svr(
  train: tuple[Features, Values],
  validation: tuple[Features, Values],
) -> tuple[object, list[float]]:
  """A regressor of each target, the cost of each chosen by its CCC.

  Args:
    train: features and targets of frames.
    validation: likewise, of other speakers.

  Returns:
    What makes predictions `[frames, targets]` of features, and the costs.
  """
  from sklearn.svm import LinearSVR

  standard, (mean, spread) = moments(train[0]), moments(train[1])
  x = _standardize(train[0], standard)
  wanted = (train[1] - mean) / spread
  machines, costs = [], []
  for number in range(wanted.shape[1]):
    best = -np.inf
    for cost in COSTS:
      machine = LinearSVR(
        C=cost,
        epsilon=EPSILON,
        loss="squared_epsilon_insensitive",
        dual=False,
        max_iter=10000,
        random_state=0,
      ).fit(x, wanted[:, number])
      found = machine.predict(_standardize(validation[0], standard))
      found = found * spread[number] + mean[number]
      reached = _ccc(found, validation[1][:, number])
      if reached > best:
        best, chosen = reached, (machine, cost)
    machines.append(chosen[0])
    costs.append(chosen[1])

  def predict(features: Features) -> Values:
    values = _standardize(features, standard)
    columns = [machine.predict(values) for machine in machines]
    return np.stack(columns, axis=1) * spread + mean

  return predict, costs


def predict(dataset, key: str) -> dict[str, dict[str, np.ndarray]]:
  """Predictions on every fold of a dataset.

  Args:
    dataset: see `ser_jax.data.dataset.Dataset`, with contours.
    key: the input that holds functionals in time.

  Returns:
    The arrays of `predictions` and of `predictions_validation`, with seed 0.
  """
  targets = dataset.contours
  everyone = range(len(targets.frames))
  features = [
    dataset.shards.read(index)[key][: targets.frames[index]]
    for index in everyone
  ]
  wanted = [targets.values[i][: targets.frames[i]] for i in everyone]
  once = frames_once(dataset.shards.table.ids, targets.frames, targets.rate)

  def frames_of(part: Int[np.ndarray, "n"]) -> tuple[Features, Values]:
    return tuple(
      np.concatenate([values[i][once[i]] for i in part]).astype(np.float64)
      for values in (features, wanted)
    )

  parts = {"test": ("predictions", []), "validation": (VALIDATION, [])}
  for fold in dataset.protocol.to_run:
    regressor, costs = linear_svr(
      frames_of(fold.train), frames_of(fold.validation)
    )
    LOG.info("%s: validation chose the costs %s", fold.name, costs)
    for side, (_, found) in parts.items():
      index = getattr(fold, side)
      scores = np.zeros((len(index), *targets.values.shape[1:]), np.float32)
      for row, i in enumerate(index):
        scores[row, : len(features[i])] = regressor(
          features[i].astype(np.float64)
        )
      found.append(_arrays(dataset, fold.name, index, scores))
  return {
    stem: {name: np.concatenate([p[name] for p in found]) for name in found[0]}
    | {"classes": np.array(targets.names)}
    for stem, found in parts.values()
  }


def frames_once(
  ids: np.ndarray, frames: Int[np.ndarray, "all"], rate: float
) -> list[Bool[np.ndarray, "_"]]:
  """Which frames of each utterance to learn from.

  Windows of a recording overlap. Each frame is taken from the window of which
  it is nearest to the middle: functionals know least at a window's ends.

  Args:
    ids: of the utterances, windows as `RECORDING@SECONDS`.
    frames: of each utterance.
    rate: frames a second.

  Returns:
    A mask over the frames of each utterance.
  """
  windows = {}
  for index, name in enumerate(ids):
    start = start_of(str(name), rate)
    windows.setdefault(recording_of(str(name)), []).append((start, index))
  masks = [np.ones(count, bool) for count in frames]
  for found in windows.values():
    end = max(start + frames[index] for start, index in found)
    best, owner = np.full(end, -1), np.full(end, -1)
    for start, index in found:
      place = np.arange(frames[index])
      near = np.minimum(place, place[::-1])
      inside = slice(start, start + frames[index])
      better = near > best[inside]
      best[inside] = np.where(better, near, best[inside])
      owner[inside] = np.where(better, index, owner[inside])
    for start, index in found:
      masks[index] = owner[start : start + frames[index]] == index
  return masks


def _arrays(
  dataset, fold: str, index: np.ndarray, scores: np.ndarray
) -> dict[str, np.ndarray]:
  table, targets = dataset.shards.table, dataset.contours
  return {
    "utterance": table.ids[index],
    "speaker": table.speakers[index],
    "fold": np.full(len(index), fold),
    "seed": np.zeros(len(index), int),
    "scores": scores,
    "target": targets.values[index],
    "frames": targets.frames[index],
  }


def _standardize(features: Features, standard) -> Features:
  mean, deviation = standard
  return np.clip((features - mean) / deviation, -FURTHEST, FURTHEST)


def _ccc(
  found: Float[np.ndarray, "frames"], wanted: Float[np.ndarray, "frames"]
) -> float:
  sums = contours.moments(found[:, None], wanted[:, None], wanted.mean()[None])
  return float(contours.ccc(sums)[0])
