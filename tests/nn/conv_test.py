"""ConvBlock in all its forms against the plain sequence of layers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ser_jax.nn.conv import (
  FORMS,
  ConvBlock,
  blocked,
  check_forms,
  conv,
  conv_lengths,
  max_pool,
  patches_max,
  patches_moments,
)
from ser_jax.nn.normalization import masked_moments

BATCH, TIME, WIDE, INPUTS, OUTPUTS = 8, 11, 9, 3, 4
LENGTHS = np.array([11, 11, 10, 9, 7, 5, 3, 0], np.int32)
# Compiling takes longer than running here.
QUICK = {"xla_backend_optimization_level": 0}
# Those of the paper, and of its authors' code on either spectrogram.
KERNELS = [
  ((4, 4), (0, 0), False),
  ((2, 4), (0, 1), True),
  ((4, 2), (1, 0), True),
]


def normal(*shape, seed=0):
  draw = np.random.default_rng(seed)
  return draw.normal(size=shape).astype(np.float32)


def maps(time=TIME, batch=BATCH, lengths=LENGTHS):
  """Maps that are zero past each utterance."""
  x = normal(batch, time, WIDE, INPUTS)
  x[np.arange(time) >= lengths[:, None]] = 0.0
  return x


def assert_close(got, want, rtol=1e-4, atol=1e-4):
  assert jax.tree.structure(got) == jax.tree.structure(want)
  for (path, a), b in zip(
    jax.tree.leaves_with_path(got), jax.tree.leaves(want), strict=True
  ):
    np.testing.assert_allclose(a, b, rtol, atol, err_msg=str(path))


def value_and_gradients(function, *args):
  def loss(*args):
    out = function(*args)
    return jnp.sum(out * normal(*out.shape, seed=5)), out

  numbers = tuple(range(len(args)))
  grads, out = jax.jit(
    jax.grad(loss, numbers, has_aux=True), compiler_options=QUICK
  )(*args)
  return out, grads


@pytest.mark.parametrize("stride", [1, 2])
def test_conv_is_a_correlation(stride):
  x, kernel = maps()[:2], normal(3, 2, INPUTS, OUTPUTS, seed=1)
  out = conv(jnp.array(x), jnp.array(kernel), stride)
  high, wide = (TIME - 3) // stride + 1, (WIDE - 2) // stride + 1
  assert out.shape == (2, high, wide, OUTPUTS)
  for t, f in [(0, 0), (2, 3), (high - 1, wide - 1)]:
    i, j = t * stride, f * stride
    want = np.einsum("bijc,ijco->bo", x[:, i : i + 3, j : j + 2], kernel)
    np.testing.assert_allclose(out[:, t, f], want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("wide", [WIDE, WIDE - 1])
@pytest.mark.parametrize("kernel", [(4, 4), (2, 4), (3, 1)])
def test_forms_equal_convolution_and_pooling(kernel, wide):
  # No zeros: where maxima tie, either's gradient is right.
  x = normal(BATCH, TIME, wide, INPUTS)
  kernel = normal(*kernel, INPUTS, OUTPUTS, seed=1)
  assert_close(
    value_and_gradients(blocked, x, kernel),
    value_and_gradients(conv, x, kernel),
  )
  assert_close(
    value_and_gradients(patches_max, x, kernel),
    value_and_gradients(lambda x, kernel: max_pool(conv(x, kernel)), x, kernel),
  )


def test_moments_from_patches_are_those_of_the_output():
  kernel = normal(4, 4, INPUTS, OUTPUTS, seed=1)
  mask = np.arange(TIME - 3) < LENGTHS[:, None] - 3

  def by_patches(x, kernel):
    mean, variance, _ = patches_moments(x, kernel, jnp.array(mask), None)
    return jnp.stack([mean, variance])

  def by_output(x, kernel):
    y = conv(x, kernel)
    mean, variance, _ = masked_moments(y, jnp.array(mask), None)
    return jnp.stack([mean, variance])

  x = maps() + 10.0  # a mean of many deviations
  assert_close(
    value_and_gradients(by_patches, x, kernel),
    value_and_gradients(by_output, x, kernel),
    rtol=2e-3,
  )


def test_max_pool_drops_what_is_left_over():
  x = jnp.arange(15.0).reshape(1, 3, 5, 1)
  np.testing.assert_array_equal(max_pool(x)[0, :, :, 0], [[6.0, 8.0]])


def plain(params, stats, x, lengths, padding, train):
  """Convolution, BatchNorm, ReLU, max-pooling, one after the other.

  `lengths` are known numbers, so that the valid frames are simply picked.
  """
  around = [(zeros, zeros) for zeros in padding]
  x = jnp.pad(x, ((0, 0), *around, (0, 0)))
  y = conv(x, params["kernel"])
  y = y + params.get("bias", jnp.zeros(OUTPUTS))[None, None, None]
  high = len(params["kernel"])
  after = np.where(
    lengths, np.maximum(lengths + 2 * padding[0] - high + 1, 0), 0
  )
  mean, variance = stats["bn"]["mean"], stats["bn"]["variance"]
  if train:
    valid = np.arange(y.shape[1]) < after[:, None]
    kept = y[np.nonzero(valid)].reshape(-1, OUTPUTS)
    mean, variance = kept.mean(0), kept.var(0)
    unbiased = variance * len(kept) / (len(kept) - 1)
    stats = {"bn": {"mean": 0.9 * stats["bn"]["mean"] + 0.1 * mean,
                    "variance": 0.9 * stats["bn"]["variance"]
                                + 0.1 * unbiased}}  # fmt: skip
  y = (y - mean[None, None, None]) / jnp.sqrt(variance + 1e-5)[None, None, None]
  y = y * params["scale"][None, None, None] + params["shift"][None, None, None]
  window = (1, 2, 2, 1)
  y = jax.lax.reduce_window(
    jax.nn.relu(y), -jnp.inf, jax.lax.max, window, window, "VALID"
  )
  past = np.arange(y.shape[1]) >= (after // 2)[:, None]
  return jnp.where(past[:, :, None, None], 0.0, y), stats


def make(kernel=(4, 4), padding=(0, 0), bias=False, **options):
  """A block with scales of both signs, and statistics unlike the batch's."""
  block = ConvBlock(OUTPUTS, kernel, padding=padding, bias=bias, **options)
  params = {
    "kernel": normal(*kernel, INPUTS, OUTPUTS, seed=1) / 3.0,
    "scale": np.array([1.5, -0.7, 0.4, -2.0], np.float32),
    "shift": np.array([0.3, 0.2, -0.4, 0.1], np.float32),
  }
  if bias:
    params["bias"] = np.array([0.5, -0.5, 0.1, 0.0], np.float32)
  stats = {"mean": normal(OUTPUTS), "variance": normal(OUTPUTS) ** 2 + 0.5}
  return block, params, {"bn": stats}


