import numpy as np
import pytest
import sklearn.metrics

from ser_jax.errors import UserError
from ser_jax.evaluation import metrics


@pytest.fixture
def random_predictions():
  draw = np.random.default_rng(0)
  target = draw.integers(0, 4, 200)
  predicted = np.where(draw.random(200) < 0.6, target, draw.integers(0, 4, 200))
  return target, predicted


def test_by_hand():
  # Class 0: two of three right; class 1: one of one right.
  found = metrics.confusion_matrix(
    np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1]), 2
  )
  assert found.tolist() == [[2, 1], [0, 1]]
  assert metrics.wa(found) == 3 / 4
  assert metrics.uar(found) == pytest.approx((2 / 3 + 1) / 2)


def test_against_scikit_learn(random_predictions):
  target, predicted = random_predictions
  found = metrics.confusion_matrix(target, predicted, 4)
  np.testing.assert_array_equal(
    found, sklearn.metrics.confusion_matrix(target, predicted)
  )
  assert metrics.wa(found) == pytest.approx(
    sklearn.metrics.accuracy_score(target, predicted)
  )
  assert metrics.uar(found) == pytest.approx(
    sklearn.metrics.balanced_accuracy_score(target, predicted)
  )
  rows = metrics.per_class(found)
  theirs = sklearn.metrics.precision_recall_fscore_support(target, predicted)
  for name, values in zip(
    ("precision", "recall", "f1", "support"), theirs, strict=True
  ):
    assert [row[name] for row in rows] == pytest.approx(values.tolist())


def test_cross_entropy_against_scikit_learn():
  draw = np.random.default_rng(1)
  scores = draw.dirichlet(np.ones(3), 50)
  target = draw.integers(0, 3, 50)
  assert metrics.cross_entropy(scores, target) == pytest.approx(
    sklearn.metrics.log_loss(target, scores, labels=[0, 1, 2])
  )


def test_absent_classes_do_not_count():
  found = metrics.confusion_matrix(
    np.array([0, 0, 1, 1]), np.array([0, 0, 1, 2]), 3
  )
  assert metrics.uar(found) == pytest.approx((1.0 + 0.5) / 2)


def test_stacks_of_matrices_give_stacks_of_values(random_predictions):
  found = metrics.confusion_matrix(*random_predictions, 4)
  both = metrics.uar(np.stack([found, 2 * found]))
  assert both == pytest.approx([metrics.uar(found)] * 2)


def test_scores_that_are_not_finite_name_the_utterance():
  scores = np.array([[0.5, 0.5], [np.nan, 0.5]])
  with pytest.raises(UserError, match="utterance u2"):
    metrics.check_scores(scores, np.array(["u1", "u2"]))
