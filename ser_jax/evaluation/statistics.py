"""Intervals and paired tests over speakers, folds and seeds.

Utterances of one speaker are not independent: intervals resample speakers.
Folds and seeds give means and standard deviations (ddof 1). Seeds of one fold
test the same speakers: tests pair folds.
"""

import itertools
from collections.abc import Callable

import numpy as np
import scipy.stats
from jaxtyping import Float, Num

RESAMPLES = 2000
PERMUTATIONS = 20000
# Speakers under which there is no interval, and under which it is too narrow.
FEWEST, FEW = 5, 11


def mean_and_std(values: Float[np.ndarray, "runs"]) -> dict[str, float]:
  """Mean and sample standard deviation (ddof 1; 0 for a single run)."""
  std = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
  return {"mean": float(np.mean(values)), "std": std}


def speaker_bootstrap(
  confusions: Num[np.ndarray, "speakers rows columns"],
  metric: Callable[[np.ndarray], np.ndarray],
  *,
  seed: int = 0,
  resamples: int = RESAMPLES,
) -> list[float] | None:
  """A 95 % interval of a pooled metric, speakers drawn with replacement.

  Too few speakers do not show how speakers differ: of two, the interval would
  be from the worse to the better one.

  Args:
    confusions: counts, or other sums, of each speaker (all seeds together).
    metric: added up, `[..., rows, columns]`, to values.
    seed: of the draws.
    resamples: draws.

  Returns:
    The 2.5 and 97.5 percentiles; None of fewer than `FEWEST` speakers.
  """
  speakers = len(confusions)
  if speakers < FEWEST:
    return None
  draws = np.random.default_rng(seed).multinomial(
    speakers, np.full(speakers, 1 / speakers), size=resamples
  )
  pooled = np.einsum("rs,sij->rij", draws, confusions)
  return np.percentile(metric(pooled), [2.5, 97.5]).tolist()


def one_tailed_t_test(
  ours: Float[np.ndarray, "runs"], theirs: Float[np.ndarray, "others"]
) -> float:
  """One-tailed p-value of Welch's t-test that our mean is the higher one."""
  if np.ptp(ours) == np.ptp(theirs) == 0:
    return float(np.mean(ours) <= np.mean(theirs))
  return float(
    scipy.stats.ttest_ind(
      ours, theirs, equal_var=False, alternative="greater"
    ).pvalue
  )


def paired_permutation(differences: Float[np.ndarray, "pairs"]) -> float:
  """Two-sided p-value of a sign-flipping test of the mean difference.

  Exact up to 14 pairs, by draws beyond; of n pairs it is at least 2 / 2^n.

  Args:
    differences: of pairs that are independent of one another: of folds, not of
      the seeds of a fold.

  Returns:
    The p-value.
  """
  difference = np.asarray(differences, np.float64)
  count = len(difference)
  if count <= 14:
    signs = np.array(list(itertools.product((-1, 1), repeat=count)))
  else:
    signs = np.random.default_rng(0).choice((-1, 1), (PERMUTATIONS, count))
    signs = np.vstack([np.ones(count), signs])
  means = np.abs(signs @ difference)
  return float(np.mean(means >= np.abs(difference.sum()) - 1e-12))


def holm(p_values: Float[np.ndarray, "tests"]) -> Float[np.ndarray, "tests"]:
  """Holm's correction for several tests (Holm 1979)."""
  p_values = np.asarray(p_values, np.float64)
  order = np.argsort(p_values)
  factors = len(p_values) - np.arange(len(p_values))
  stepped = np.maximum.accumulate(p_values[order] * factors)
  corrected = np.empty_like(stepped)
  corrected[order] = np.minimum(stepped, 1.0)
  return corrected
