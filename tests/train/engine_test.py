"""What a compiled prediction is asked for, and how batches are joined."""

import types

import numpy as np
import pytest

from ser_jax.errors import UserError
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


def test_steps_of_several_shapes_are_called_one_by_one():
  """And where a resumed epoch goes on, it calls what it would have called."""
  shapes = "aabababbaaaa"
  layout = types.SimpleNamespace(
    place_item=lambda item, *, stacked=False: item.tolist()
  )

  def called(row):
    made = engine.Engine(
      layout, None, None, "one", "predict", 8, several="two", steps=2
    )
    items = [(shape, np.array([i])) for i, shape in enumerate(shapes)]
    found = engine.calls(made, iter(items[row:]), row, len(items))
    return [(count, program, item) for count, program, _, item in found]

  whole = called(0)
  assert whole == [
    (2, "two", [[0, 1]]),
    *((1, "one", [i]) for i in range(2, 6)),
    *((2, "two", [[i, i + 1]]) for i in (6, 8, 10)),
  ]
  done = 0
  for number, (count, *_) in enumerate(whole):
    assert called(done) == whole[number:]
    done += count


def test_a_source_that_ends_early_is_no_end_of_the_epoch():
  layout = types.SimpleNamespace(place_item=lambda item, *, stacked=False: item)
  made = engine.Engine(layout, None, None, "one", "predict", 8)
  with pytest.raises(RuntimeError, match="StopIteration"):
    list(engine.calls(made, iter([((), 0)]), 0, 2))


@pytest.mark.parametrize(
  ("wanted", "source", "backend", "traced", "message"),
  [
    (2, "stream", "jit", False, "needs config.data.source=resident"),
    (2, "resident", "pmap", False, "needs config.parallel.backend=jit"),
    (2, "resident", "jit", True, "hides single steps"),
    (9, "resident", "jit", False, "=9 is more than the 8 steps of an epoch"),
  ],
)
def test_several_steps_a_call_need_as_many(
  wanted, source, backend, traced, message
):
  def check(steps):
    config = types.SimpleNamespace(
      steps_per_execution=steps,
      data=types.SimpleNamespace(source=source),
      parallel=types.SimpleNamespace(backend=backend),
      profile=types.SimpleNamespace(during_training=traced),
    )
    engine.check_execution(config, 8)

  with pytest.raises(UserError, match=message):
    check(wanted)
  check(1)
