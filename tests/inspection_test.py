"""What is looked at is what the run's own steps saw."""

import numpy as np

from benchmarks import systems
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


def test_folds_share_what_prepares_their_batches(monkeypatch):
  config = systems.make_config("aae", batch_size=8, parallel__data=1)
  found = systems.make_experiment(config, held=64)
  folds = {run.fold: run for group in found.groups for run in group}
  prepare, traces = inspection.prepare, []

  def traced(*arguments, **options):
    traces.append(None)
    return prepare(*arguments, **options)

  monkeypatch.setattr(inspection, "prepare", traced)
  # As many as no other test has, since what is compiled outlives a test.
  parts = np.arange(39).reshape(3, 13)
  runs = list(folds.values())[:3]
  batches = [
    inspection.prepared(found, run, part)
    for run, part in zip(runs, parts, strict=True)
  ]
  assert len(traces) == 1
  for part, batch in zip(parts, batches, strict=True):
    np.testing.assert_array_equal(batch.index, part)
