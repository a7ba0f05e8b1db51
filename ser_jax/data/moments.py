"""Mean and deviation by which values are standardised; without JAX."""

import numpy as np
from jaxtyping import Bool, Float, Shaped

# A deviation below this share of the mean is float64's rounding of a constant.
ROUNDING = 1e-8
# What is smaller is 0 to a device.
SMALLEST = np.finfo(np.float32).tiny

Figures = Float[np.ndarray, "*features"] | np.floating
Values = Shaped[np.ndarray, "count *features"]


def is_constant(
  mean: Figures, deviation: Figures
) -> Bool[np.ndarray, "*features"] | np.bool_:
  """Whether values differ by no more than rounding, which grows with them.

  Functionals range over thirteen decades: a deviation is small beside the mean,
  not in itself.

  Args:
    mean: of each feature, in float64.
    deviation: likewise.

  Returns:
    True for features that nothing can be learnt of.
  """
  return deviation <= np.maximum(ROUNDING * np.abs(mean), SMALLEST)


def divisor(mean: Figures, deviation: Figures) -> Figures:
  """The deviation, or 1 for constants."""
  return np.where(is_constant(mean, deviation), 1.0, deviation)


def moments(
  values: Shaped[np.ndarray, "..."], axis: int | None = 0
) -> tuple[Figures, Figures]:
  """What to subtract from values, and then to divide them by.

  Args:
    values: of any type.
    axis: of the examples; None for all values as one feature.

  Returns:
    Means and divisors in float64.
  """
  values = values.astype(np.float64)
  mean = values.mean(axis=axis)
  return mean, divisor(mean, values.std(axis=axis))


class Running:
  """Moments of values that come part by part.

  By Chan's update: exact for long corpora and for values that lie close
  together, where sums of squares are not.
  """

  def __init__(self):
    """Starts with no values, of mean 0."""
    self._count, self._mean, self._scatter = 0, np.float64(0), np.float64(0)

  def add(self, values: Values) -> None:
    """Takes some more examples, of any type; none are none."""
    if not len(values):
      return
    values = values.astype(np.float64)
    total, mean = self._count + len(values), values.mean(axis=0)
    shift = mean - self._mean
    self._scatter = self._scatter + np.square(values - mean).sum(axis=0)
    self._scatter += shift**2 * self._count * len(values) / total
    self._mean = self._mean + shift * len(values) / total
    self._count = total

  def moments(self) -> tuple[Figures, Figures]:
    """Means and divisors in float64, see `moments`."""
    deviation = np.sqrt(self._scatter / max(self._count, 1))
    return self._mean, divisor(self._mean, deviation)
