"""Pieces are utterances at once, silent ones cost nothing; sizes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ser_jax.nn import waveform
from ser_jax.nn.conv1d import Step
from ser_jax.nn.waveform import WaveformFrontEnd, guarded


def draw(seed, *shape):
  return jnp.asarray(
    np.random.default_rng(seed).normal(size=shape), jnp.float32
  )


@pytest.mark.parametrize("piece", [2, 3, 30])
@pytest.mark.parametrize(
  ("framed", "options"),
  [
    (False, {"rectify": (True, False)}),
    (False, {"depthwise": True}),
    (False, {"taps": (5, 30)}),  # hears more than a frame around
    (True, {"pool_time": 4}),
  ],
)
def test_pieces_are_utterances_at_once(framed, options, piece, monkeypatch):
  """Their gradients, too, though half of what they need is computed again."""
  monkeypatch.setattr(waveform, "PIECE", piece)
  options = {"taps": (5, 8)} | options
  x, lengths = draw(0, 3, 5, 16), jnp.array([5, 2, 0])
  x = x * (jnp.arange(5)[None] < lengths[:, None])[..., None]
  aim = draw(1, 3, 5, (16 // options.get("pool_time", 2)) * 2)
  plain, each = (
    WaveformFrontEnd(
      (4, 8), pool_channels=4, framed=framed, forms=forms, **options
    )
    for forms in (("direct", "direct"), ("blocked", "fft"))
  )
  params = jax.jit(plain.init)(jax.random.key(0), x, lengths)["params"]
  params = jax.tree.map(lambda x: x + 0.1, params)  # biases, too

  def loss(params, front_end):
    y = front_end.apply({"params": params}, x, lengths)
    return jnp.sum(y * aim), y

  run = jax.jit(jax.grad(loss, has_aux=True), static_argnums=1)
  found = (
    jax.tree.leaves(run(params, front_end)) for front_end in (plain, each)
  )
  for one, other in zip(*found, strict=True):
    assert one.any()
    np.testing.assert_allclose(one, other, atol=3e-5)


@pytest.mark.parametrize(
  ("framed", "forms"),
  [
    (True, ("direct", "fft")),
    (False, ("direct", "direct")),
    (False, ("blocked", "fft")),
  ],
)
def test_padding_changes_nothing(framed, forms):
  front_end = WaveformFrontEnd(
    (4, 4), (5, 8), pool_channels=2, framed=framed, forms=forms
  )
  short = draw(0, 2, 3, 16)
  long = jnp.concatenate([short, jnp.zeros((2, 4, 16))], axis=1)
  lengths = jnp.array([3, 2])
  short = short.at[1, 2:].set(0.0)
  long = long.at[1, 2:].set(0.0)
  params = jax.jit(front_end.init)(jax.random.key(0), short, lengths)["params"]
  params = jax.tree.map(lambda x: x + 0.1, params)  # biases, too

  def loss(params, x):
    y = front_end.apply({"params": params}, x, lengths)
    return jnp.sum(jnp.sin(y)), y

  run = jax.jit(jax.grad(loss, has_aux=True))
  (gradients, y), (others, padded) = run(params, short), run(params, long)
  np.testing.assert_allclose(padded[:, :3], y, atol=1e-5)
  assert not padded[:, 3:].any() and not y[1, 2:].any() and y[1, :2].any()
  for one, other in zip(
    *map(jax.tree.leaves, (gradients, others)), strict=True
  ):
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


def test_what_is_not_wanted_is_not_computed():
  """Not even where it would be no number."""
  step = Step(lambda kernel, x: x @ kernel[0], (draw(0, 3, 2),))
  x = jnp.full((4, 3), jnp.nan)

  @jax.jit
  def run(wanted, kernel, x):
    y, back = jax.vjp(
      lambda kernel, x: guarded(wanted, step._replace(kernel=kernel), x),
      *(kernel, x),
    )
    return y, *back(jnp.ones(y.shape))

  for found in jax.tree.leaves(run(False, step.kernel, x)):
    np.testing.assert_array_equal(found, 0.0)
  y, (of_kernel,), of_x = run(True, step.kernel, x := draw(1, 4, 3))
  np.testing.assert_allclose(y, x @ step.kernel[0], rtol=1e-6)
  np.testing.assert_allclose(of_kernel, x.T @ jnp.ones((4, 2)), rtol=1e-6)
  np.testing.assert_allclose(
    of_x, jnp.ones((4, 2)) @ step.kernel[0].T, rtol=1e-6
  )


def test_a_frame_on_its_own_sees_no_other():
  x = draw(0, 1, 3, 16)
  moved = x.at[0, 1].add(1.0)
  lengths = jnp.array([3])
  same = {}
  for framed in (True, False):
    front_end = WaveformFrontEnd((4, 4), (5, 8), pool_channels=2, framed=framed)
    variables = jax.jit(front_end.init)(jax.random.key(0), x, lengths)
    run = jax.jit(front_end.apply)
    one, other = (np.asarray(run(variables, y, lengths)) for y in (x, moved))
    assert (one[0, 1] != other[0, 1]).any()
    same[framed] = (one[0, [0, 2]] == other[0, [0, 2]]).all()
  assert same == {True: True, False: False}


@pytest.mark.parametrize(
  ("options", "dim", "parameters"),
  [
    # Huang et al.: 40 x 20 + 40, then 40 x 40 x 40 + 40.
    ({}, 1280, 840 + 64040),
    # Trigeorgis et al.: 5 ms, pooled over 20; and 500 ms for each channel.
    ({"taps": (80, 40), "pool_channels": 20}, 640, 3240 + 64040),
    (
      {"taps": (80, 4000), "pool_channels": 20, "depthwise": True},
      640,
      3240 + 160040,
    ),
  ],
)
def test_the_papers_sizes(options, dim, parameters):
  front_end = WaveformFrontEnd(framed=False, **options)
  y, variables = jax.eval_shape(
    front_end.init_with_output,
    jax.random.key(0),
    jnp.zeros((2, 150, 640)),
    jnp.array([150, 7]),
  )
  assert y.shape == (2, 150, dim)
  assert sum(x.size for x in jax.tree.leaves(variables)) == parameters


def test_rectification_and_pooling_by_hand():
  """Two taps that pass and negate the sample; 4 samples, 1 frame."""
  front_end = WaveformFrontEnd(
    (2, 2), (1, 1), pool_channels=2, rectify=(True, False)
  )
  params = {
    "kernel_0": jnp.array([[[1.0, -1.0]]]),
    "bias_0": jnp.zeros(2),
    "kernel_1": -jnp.eye(2)[None],
    "bias_1": jnp.array([0.0, -1.0]),
  }
  x = jnp.array([[[1.0, -2.0, 3.0, 4.0]]])
  y = front_end.apply({"params": params}, x, jnp.array([1]))
  # Rectified and pooled: (1, 2), (4, 0); the maxima of (-1, -3), (-4, -1).
  np.testing.assert_allclose(y, [[[-1.0, -1.0]]])


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"forms": ("direct", "winograd")}, "winograd"),
    ({"forms": ("direct", "blocked"), "depthwise": True}, "no blocked form"),
    ({"filters": (40, 41)}, "multiple of pool_channels"),
    ({"filters": (12, 40), "depthwise": True}, "depthwise"),
  ],
)
def test_options_that_do_not_exist_are_refused(options, message):
  with pytest.raises(ValueError, match=message):
    WaveformFrontEnd(**options)
