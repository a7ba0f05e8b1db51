"""What a compiled prediction is asked for, and how batches are joined."""

import types

import numpy as np
import pytest

from ser_jax.train import engine

PARTS = [np.arange(5), np.arange(3, 6)]  # of two runs


class Echo:
  """Says of each utterance its position, and of each frame its number."""

  def items(self, rows):
    for number, (index, weight) in enumerate(rows):
      del weight
      yield (("x", 2 + number),), index

  def place_item(self, item):
    return item

  def fetch_item(self, tree):
    return tree

  def predict(self, weights, index, statistics, constants, frames):
    time = np.arange(frames[0][1])
    return {
      "scores": weights * index[..., None],
      "frames": np.broadcast_to(time, (*index.shape, len(time))),
    }


@pytest.fixture
def echo():
  echo = Echo()
  return types.SimpleNamespace(
    layout=echo, source=echo, constants=None, predict=echo.predict, batch_size=4
  )


def test_outputs_are_in_the_order_of_the_parts(echo):
  found = engine.outputs(echo, 10, None, PARTS)
  assert set(found) == {"scores", "frames"}
  for scores, part in zip(found["scores"], PARTS, strict=True):
    np.testing.assert_array_equal(scores[:, 0], 10 * part)
  scores = engine.predict(echo, 10, None, PARTS)
  np.testing.assert_array_equal(scores[0], found["scores"][0])


def test_shorter_batches_are_filled_up_with_zeros(echo):
  frames = engine.outputs(echo, 1, None, PARTS, ("frames",))["frames"]
  np.testing.assert_array_equal(frames[0], [[0, 1, 0]] * 4 + [[0, 1, 2]])