@functools.partial(jax.jit, static_argnums=0, compiler_options=QUICK)
def train_pass(block, params, stats, x, lengths, weights):
  """Output, statistics and gradients for the parameters and the input."""

  def loss(params, x):
    variables = {"params": params, "batch_stats": stats}
    (out, after), new = block.apply(
      variables, x, lengths, train=True, mutable=["batch_stats"]
    )
    return jnp.sum(out * weights), (out, after, new["batch_stats"])

  grads, (out, after, new) = jax.grad(loss, (0, 1), has_aux=True)(params, x)
  return out, after, new, grads


def weights_like(x, kernel, padding):
  time = (x.shape[1] + 2 * padding[0] - kernel[0] + 1) // 2
  wide = (x.shape[2] + 2 * padding[1] - kernel[1] + 1) // 2
  return normal(len(x), time, wide, OUTPUTS, seed=5)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kernel,padding,bias", KERNELS)
def test_block_equals_plain_layers(form, kernel, padding, bias):
  block, params, stats = make(kernel, padding, bias, form=form)
  x = maps()
  weights = weights_like(x, kernel, padding)
  out, after, new, grads = train_pass(block, params, stats, x, LENGTHS, weights)

  def loss(params, x):
    out, new = plain(params, stats, x, LENGTHS, padding, train=True)
    return jnp.sum(out * weights), (out, new)

  want_grads, (want, want_stats) = jax.jit(
    jax.grad(loss, (0, 1), True), compiler_options=QUICK
  )(params, x)
  np.testing.assert_allclose(out, want, rtol=1e-4, atol=1e-5)
  assert (np.array(want) > 0).mean() > 0.2
  assert_close(new, want_stats)
  assert_close(grads, want_grads, atol=1e-3)
  closed = [
    (n + 2 * padding[0] - kernel[0] + 1) // 2 if n else 0 for n in LENGTHS
  ]
  np.testing.assert_array_equal(after, np.maximum(closed, 0))

  variables = {"params": params, "batch_stats": stats}
  out, _ = jax.jit(lambda *args: block.apply(*args, train=False))(
    variables, x, LENGTHS
  )
  arrays = jax.tree.map(jnp.array, (params, stats, x))
  want, _ = plain(*arrays, LENGTHS, padding, train=False)
  np.testing.assert_allclose(out, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kernel,padding,bias", KERNELS)
def test_padding_and_filler_change_nothing(form, kernel, padding, bias):
  block, params, stats = make(kernel, padding, bias, form=form)
  x = maps()
  longer = np.zeros((BATCH + 2, TIME + 3, WIDE, INPUTS), np.float32)
  longer[:BATCH, :TIME] = x
  weights = weights_like(longer, kernel, padding)
  part = weights_like(x, kernel, padding).shape[1]
  want, after, *rest = train_pass(
    block, params, stats, x, LENGTHS, weights[:BATCH, :part]
  )
  lengths = np.append(LENGTHS, np.int32([0, 0]))
  out, longer_after, *longer_rest = train_pass(
    block, params, stats, longer, lengths, weights
  )
  np.testing.assert_array_equal(longer_after[:BATCH], after)
  np.testing.assert_allclose(out[:BATCH, :part], want, rtol=1e-5, atol=1e-5)
  assert not np.any(out[:, part:]) and not np.any(out[BATCH:])
  new, (of_params, of_x) = longer_rest
  want_new, (want_of_params, want_of_x) = rest
  assert_close((new, of_params), (want_new, want_of_params), atol=1e-3)
  past = np.arange(TIME + 3) >= lengths[:, None]
  of_x = np.where(past[:, :, None, None], 0.0, of_x)[:BATCH, :TIME]
  past = past[:BATCH, :TIME, None, None]
  np.testing.assert_allclose(
    of_x, np.where(past, 0.0, want_of_x), rtol=1e-4, atol=1e-3
  )


@pytest.mark.parametrize("form", FORMS)
def test_pmap_equals_one_device(form):
  block, params, stats = make(form=form)
  split = make(form=form, axis_name="data")[0]
  x = maps()
  args = (x, LENGTHS, weights_like(x, (4, 4), (0, 0)))
  want, _, want_stats, want_grads = train_pass(block, params, stats, *args)

  held = jax.tree.map(jnp.array, (params, stats))

  def device_pass(*args):
    out, _, new, (of_params, of_x) = train_pass.__wrapped__(split, *held, *args)
    return out, new, jax.lax.psum(of_params, "data"), of_x

  shards = [a.reshape(8, 1, *a.shape[1:]) for a in args]
  out, new, of_params, of_x = jax.pmap(device_pass, "data")(*shards)
  assert_close(
    (out[:, 0], of_x[:, 0]), (want, want_grads[1]), rtol=1e-3, atol=1e-4
  )
  got = jax.tree.map(lambda a: a[5], (new, of_params))
  assert_close(got, (want_stats, want_grads[0]), rtol=1e-3, atol=1e-3)


def test_lengths_by_hand():
  lengths = jnp.array([0, 1, 3, 4, 10])
  np.testing.assert_array_equal(conv_lengths(lengths, 4, 0), [0, 0, 0, 1, 7])
  np.testing.assert_array_equal(conv_lengths(lengths, 2, 1), [0, 2, 4, 5, 11])


@pytest.mark.parametrize("forms", [("direct",), ("direct", "fft")])
def test_forms_are_two_that_exist(forms):
  with pytest.raises(ValueError, match="must be two of direct, patches, block"):
    check_forms(forms)


def test_moments_of_patches_are_float32_whatever_the_maps_are():
  draw = np.random.default_rng(3)
  smooth = np.cumsum(draw.normal(size=(2, 24, 16, 1)), axis=1)
  x = jnp.asarray(smooth, jnp.bfloat16)
  kernel = jnp.asarray(draw.normal(size=(3, 3, 1, 4)), jnp.bfloat16)
  mask = jnp.ones((2, patches_max(x, kernel).shape[1] * 2), bool)
  found = patches_moments(x, kernel, mask, None)
  wanted = patches_moments(
    x.astype(jnp.float32), kernel.astype(jnp.float32), mask, None
  )
  for one, other in zip(found, wanted, strict=True):
    assert one.dtype == jnp.float32
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)
