"""Mean and deviation by which values are standardised; without JAX."""

import numpy as np
from jaxtyping import Bool, Float, Shaped

# A deviation below this share of the mean is float64's rounding of a constant.
ROUNDING = 1e-8
# What is smaller is 0 to a device.
SMALLEST = np.finfo(np.float32).tiny

Figures = Float[np.ndarray, "*features"] | np.floating


def is_constant(mean: Figures, deviation: Figures) -> Bool[np.ndarray, "..."]:
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
