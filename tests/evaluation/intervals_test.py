import numpy as np
import pytest
import scipy.stats

from ser_jax.evaluation import metrics, statistics


def test_mean_and_std_have_one_degree_less():
  found = statistics.mean_and_std(np.array([1.0, 2.0, 4.0]))
  assert found["mean"] == pytest.approx(7 / 3)
  assert found["std"] == pytest.approx(np.std([1, 2, 4], ddof=1))
  assert statistics.mean_and_std(np.array([0.5])) == {"mean": 0.5, "std": 0.0}


def speakers(accuracies, each=50):
  return np.stack(
    [
      np.array([[round(a * each), each - round(a * each)], [0, each]])
      for a in accuracies
    ]
  )


def test_bootstrap_brackets_the_pooled_value_and_is_repeatable():
  counts = speakers(np.linspace(0.4, 0.9, 10))
  low, high = statistics.speaker_bootstrap(counts, metrics.uar)
  assert low < metrics.uar(counts.sum(axis=0)) < high
  again = statistics.speaker_bootstrap(counts, metrics.uar)
  assert [low, high] == again


def test_too_few_speakers_have_no_interval():
  """Of two it would be from the worse to the better."""
  accuracies = np.linspace(0.4, 0.9, statistics.FEWEST)
  assert statistics.speaker_bootstrap(speakers(accuracies), metrics.uar)
  few = speakers(accuracies[1:])
  assert statistics.speaker_bootstrap(few, metrics.uar) is None


def test_speakers_that_are_alike_give_no_width():
  low, high = statistics.speaker_bootstrap(speakers([0.6] * 5), metrics.wa)
  assert low == high == pytest.approx(0.8)


def test_intervals_are_wider_where_speakers_differ():
  def width(spread):
    counts = speakers(np.linspace(0.6 - spread, 0.6 + spread, 8))
    low, high = statistics.speaker_bootstrap(counts, metrics.uar)
    return high - low

  assert width(0.3) > 2 * width(0.1)


def test_bootstrap_covers():
  """About 95 % of intervals over 20 speakers hold the true mean."""
  draw = np.random.default_rng(0)
  hits = 0
  for trial in range(150):
    counts = speakers(np.clip(draw.normal(0.6, 0.1, 20), 0, 1), each=1000)
    low, high = statistics.speaker_bootstrap(
      counts, metrics.uar, seed=trial, resamples=400
    )
    hits += low <= (0.6 + 1.0) / 2 <= high
  assert 0.86 <= hits / 150 <= 1.0


def test_permutation_by_hand():
  # Of 8 sign patterns only +++ and --- reach the observed sum.
  assert statistics.paired_permutation(np.array([1.0, 2.0, 3.0])) == 2 / 8


def test_permutation_by_draws_agrees_with_the_exact_one():
  draw = np.random.default_rng(0)
  ours = draw.normal(0.4, 1.0, 16)
  p = statistics.paired_permutation(ours)
  assert p == pytest.approx(scipy.stats.ttest_1samp(ours, 0).pvalue, abs=0.03)


def test_holm_by_hand():
  found = statistics.holm(np.array([0.01, 0.04, 0.03]))
  assert found == pytest.approx([0.03, 0.06, 0.06])
