"""Bookkeeping: when a run, and when a group, has come to its end."""

import dataclasses
import json

import numpy as np
import pytest

from ser_jax.train.books import (
  Books,
  Settings,
  has_stopped,
  is_complete,
  opened,
)

SETTINGS = Settings(
  stage="train",
  number=0,
  epochs=10,
  steps=4,
  metric="uar",
  patience=2,
  checkpoint_epochs=1,
)


def test_books_survive_json():
  books = Books(1, 2, {"loss": [[1.0, 2.0]]}, [[-np.inf, 0.5]], [-1], [0])
  assert Books(**json.loads(json.dumps(vars(books)))) == books


@pytest.mark.parametrize(
  ("epoch", "best", "diverged", "patience", "wanted"),
  [
    (5, 3, -1, 2, False),  # two epochs without a new best
    (6, 3, -1, 2, True),
    (6, 3, -1, 0, False),  # never
    (6, -1, -1, 2, False),  # none was scored
    (1, 0, 0, 2, True),  # given up
  ],
)
def test_a_run_stops(epoch, best, diverged, patience, wanted):
  books = dataclasses.replace(
    opened([diverged]), epoch=epoch, best_epoch=[best]
  )
  settings = dataclasses.replace(SETTINGS, patience=patience)
  assert has_stopped(books, settings, 0) == wanted


def test_a_group_ends_with_its_last_run():
  books = dataclasses.replace(opened([-1, -1]), epoch=6, best_epoch=[3, 4])
  assert has_stopped(books, SETTINGS, 0) and not is_complete(books, SETTINGS)
  assert is_complete(dataclasses.replace(books, epoch=7), SETTINGS)
  assert is_complete(dataclasses.replace(books, epoch=10), SETTINGS)
