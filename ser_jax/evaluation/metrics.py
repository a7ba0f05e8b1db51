"""Classification metrics from scores: NumPy, float64, no device.

WA is the accuracy; UA (UAR) is the recall averaged over the classes that are
present, and the absent ones are named, since small folds may lack a class.
"""

import numpy as np
from jaxtyping import Float, Int

from ser_jax.errors import UserError

Scores = Float[np.ndarray, "utterances classes"]
Targets = Int[np.ndarray, "utterances"]
Values = Float[np.ndarray, "*runs"] | np.float64  # NumPy's 0-d is a scalar
Confusion = Int[np.ndarray, "*runs classes classes"]


def check_scores(scores: Scores, utterances: np.ndarray) -> None:
  """Refuses predictions that cannot be ranked.

  Raises:
    UserError: NaN or infinite scores, naming the first utterance.
  """
  bad = np.flatnonzero(~np.isfinite(scores).all(axis=1))
  if len(bad):
    raise UserError(
      f"predictions: the scores of utterance {utterances[bad[0]]} (and "
      f"{len(bad) - 1} more) are not finite: the model diverged. Train again "
      "with a lower config.optimizer.learning_rate or with clip_norm."
    )


def confusion_matrix(
  target: Targets, predicted: Targets, classes: int
) -> Confusion:
  """Counts: rows are true classes, columns predicted ones."""
  flat = target.astype(np.int64) * classes + predicted
  return np.bincount(flat, minlength=classes**2).reshape(classes, classes)


def wa(confusion: Confusion) -> Values:
  """Weighted accuracy: the share of utterances classified correctly."""
  correct = np.trace(confusion, axis1=-2, axis2=-1)
  return np.float64(correct) / confusion.sum(axis=(-2, -1))


def uar(confusion: Confusion) -> Values:
  """Unweighted average recall, over the classes present in the target."""
  support = confusion.sum(axis=-1)
  present = support > 0
  correct = np.diagonal(confusion, axis1=-2, axis2=-1)
  recall = np.where(present, correct / np.maximum(support, 1), 0.0)
  return recall.sum(axis=-1) / present.sum(axis=-1)


def per_class(confusion: Confusion) -> list[dict[str, float]]:
  """Precision, recall, F1 and support of each class; 0 where undefined."""
  correct = np.diag(confusion).astype(np.float64)
  support, called = confusion.sum(axis=1), confusion.sum(axis=0)
  precision = correct / np.maximum(called, 1)
  recall = correct / np.maximum(support, 1)
  f1 = 2 * correct / np.maximum(support + called, 1)
  return [
    {
      "precision": float(p),
      "recall": float(r),
      "f1": float(f),
      "support": int(s),
    }
    for p, r, f, s in zip(precision, recall, f1, support, strict=True)
  ]


def cross_entropy(probabilities: Scores, target: Targets) -> float:
  """Mean negative log-probability of the true class, in nats."""
  picked = probabilities[np.arange(len(target)), target].astype(np.float64)
  return float(-np.log(np.maximum(picked, 1e-12)).mean())


def summarize(probabilities: Scores, target: Targets) -> dict[str, float]:
  """`loss`, `uar` and `wa` of one set of predictions."""
  classes = probabilities.shape[1]
  found = confusion_matrix(target, probabilities.argmax(axis=1), classes)
  return {
    "loss": cross_entropy(probabilities, target),
    "uar": float(uar(found)),
    "wa": float(wa(found)),
  }
