"""Results that are damaged; what whole ones show: see `app_test`."""

import json

import pytest

from ser_jax.demo import results
from ser_jax.errors import UserError

CONFIG = {"data": {"classes": ["sad"]}, "optimizer": {}}


@pytest.mark.parametrize("content", ['{"data": ', "[]"])
def test_a_damaged_config_is_named(tmp_path, content):
  (tmp_path / "config.json").write_text(content)
  with pytest.raises(UserError, match="config.json cannot be .*copy it again"):
    results.read_results(tmp_path)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut short"])
def test_damaged_predictions_are_named(tmp_path, content):
  (tmp_path / "config.json").write_text(json.dumps(CONFIG))
  path = tmp_path / "runs" / "fold0-seed0" / "predictions.npz"
  path.parent.mkdir(parents=True)
  path.write_bytes(content)
  with pytest.raises(UserError, match="seed0/predictions.npz cannot be read"):
    results.read_results(tmp_path)
