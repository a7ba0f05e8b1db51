import numpy as np
import pytest

from ser_jax.evaluation import small_classes


def report(test, validation=None, epochs=20):
  """Supports of the classes by fold; every utterance is recognised."""
  return {
    "classes": ["angry", "disgust", "sad"],
    "epochs": epochs,
    "counts": {
      (fold, seed): {"a": np.diag(each), "b": np.diag(each)}
      for fold, each in test.items()
      for seed in range(2)
    },
    "validation_classes": validation or {},
  }


def test_what_an_utterance_is_worth():
  """1 / 2 / 3 of a fold's UAR, and a fifth of that of five folds' mean."""
  folds = {f"fold{n}": [9, 8, 7] for n in range(5)} | {"fold3": [9, 1, 7]}
  found = small_classes.find([report(folds, {"fold2": [5, 4, 3]})])
  assert found["test"] == {
    **{"count": 2, "name": "disgust", "fold": "fold3"},
    **{"classes": 3, "folds": 5},
  }
  text = small_classes.render(found)
  assert (
    "2 of disgust in fold3 to test on, each worth 16.7 points of the "
    "fold's UAR and 3.3 of the mean of folds"
  ) in text
  assert (
    "3 of sad in fold2 to choose an epoch by, each worth 11.1 points"
  ) in text


def test_a_class_that_a_fold_lacks_is_not_its_smallest():
  found = small_classes.find([report({"a": [0, 4, 5], "b": [6, 6, 6]})])
  assert found["test"] == {
    **{"count": 8, "name": "disgust", "fold": "a", "classes": 2, "folds": 2}
  }
  assert "each worth 6.2 points" in small_classes.render(found)


@pytest.mark.parametrize(
  ("test", "validation", "said"),
  [
    (5, 5, ()),
    (4, 5, ("to test on",)),
    (5, 4, ("to choose an epoch by",)),
    (5, None, ()),
  ],
)
def test_nothing_is_said_of_classes_of_some_size(test, validation, said):
  """Counts are of two speakers each; validation's of both."""
  sides = validation and {"a": [validation] * 3}
  text = small_classes.render(small_classes.find([report({"a": [test] * 3},
                                                         sides)]))  # fmt: skip
  for part in ("to test on", "to choose an epoch by"):
    assert (part in text) == (part in said)
  assert bool(text) == bool(said)


def test_the_smallest_of_all_rows_is_told_and_baselines_choose_no_epoch():
  one = report({"a": [5, 5, 5]}, {"a": [4, 4, 4]})
  other = report({"a": [1, 5, 5]}, {"a": [1, 4, 4]}, epochs=0)
  found = small_classes.find([one, other])
  assert found["test"]["count"] == 2
  assert found["validation"]["count"] == 4


def test_nothing_is_known_without_predictions():
  bare = {"classes": ["angry"], "epochs": 3}
  assert small_classes.find([bare]) == {}
  assert small_classes.render({}) == small_classes.render(None) == ""
