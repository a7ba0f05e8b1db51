"""Predictions that are damaged; what whole ones give: see `experiment_test`."""

import types

import numpy as np
import pytest

from configs import dat
from ser_jax import predictions, reporting
from ser_jax.errors import UserError
from ser_jax.train.loop import Run

NOBODY = np.zeros(0, np.int32)


def test_damaged_predictions_of_a_run_are_named(tmp_path):
  run = Run("fold0", 0, NOBODY, NOBODY, NOBODY)
  path = predictions.file_of(tmp_path, run)
  path.parent.mkdir(parents=True)
  path.write_bytes(b"PK\x03\x04 cut short")
  experiment = types.SimpleNamespace(
    workdir=tmp_path,
    groups=[[run]],
    dataset=types.SimpleNamespace(contours=None),
    config=types.SimpleNamespace(
      optimizer=types.SimpleNamespace(learning_rates=())
    ),
  )
  with pytest.raises(UserError, match="predictions.npz cannot be .*: delete"):
    reporting.finish(experiment, ())
  assert not (tmp_path / "predictions.npz").exists()


@pytest.mark.parametrize(
  ("words", "more"),
  [
    ("best,emodb", ["smoothed labels", "dropout", "copies"]),
    ("best,no_copies,emodb", ["smoothed labels", "dropout"]),
  ],
)
def test_what_the_training_loss_has_beside_validation_s_is_named(words, more):
  config = dat.get_config(words)
  assert reporting._training_loss(config) == more
  config.task.label_smoothing = 0.0
  config.augment.noise = 0.1
  expected = [*more[1:], "augmentation"]
  assert reporting._training_loss(config) == expected


def test_validation_utterances_are_counted_by_fold_and_class():
  fold = types.SimpleNamespace(name="a", validation=np.array([0, 3, 4]))
  other = types.SimpleNamespace(name="b", validation=np.array([2]))
  dataset = types.SimpleNamespace(
    contours=None,
    classes=("low", "middle", "high"),
    labels=np.array([2, -1, 1, 0, 2]),
    protocol=types.SimpleNamespace(folds=(fold, other), to_run=(fold,)),
  )
  assert reporting._validation_classes(dataset) == {"a": [1, 0, 2]}
  dataset.contours = object()
  assert reporting._validation_classes(dataset) == {}
