"""Small trained systems, each trained once."""

import pathlib
import shutil

import pytest

from configs import ds_lstm
from ser_jax import experiment


@pytest.fixture(scope="session")
def trained(synthetic_shards, tmp_path_factory) -> pathlib.Path:
  """A workdir of two folds of the plain LSTM."""
  config = ds_lstm.get_config("base1")
  config.data.corpus = "synthetic"
  config.data.shards = str(synthetic_shards("ds_lstm"))
  config.protocol.name = "leave_one_session_out"
  config.protocol.folds = (0, 1)
  config.model.hidden = 8
  config.batch_size = 8
  config.epochs = 1
  workdir = tmp_path_factory.mktemp("runs") / "lstm"
  experiment.train(config, workdir, should_stop=lambda: False)
  return workdir


@pytest.fixture(scope="session")
def raw(synthetic_shards) -> pathlib.Path:
  """The recordings behind the shards."""
  return synthetic_shards("ds_lstm").parent / "raw"


@pytest.fixture
def moved(trained, tmp_path) -> pathlib.Path:
  """A copy of the workdir, which may be changed."""
  return pathlib.Path(shutil.copytree(trained, tmp_path / "moved"))
