"""Differences of pooled figures, by hand and by theory."""

import numpy as np
import pytest

from ser_jax.evaluation import metrics, pooled


def counts(*right_of):
  """Of two classes, a recall of the first; the second is never missed."""
  return np.array([[right_of[0], right_of[1] - right_of[0]], [0, right_of[1]]])


def report(accuracies, each=100, seeds=1, epochs=20):
  """A fold a speaker, the same in all seeds."""
  return {
    "epochs": epochs,
    "counts": {
      (f"fold{s}", seed): {f"speaker{s}": counts(round(a * each), each)}
      for s, a in enumerate(accuracies)
      for seed in range(seeds)
    },
  }


def difference(ours, theirs, metric=metrics.uar):
  return pooled.difference(ours, theirs, metric)["pooled_difference"]


def test_predictions_are_counted_by_run_and_speaker():
  found = pooled.count(
    {
      "fold": np.array(["a", "a", "a", "b"]),
      "seed": np.array([0, 0, 0, 1]),
      "speaker": np.array(["x", "y", "x", "z"]),
      "target": np.array([0, 1, 0, 1]),
      "scores": np.eye(2)[[0, 0, 1, 1]],
      "classes": np.array(["low", "high"]),
    }
  )
  assert found.keys() == {("a", 0), ("b", 1)}
  assert found["a", 0].keys() == {"x", "y"}
  np.testing.assert_array_equal(found["a", 0]["x"], [[1, 1], [0, 0]])
  np.testing.assert_array_equal(found["a", 0]["y"], [[0, 0], [1, 0]])
  np.testing.assert_array_equal(found["b", 1]["z"], [[0, 0], [0, 1]])


def test_a_rare_class_of_a_fold_weighs_as_its_utterances_do():
  """Folds have 1 and 9 of the class: the one is .5 of the mean of folds."""

  def of(rare):
    return {
      "epochs": 1,
      "counts": {
        ("a", 0): {"x": counts(rare, 1)},
        ("b", 0): {"y": counts(9, 9)},
      },
    }

  found = difference(of(1), of(0))
  assert found["value"] == pytest.approx(0.5 * 1 / 10)
  assert found["ci95"] is None  # two speakers


def test_a_seed_that_lost_folds_is_left_out_of_draws_without_its_speakers():
  """The seeds agree: whoever is drawn, the difference is the same."""
  theirs = np.linspace(0.1, 0.8, 8)
  ours, theirs = report(theirs + 0.1, seeds=2), report(theirs, seeds=2)
  for each in (ours, theirs):
    for number in range(1, 8):  # seed 1 has the first fold alone
      del each["counts"][f"fold{number}", 1]
  found = difference(ours, theirs)
  assert found["value"] == pytest.approx(0.05)
  assert found["ci95"] == pytest.approx([0.05, 0.05])


def test_both_rows_have_the_same_speakers_drawn():
  """Speakers are far apart, the rows are not: their difference is certain."""
  theirs = np.linspace(0.1, 0.8, 8)
  found = difference(report(theirs + 0.1), report(theirs))
  assert found["value"] == pytest.approx(0.05)
  assert found["ci95"] == pytest.approx([0.05, 0.05])


def test_an_interval_is_as_wide_as_the_theory_has_it():
  draw = np.random.default_rng(0)
  theirs = draw.uniform(0.1, 0.6, 200)
  ours = theirs + draw.normal(0.1, 0.1, 200).clip(-0.1, 0.4)
  ours, theirs = ours.round(3), theirs.round(3)
  found = difference(report(ours, 1000), report(theirs, 1000))
  low, high = found["ci95"]
  error = np.std((ours - theirs) / 2) / 200**0.5
  assert low < found["value"] < high
  assert high - low == pytest.approx(2 * 1.96 * error, rel=0.06)


def test_seeds_are_averaged_over_those_that_both_have():
  theirs = report([0.5] * 6, seeds=2)
  ours = report([0.6] * 6, seeds=3)
  for (_, seed), speakers in ours["counts"].items():
    for name in speakers:
      speakers[name] = counts((60, 80, 0)[seed], 100)
  found = difference(ours, theirs)
  assert found["value"] == pytest.approx(((0.1 + 0.3) / 2) / 2)
  assert found["ci95"] == pytest.approx([0.1, 0.1])


def test_folds_that_one_row_lacks_are_left_out():
  ours, theirs = report([0.9, 0.5, 0.5]), report([0.1, 0.4, 0.4])
  del theirs["counts"]["fold0", 0]
  assert difference(ours, theirs)["value"] == pytest.approx(0.05)


def test_a_baseline_stands_for_every_seed():
  ours = report([0.6] * 5, seeds=3)
  svm = report([0.5] * 5, epochs=0)
  assert difference(ours, svm)["value"] == pytest.approx(0.05)
  svm["epochs"] = 1
  for seed in (1, 2):
    for fold in range(5):
      del ours["counts"][f"fold{fold}", seed]
  assert difference(ours, svm)["value"] == pytest.approx(0.05)


def test_rows_that_tested_others_are_not_compared():
  ours = report([0.5] * 5)
  assert not pooled.difference(ours, report([0.5] * 5, each=50), metrics.uar)
  assert not pooled.difference(ours, {"epochs": 1}, metrics.uar)
  assert not pooled.difference(ours | {"counts": {}}, ours, metrics.uar)
