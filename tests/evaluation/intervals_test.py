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


def test_an_interval_is_as_wide_as_the_theory_has_it():
  """Of 200 speakers, each as much of the pooled figure as any other."""
  accuracies = np.random.default_rng(0).normal(0.6, 0.1, 200).clip(0, 1)
  counts = speakers(accuracies, each=1000)
  low, high = statistics.speaker_bootstrap(counts, metrics.uar)
  error = np.std([metrics.uar(each) for each in counts]) / 200**0.5
  assert high - low == pytest.approx(2 * 1.96 * error, rel=0.06)


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


@pytest.mark.parametrize("pairs", [3, 9, 14])
def test_permutation_counts_every_pattern_of_signs(pairs):
  """Up to 14 pairs, and the observed signs are among them."""
  ours = np.random.default_rng(0).integers(-3, 9, pairs)
  sums = [0]
  for value in ours.tolist():
    sums = [*(s + value for s in sums), *(s - value for s in sums)]
  reached = sum(abs(s) >= abs(sum(ours.tolist())) for s in sums)
  assert 0 < reached < 2**pairs == len(sums)
  p = statistics.paired_permutation(ours.astype(np.float64))
  assert p == reached / 2**pairs


def test_permutation_by_draws_is_never_0():
  """Of 40 alike pairs no draw is as far out as what was observed."""
  assert 0 < statistics.paired_permutation(np.full(40, 0.3)) < 1e-3


def test_permutation_by_draws_agrees_with_the_exact_one():
  draw = np.random.default_rng(0)
  ours = draw.normal(0.4, 1.0, 16)
  p = statistics.paired_permutation(ours)
  assert p == pytest.approx(scipy.stats.ttest_1samp(ours, 0).pvalue, abs=0.03)


def test_holm_by_hand():
  found = statistics.holm(np.array([0.01, 0.04, 0.03]))
  assert found == pytest.approx([0.03, 0.06, 0.06])
