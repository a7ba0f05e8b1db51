"""Correlations of cells, and the features that they are compared with."""

import numpy as np
import pytest

from ser_jax.evaluation import cells

RATE = 25.0


def test_correlations_against_numpy():
  draw = np.random.default_rng(0)
  one, other = draw.normal(size=(50, 4)), draw.normal(5, 2, size=(50, 3))
  one[:, 3] = 2.0
  found = cells.correlations(one, other)
  wanted = np.corrcoef(one[:, :3].T, other.T)[:3, 3:]
  np.testing.assert_allclose(found[:3], wanted, atol=1e-12)
  assert not found[3].any()


def test_the_best_cell_either_way():
  found = np.array([[0.1, -0.9, 0.2], [0.3, 0.5, 0.1], [0.2, 0.1, -0.4],
                    [0.0, 0.2, 0.3]])  # fmt: skip
  best = cells.summarize(found, units=2)
  assert [(b["layer"], b["cell"]) for b in best] == [(0, 1), (0, 0), (1, 0)]
  assert [b["correlation"] for b in best] == [0.3, -0.9, -0.4]
  assert best[0]["median"] == pytest.approx(0.15)


def test_prosody_by_hand():
  """A tone of rising level: quarters of a frame have its RMS."""
  level = np.linspace(0.1, 1.0, 60)
  samples = level[:, None] * np.where(np.arange(640) % 2, 1.0, -1.0)
  f0 = np.arange(60.0)
  found = cells.prosody(samples, 20 * np.log10(level), f0, rate=RATE)
  inside = np.arange(12, 48)
  np.testing.assert_allclose(
    found[inside, 0], level[inside + 12] - level[inside - 12]
  )
  np.testing.assert_allclose(found[inside, 2], f0[inside])
  np.testing.assert_allclose(found[0], [level[12] - level[0], -20, 6.0])


def test_the_figure(tmp_path):
  draw = np.random.default_rng(0)
  activations, features = draw.normal(size=(80, 6)), draw.normal(size=(80, 3))
  best = cells.summarize(cells.correlations(activations, features), units=3)
  path = cells.draw(
    tmp_path, activations, features, best, units=3, rate=RATE, title="one"
  )
  assert (tmp_path / path).stat().st_size
