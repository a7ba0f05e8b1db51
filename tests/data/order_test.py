import numpy as np

from ser_jax.data import order

ROWS = {"seed": 3, "steps": 4, "batch_size": 8}


def test_every_utterance_is_visited_once_an_epoch():
  indices = np.arange(100, 127)
  index, weight = order.training_rows(indices, epoch=0, **ROWS)
  assert sorted(index[weight > 0]) == sorted(indices)


def test_batches_are_even():
  _, weight = order.training_rows(np.arange(27), epoch=0, **ROWS)
  assert weight.sum(axis=1).tolist() == [7, 7, 7, 6]


def test_order_is_a_function_of_seed_stage_and_epoch():
  indices = np.arange(27)
  one = order.training_rows(indices, epoch=1, **ROWS)[0]
  assert (one == order.training_rows(indices, epoch=1, **ROWS)[0]).all()
  assert (one != order.training_rows(indices, epoch=2, **ROWS)[0]).any()
  other = order.training_rows(indices, epoch=1, **(ROWS | {"seed": 4}))[0]
  assert (one != other).any()
  other = order.training_rows(indices, epoch=1, stage=1, **ROWS)[0]
  assert (one != other).any()
  # Nor does a seed go through the orders of the next, an epoch later.
  other = order.training_rows(indices, epoch=0, **(ROWS | {"seed": 4}))[0]
  assert (one != other).any()


def test_evaluation_keeps_the_order():
  index, weight = order.evaluation_rows(
    np.array([5, 3, 9]), steps=2, batch_size=2
  )
  assert index.tolist() == [[5, 3], [9, 0]]
  assert weight.tolist() == [[1, 1], [1, 0]]
