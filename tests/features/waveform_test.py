"""Frames of samples, and the set that has them beside functionals."""

import numpy as np
import pytest

from ser_jax.features import waveform
from ser_jax.features.sets import FEATURE_SETS


def test_frames_by_hand():
  samples = np.array([0.5, -1.0, 1.0, 0.25, 3e-5], np.float32)
  found = waveform.frames(samples, size=2, most=3)
  assert found.dtype == np.int16
  assert found.tolist() == [[16384, -32768], [32767, 8192], [1, 0]]


@pytest.mark.parametrize(
  ("seconds", "frames"), [(0.04, 1), (0.05, 2), (6.0, 150), (7.3, 150)]
)
def test_the_first_six_seconds(seconds, frames):
  samples = np.linspace(0.1, 0.9, int(16000 * seconds), dtype=np.float32)
  found = FEATURE_SETS["waveform_6s"].extract(samples, 16000)["waveform"]
  assert found.shape == (frames, 640)
  flat = found.reshape(-1)[: len(samples)] / 32768
  np.testing.assert_allclose(flat, samples[: len(flat)], atol=2e-5)
  assert not found.reshape(-1)[len(samples) :].any()


def test_a_union_has_what_its_parts_have():
  whole, part = FEATURE_SETS["dcaen"], FEATURE_SETS["waveform_6s"]
  assert set(whole.inputs) == {"waveform", "functionals"}
  assert whole.inputs["waveform"] == part.inputs["waveform"]
  assert (
    whole.inputs["functionals"]
    == (FEATURE_SETS["egemaps"].inputs["functionals"])
  )
  assert whole.least == FEATURE_SETS["egemaps"].least
