"""Padding, sizes, dropout's place; a stream equals the whole recording."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ser_jax.errors import UserError
from ser_jax.models.raw_waveform import RawWaveform
from ser_jax.streaming import Stream

# Compiling takes longer than running here.
QUICK = {"xla_backend_optimization_level": 0}
SMALL = {
  "targets": 2,
  "filters": (4, 4),
  "taps": (6, 5),
  "pool_channels": 2,
  "hidden": 3,
}
# A model, the frames that it must hear ahead, and how the recording comes.
STREAMS = (
  ({}, 1, [1] * 9),
  ({"taps": (6, 41), "depthwise": True}, 3, [3, 4, 1, 1]),
  ({"framed": True}, 0, [2, 7]),
)


def waveform(batch=2, frames=7, samples=16, lengths=None):
  x = np.random.default_rng(0).normal(size=(batch, frames, samples))
  lengths = np.full(batch, frames) if lengths is None else np.array(lengths)
  x[np.arange(frames) >= lengths[:, None]] = 0.0
  return (
    {"waveform": jnp.asarray(x, jnp.float32)},
    {"waveform": jnp.asarray(lengths, jnp.int32)},
  )


def init(model, x, lengths):
  params = jax.jit(
    lambda: model.init(jax.random.key(0), x, lengths, train=False),
    compiler_options=QUICK,
  )()["params"]
  return jax.tree.map(lambda p: p + 0.1, params)  # biases, too


@pytest.mark.parametrize("bidirectional", [True, False])
def test_padding_and_filler_change_nothing(bidirectional):
  model = RawWaveform(**SMALL, bidirectional=bidirectional)
  x, lengths = waveform(lengths=[7, 4])
  longer = {"waveform": jnp.pad(x["waveform"], ((0, 1), (0, 3), (0, 0)))}
  more = {"waveform": jnp.append(lengths["waveform"], 0)}
  params = init(model, x, lengths)
  run = jax.jit(
    lambda x, n: model.apply({"params": params}, x, n, train=False),
    compiler_options=QUICK,
  )
  plain, padded = run(x, lengths), run(longer, more)
  directions = 2 if bidirectional else 1
  assert plain["contours"].shape == (2, 7, 2)
  assert plain["cells"].shape == (2, 7, 2 * directions * 3)
  for row, length in enumerate([7, 4]):
    for name in plain:
      np.testing.assert_allclose(
        padded[name][row, :length], plain[name][row, :length], atol=1e-6
      )


def contours_of(model, params, x, lengths, train=False):
  return jax.jit(
    lambda: model.apply(
      {"params": params},
      x,
      lengths,
      train=train,
      rngs={"dropout": jax.random.key(1)},
    )["contours"],
    compiler_options=QUICK,
  )()


def test_dropout_is_of_training_alone():
  x, lengths = waveform()
  for rate, equal in ((0.0, True), (0.5, False)):
    model = RawWaveform(**SMALL, dropout=rate)
    params = init(model, x, lengths)
    found = [contours_of(model, params, x, lengths, t) for t in (True, False)]
    assert np.allclose(*found) == equal


@pytest.mark.parametrize(("options", "context", "chunks"), STREAMS)
def test_a_stream_equals_the_whole_recording(options, context, chunks):
  model = RawWaveform(**{**SMALL, **options}, bidirectional=False)
  x, lengths = waveform(frames=9)
  params = init(model, x, lengths)
  whole = contours_of(model, params, x, lengths)
  stream = Stream(model, params, samples=16)
  assert stream.context == context
  state, told, heard = stream.start(2), [], 0
  for size in chunks:
    frames = x["waveform"][:, heard : heard + size]
    heard += size
    state, contours = stream.push(state, frames, last=heard == 9)
    told.append(contours)
    late = heard - sum(c.shape[1] for c in told)
    assert late == (0 if heard == 9 else min(context, heard))
  np.testing.assert_allclose(jnp.concatenate(told, axis=1), whole, atol=2e-6)


def test_what_reads_backwards_has_no_stream():
  with pytest.raises(UserError, match="train the preset uni256"):
    Stream(RawWaveform(2), {}, samples=640)
