"""What a network must beat: linear SVMs on functionals, the majority class.

On the folds of a dataset, with the training part's statistics, the cost chosen
by the validation speakers; predictions come out as those of a network do.
Functionals are first normalised by speaker where their input says so.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int

from ser_jax.data.dataset import fold_statistics
from ser_jax.data.moments import is_constant
from ser_jax.errors import UserError
from ser_jax.evaluation import metrics

COSTS = tuple(10.0**power for power in range(-5, 1))
MAJORITY = "majority"

Features = Float[np.ndarray, "all dim"]
Labels = Int[np.ndarray, "all"]
Scores = Float[np.ndarray, "test classes"]
# Features of every utterance, labels, a fold, classes, metric -> test scores.
Baseline = Callable[[Features, Labels, object, int, str], Scores]


def linear_svm(
  features: Features, labels: Labels, fold, classes: int, metric: str
) -> Scores:
  """A linear support vector machine on standardised functionals.

  Args:
    features: of every utterance; only those of the fold are looked at.
    labels: class indices.
    fold: `train`, `validation` and `test` indices.
    classes: how many there are.
    metric: `uar` or `wa`: what the cost is chosen by, smaller costs first.

  Returns:
    Decision values of the test part, the lowest for classes that the training
    part lacks.

  Raises:
    UserError: the training part has a single class.
  """
  from sklearn.svm import SVC

  present = np.unique(labels[fold.train])
  if len(present) < 2:
    raise UserError(
      f"{fold.name} trains on a single class: choose another protocol."
    )
  x = _standardize(features, fold.train)
  kernels = {
    part: x[getattr(fold, part)] @ x[fold.train].T
    for part in ("train", "validation", "test")
  }
  best, chosen = -1.0, None
  for cost in COSTS:
    machine = SVC(
      kernel="precomputed",
      C=cost,
      decision_function_shape="ovr",
      break_ties=True,
    ).fit(kernels["train"], labels[fold.train])
    scores = {
      part: _columns(
        machine.decision_function(kernels[part]), machine.classes_, classes
      )
      for part in ("validation", "test")
    }
    counts = metrics.confusion_matrix(
      labels[fold.validation], scores["validation"].argmax(axis=1), classes
    )
    score = {"uar": metrics.uar, "wa": metrics.wa}[metric](counts)
    if score > best:
      best, chosen = score, scores["test"]
  return chosen


def _standardize(
  features: Features, train: Int[np.ndarray, "n"]
) -> Float[np.ndarray, "all dim"]:
  """By the training part; what is constant there becomes 0."""
  part = features[train].astype(np.float64)
  mean, deviation = part.mean(axis=0), part.std(axis=0)
  constant = is_constant(mean, deviation)
  x = (features - mean) / np.where(constant, 1.0, deviation)
  # A test utterance may lie as far out as it likes: at most 10 deviations.
  return np.clip(np.where(constant, 0.0, x), -10.0, 10.0)


def _columns(
  values: Float[np.ndarray, "..."],
  present: Int[np.ndarray, "present"],
  classes: int,
) -> Float[np.ndarray, "n classes"]:
  """Decision values with a column for every class."""
  if values.ndim == 1:  # two classes: one value, in favour of the second
    values = np.stack([-values, values], axis=1)
  every = np.full((len(values), classes), values.min() - 1.0)
  every[:, present] = values
  return every


def majority(
  features: Features, labels: Labels, fold, classes: int, metric: str
) -> Scores:
  """The training part's most frequent class, whatever is said."""
  del features, metric
  counts = np.bincount(labels[fold.train], minlength=classes)
  scores = np.zeros((len(fold.test), classes))
  scores[:, counts.argmax()] = 1.0
  return scores


def predict(
  baseline: Baseline, dataset, metric: str, key: str | None
) -> dict[str, np.ndarray]:
  """Predictions of a baseline on every fold of a dataset.

  Args:
    baseline: `linear_svm` or `majority`.
    dataset: see `ser_jax.data.dataset.Dataset`.
    metric: what validation speakers choose by.
    key: the input that holds functionals; None for a baseline without.

  Returns:
    The arrays of `predictions.npz`, with seed 0.
  """
  table, labels = dataset.shards.table, dataset.labels
  features = np.zeros((len(labels), 1), np.float32)
  if key is not None:
    features = np.stack(
      [dataset.shards.read(index)[key] for index in range(len(labels))]
    )
  parts = []
  for fold in dataset.protocol.to_run:
    scores = baseline(
      _normalized(features, dataset, fold, key),
      *(labels, fold, len(dataset.classes), metric),
    )
    parts.append(
      {
        "utterance": table.ids[fold.test],
        "speaker": table.speakers[fold.test],
        "fold": np.full(len(fold.test), fold.name),
        "seed": np.zeros(len(fold.test), int),
        "scores": scores.astype(np.float32),
        "target": labels[fold.test],
      }
    )
  joined = {
    name: np.concatenate([part[name] for part in parts]) for name in parts[0]
  }
  return joined | {"classes": np.array(dataset.classes)}


def _normalized(features: Features, dataset, fold, key: str | None) -> Features:
  """By each speaker's statistics, those that a network has, if it is asked."""
  plans = dataset.examples.plans
  if key is None or plans[key].normalize != "speaker":
    return features
  found, speakers = fold_statistics(dataset, fold), dataset.examples.speakers
  return (features - found.mean[key][speakers]) / found.deviation[key][speakers]
