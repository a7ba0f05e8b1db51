"""LSTM, GRU and Bidirectional against NumPy, one utterance after the other."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ser_jax.nn.recurrent import GRU, LSTM, Bidirectional

BATCH, TIME, DIM, HIDDEN = 5, 6, 3, 4
LENGTHS = np.array([6, 4, 3, 1, 0], np.int32)
# Compiling takes longer than running here.
QUICK = {"xla_backend_optimization_level": 0}


def sigmoid(z):
  return 1.0 / (1.0 + np.exp(-z))


def lstm(params, frames):
  """Hochreiter and Schmidhuber with a forget gate; gates i, f, g, o."""
  h, c, outputs = np.zeros(HIDDEN), np.zeros(HIDDEN), []
  bias = params["bias"] + params.get("bias1", 0.0)
  for frame in frames:
    z = frame @ params["kernel"] + h @ params["recurrent"] + bias
    i, f, g, o = np.split(z, 4)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    h = sigmoid(o) * np.tanh(c)
    outputs.append(h)
  return outputs


def gru(params, frames):
  """As in PyTorch's documentation; gates r, z, n."""
  h, outputs = np.zeros(HIDDEN), []
  for frame in frames:
    on_x = np.split(frame @ params["kernel"] + params["bias"], 3)
    on_h = np.split(h @ params["recurrent"] + params["recurrent_bias"], 3)
    r, z = sigmoid(on_x[0] + on_h[0]), sigmoid(on_x[1] + on_h[1])
    n = np.tanh(on_x[2] + r * on_h[2])
    h = (1 - z) * n + z * h
    outputs.append(h)
  return outputs


def padded(utterances, time=TIME):
  out = np.zeros((len(utterances), time, HIDDEN))
  for row, outputs in zip(out, utterances, strict=True):
    if len(outputs):
      row[: len(outputs)] = outputs
  return out


def frames(time=TIME, seed=0):
  draw = np.random.default_rng(seed)
  return draw.normal(size=(BATCH, time, DIM)).astype(np.float32)


def init(layer):
  full = np.full(BATCH, TIME, np.int32)
  return jax.jit(layer.init)(jax.random.key(1), frames(), full)["params"]


@functools.partial(jax.jit, static_argnums=0, compiler_options=QUICK)
def apply(layer, params, x, lengths, weights):
  """Output, and gradients of a weighted sum for parameters and input."""

  def loss(params, x):
    out = layer.apply({"params": params}, x, lengths)
    return jnp.sum(out * weights), out

  grads, out = jax.grad(loss, (0, 1), has_aux=True)(params, x)
  return out, grads


WEIGHTS = np.random.default_rng(7).normal(size=(BATCH, TIME + 2, 2 * HIDDEN))
WEIGHTS = WEIGHTS.astype(np.float32)
LAYERS = [
  (LSTM(HIDDEN), lstm),
  (LSTM(HIDDEN, biases=2, hoist=False), lstm),
  (LSTM(HIDDEN, unroll=2), lstm),
  (GRU(HIDDEN), gru),
  (GRU(HIDDEN, hoist=False), gru),
  (GRU(HIDDEN, unroll=2), gru),
]


@pytest.mark.parametrize("layer,reference", LAYERS)
def test_forward_and_gradients_equal_numpy(layer, reference):
  params, x, weights = init(layer), frames(), WEIGHTS[:, :TIME, :HIDDEN]
  out, grads = apply(layer, params, x, LENGTHS, weights)
  leaves, structure = jax.tree.flatten(
    jax.tree.map(lambda a: np.asarray(a, np.float64), (params, x))
  )

  def forward(leaves):
    params, x = jax.tree.unflatten(structure, leaves)
    return padded(
      [reference(params, row[:n]) for row, n in zip(x, LENGTHS, strict=True)]
    )

  np.testing.assert_allclose(out, forward(leaves), rtol=1e-5, atol=1e-6)
  draw, tiny = np.random.default_rng(2), 1e-6
  for number, grad in enumerate(jax.tree.leaves(grads)):
    direction = draw.normal(size=grad.shape)
    up, down = leaves.copy(), leaves.copy()
    up[number] = up[number] + tiny * direction
    down[number] = down[number] - tiny * direction
    slope = np.sum((forward(up) - forward(down)) * weights) / (2 * tiny)
    np.testing.assert_allclose(
      np.sum(grad * direction), slope, rtol=1e-3, atol=1e-4
    )


@pytest.mark.parametrize("cell,reference", [(LSTM, lstm), (GRU, gru)])
def test_bidirectional_reverses_within_each_utterance(cell, reference):
  layer = Bidirectional(cell(HIDDEN), cell(HIDDEN))
  params, x = init(layer), frames()
  out, _ = apply(layer, params, x, LENGTHS, WEIGHTS[:, :TIME])
  rows = list(zip(x, LENGTHS, strict=True))
  ahead = [reference(params["forward"], row[:n]) for row, n in rows]
  behind = [
    reference(params["backward"], row[:n][::-1])[::-1] for row, n in rows
  ]
  want = np.concatenate([padded(ahead), padded(behind)], axis=-1)
  np.testing.assert_allclose(out, want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("cell", [LSTM, GRU])
def test_padding_changes_nothing(cell):
  layer = Bidirectional(cell(HIDDEN), cell(HIDDEN))
  params, x = init(layer), frames()
  longer = 100.0 * frames(TIME + 2, seed=9)
  valid = np.arange(TIME) < LENGTHS[:, None]
  longer[:, :TIME][valid] = x[valid]
  want, want_grads = apply(layer, params, x, LENGTHS, WEIGHTS[:, :TIME])
  out, grads = apply(layer, params, longer, LENGTHS, WEIGHTS)
  np.testing.assert_allclose(out[:, :TIME], want, rtol=1e-5, atol=1e-6)
  assert not np.any(out[:, TIME:]) and not np.any(out[LENGTHS == 0])
  for a, b in zip(
    jax.tree.leaves(grads[0]), jax.tree.leaves(want_grads[0]), strict=True
  ):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
  past = np.arange(TIME + 2) >= LENGTHS[:, None]
  np.testing.assert_array_equal(grads[1][past], 0.0)


def test_a_slow_state_is_not_rounded_in_half_precision():
  """Updates of a few thousandths are below bfloat16's steps of a state."""
  layer, time = GRU(HIDDEN), 300
  params = init(layer)
  params["bias"] = params["bias"].at[HIDDEN : 2 * HIDDEN].set(5.0)
  lengths = np.full(BATCH, time, np.int32)

  def last(dtype):
    cast = functools.partial(jax.tree.map, lambda x: jnp.asarray(x, dtype))
    out = jax.jit(layer.apply)(
      {"params": cast(params)}, cast(frames(time)), lengths
    )
    assert out.dtype == dtype
    return np.asarray(out[:, -1], np.float32)

  exact = last(jnp.float32)
  apart = np.abs(last(jnp.bfloat16) - exact).max() / np.abs(exact).max()
  assert apart < 0.02
