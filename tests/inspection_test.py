"""What is looked at is what the run's own steps saw."""

import numpy as np

from ser_jax import inspection


def test_the_walk_goes_along_the_widest_axis():
  rng = np.random.default_rng(0)
  z = rng.normal(size=(500, 3)) * [1.0, 4.0, 1.0] + [0.0, 0.0, 2.0]
  walk = inspection._main_direction(z)
  assert walk.shape == (len(inspection.STEPS), 3)
  np.testing.assert_allclose(walk.mean(axis=0), z.mean(axis=0), atol=1e-5)
  moved = walk[-1] - walk[0]
  assert abs(moved[1]) > 10 * max(abs(moved[0]), abs(moved[2]))
  # From end to end as many deviations of z as STEPS says.
  span = inspection.STEPS[-1] - inspection.STEPS[0]
  np.testing.assert_allclose(np.linalg.norm(moved), span * 4.0, rtol=0.1)
