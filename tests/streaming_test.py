"""What a stream refuses to hear."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ser_jax.errors import UserError
from ser_jax.models.raw_waveform import RawWaveform
from ser_jax.streaming import Stream

SAMPLES = 16


@pytest.fixture(scope="module")
def stream():
  """Of a model that hears a frame ahead."""
  model = RawWaveform(
    targets=2,
    filters=(4, 4),
    taps=(6, 5),
    pool_channels=2,
    hidden=3,
    bidirectional=False,
  )
  inputs = {"waveform": jnp.zeros((1, 3, SAMPLES))}
  lengths = {"waveform": jnp.full(1, 3)}
  params = model.init(jax.random.key(0), inputs, lengths, train=False)["params"]
  return Stream(model, params, samples=SAMPLES)


@pytest.mark.parametrize(
  "moments",
  [
    (0.0, 0.0),
    (0.0, -1.0),
    (math.nan, 1.0),
    (0.0, math.inf),
    (0.0, np.zeros(SAMPLES)),
    (np.zeros(3), 1.0),
  ],
)
def test_moments_that_none_can_have_are_refused(stream, moments):
  with pytest.raises(UserError, match="a mean and a deviation above 0"):
    stream.start(moments=moments)


@pytest.mark.parametrize(
  ("frames", "message"),
  [
    (np.full((1, 1, SAMPLES), np.nan), "not finite"),
    (np.full((1, 1, SAMPLES), -np.inf), "not finite"),
    (np.full((1, 1, SAMPLES), 3000.0), "int16"),
    (np.full((1, 1, SAMPLES), 3000), "int16"),
    (np.zeros((1, SAMPLES)), r"array of \(1, 16\): .*\[1, any number, 16\]"),
    (np.zeros((1, 1, SAMPLES + 1)), "array of"),
    (np.zeros((2, 1, SAMPLES)), "array of"),
  ],
)
def test_what_are_no_frames_is_refused(stream, frames, message):
  with pytest.raises(UserError, match=message):
    stream.push(stream.start(), frames)


@pytest.mark.parametrize("frames", [0, 2])
def test_a_recording_ends_once(stream, frames):
  last = np.full((1, frames, SAMPLES), -(2**15), np.int16)
  moments = np.zeros(SAMPLES), np.ones(SAMPLES)
  state, contours = stream.push(stream.start(moments=moments), last, last=True)
  assert contours.shape == (1, frames, 2)
  with pytest.raises(UserError, match="Stream.start begins another"):
    stream.push(state, last)
