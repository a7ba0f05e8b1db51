"""Yardsticks: against scikit-learn's own pipeline, and without leaks."""

import types

import numpy as np
import pytest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from ser_jax.data.statistics import InputPlan
from ser_jax.errors import UserError
from ser_jax.evaluation import baselines

CLASSES = 3
FOLD = types.SimpleNamespace(
  name="fold0",
  train=np.arange(0, 40),
  validation=np.arange(40, 60),
  test=np.arange(60, 90),
)


def corpus(classes=CLASSES):
  draw = np.random.default_rng(0)
  labels = np.arange(90) % classes
  x = draw.normal(size=(90, 12)) + 2.0 * np.eye(12)[labels]
  return (100.0 + 5.0 * x).astype(np.float32), labels.astype(np.int32)


@pytest.mark.parametrize("classes", [2, CLASSES])
def test_svm_is_scikit_learns_with_the_best_cost(classes):
  x, labels = corpus(classes)
  scores = baselines.linear_svm(x, labels, FOLD, classes, "wa")
  fits = [
    make_pipeline(
      StandardScaler(), SVC(kernel="linear", C=cost, break_ties=True)
    ).fit(x[FOLD.train], labels[FOLD.train])
    for cost in baselines.COSTS
  ]
  right = [
    fit.score(x[FOLD.validation], labels[FOLD.validation]) for fit in fits
  ]
  want = fits[int(np.argmax(right))].predict(x[FOLD.test])
  np.testing.assert_array_equal(scores.argmax(axis=1), want)
  assert (scores.argmax(axis=1) == labels[FOLD.test]).mean() > 0.6


def test_test_speakers_leave_no_trace():
  x, labels = corpus()
  scores = baselines.linear_svm(x, labels, FOLD, CLASSES, "uar")
  other = x.copy()
  other[FOLD.test[1:]] = 0.0
  again = baselines.linear_svm(other, labels, FOLD, CLASSES, "uar")
  np.testing.assert_allclose(again[0], scores[0], rtol=1e-6)


def test_constant_and_wild_features_do_no_harm():
  x, labels = corpus()
  plain = baselines.linear_svm(x, labels, FOLD, CLASSES, "uar")
  x = np.column_stack([x, np.full(90, 3.0), np.zeros(90)]).astype(np.float32)
  x[FOLD.test[0], -1] = 1e12  # constant in training: says nothing
  scores = baselines.linear_svm(x, labels, FOLD, CLASSES, "uar")
  np.testing.assert_allclose(scores, plain, rtol=1e-5, atol=1e-6)


def test_a_class_that_training_lacks_is_never_chosen():
  x, labels = corpus()
  labels[FOLD.train] = np.arange(40) % 2
  scores = baselines.linear_svm(x, labels, FOLD, CLASSES, "uar")
  assert scores.shape == (30, CLASSES)
  assert set(scores.argmax(axis=1)) <= {0, 1}


def test_a_single_class_is_refused():
  x, labels = corpus()
  labels[FOLD.train] = 1
  with pytest.raises(UserError, match="fold0 trains on a single class"):
    baselines.linear_svm(x, labels, FOLD, CLASSES, "uar")


def test_majority_is_that_of_the_training_part():
  x, labels = corpus()
  labels[FOLD.train[:30]] = 2
  scores = baselines.majority(x, labels, FOLD, CLASSES, "uar")
  np.testing.assert_array_equal(scores.argmax(axis=1), np.full(30, 2))


def dataset(features, labels, speakers, normalize):
  """Functionals in memory, on the one fold."""
  plan = InputPlan(
    frames=1,
    stored=1,
    resample=False,
    standardize=normalize == "speaker",
    buckets=(1,),
    normalize=normalize,
  )
  return types.SimpleNamespace(
    shards=types.SimpleNamespace(
      table=types.SimpleNamespace(
        ids=np.arange(90), speakers=speakers, frames={}
      ),
      metadata={"inputs": {"functionals": {"dim": features.shape[1]}}},
      read=lambda index: {"functionals": features[index]},
    ),
    labels=labels,
    classes=("a", "b", "c"),
    protocol=types.SimpleNamespace(folds=(FOLD,), to_run=(FOLD,)),
    examples=types.SimpleNamespace(
      plans={"functionals": plan}, speakers=speakers
    ),
    contours=None,
  )


@pytest.mark.parametrize("normalize", ["train", "speaker"])
def test_functionals_are_normalised_by_speaker_where_asked(normalize):
  x, labels = corpus()
  speakers = np.repeat(np.arange(6, dtype=np.int32), 15)

  def scores(features):
    found = dataset(features, labels, speakers, normalize)
    predict = baselines.predict(
      baselines.linear_svm, found, "uar", "functionals"
    )
    return predict["scores"]

  # Each speaker at a level and in a range of their own.
  level = (10.0 * speakers[:, None]).astype(np.float32)
  other = level + x * (1 + speakers[:, None])
  same = np.allclose(scores(other), scores(x), atol=1e-3)
  assert same == (normalize == "speaker")
  if normalize == "train":
    expected = x
  else:
    each = x.reshape(6, 15, -1)
    expected = (each - each.mean(1, keepdims=True)) / each.std(1, keepdims=True)
  np.testing.assert_allclose(
    scores(x),
    baselines.linear_svm(
      expected.reshape(x.shape), labels, FOLD, CLASSES, "uar"
    ),
    atol=1e-3,
  )
