"""Predictions that are damaged; what whole ones give: see `experiment_test`."""

import types

import numpy as np
import pytest

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
