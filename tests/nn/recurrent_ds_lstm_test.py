"""DSLSTM against a float64 NumPy transcription of equations (1)-(8)."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ser_jax.nn.recurrent import DSLSTM

BATCH, TIME, DIM_X, DIM_Y, HIDDEN = 8, 5, 3, 2, 4
LENGTHS = np.array([5, 5, 4, 3, 3, 2, 1, 0], np.int32)
# Compiling takes longer than running here.
QUICK = {"xla_backend_optimization_level": 0}
OPTIONS = list(
  itertools.product(("post", "pre", "none"), ("per_step", "shared", "none"))
)
NORMALIZED = [("post", "per_step"), ("pre", "shared"), ("none", "none")]


def sigmoid(z):
  return 1.0 / (1.0 + np.exp(-z))


def batch_norm(values, valid, group, running, train):
  """Returns normalised values and the next running mean and variance.

  `values` [n, dim]; `valid` [n]; `group` holds scale and bias.
  """
  mean, variance = running
  count = valid.sum()
  if train and count:
    mean, variance = values[valid].mean(0), values[valid].var(0)
  if train and count > 1:
    unbiased = variance * count / (count - 1)
    running = (
      0.9 * running[0] + 0.1 * mean,
      0.9 * running[1] + 0.1 * unbiased,
    )
  normal = (values - mean) / np.sqrt(variance + 1e-5)
  return normal * group["scale"] + group["bias"], running


def reference(params, stats, x, y, lengths, *, rbn, output_bn, train):
  """Equations (1)-(8), one utterance and one step after the other."""
  stats = jax.tree.map(np.array, stats)

  def slot_norm(name, t, values, valid):
    slots = stats[name]
    slot = min(t, len(slots["mean"]) - 1)
    running = slots["mean"][slot], slots["variance"][slot]
    out, new = batch_norm(values, valid, params[name], running, train)
    if slot == t:
      slots["mean"][t], slots["variance"][t] = new
    return out

  columns = np.arange(6 * HIDDEN).reshape(6, HIDDEN)
  on_x, on_y, on_h = (params[k] for k in ("kernel_x", "kernel_y", "recurrent"))
  # W over [x_t, y_t, h] for the gates, [x_t, h] and [y_t, h] for candidates.
  gates = [np.concatenate([on_x[:, c], on_y[:, c], on_h[:, c]])
           for c in columns[:4]]  # fmt: skip
  w_t = np.concatenate([on_x[:, columns[4]], on_h[:, columns[4]]])
  w_f = np.concatenate([on_y[:, columns[4]], on_h[:, columns[5]]])
  b = params["bias"][columns]
  h, cell = np.zeros((2, len(x), HIDDEN))
  raw = np.zeros((len(x), x.shape[1], HIDDEN))
  for t in range(x.shape[1]):
    valid = t < lengths
    xt, yt = x[:, t], y[:, t]
    z = np.concatenate(
      [np.concatenate([xt, yt, h], 1) @ w + b[k] for k, w in enumerate(gates)],
      1,
    )
    if rbn == "pre":
      z = slot_norm("rbn", t, z, valid)
    z = sigmoid(z)
    if rbn == "post":
      z = slot_norm("rbn", t, z, valid)
    f, i_t, i_f, o = np.split(z, 4, axis=1)
    candidate_t = np.tanh(np.concatenate([xt, h], 1) @ w_t + b[4])
    candidate_f = np.tanh(np.concatenate([yt, h], 1) @ w_f + b[5])
    new = f * cell + i_t * candidate_t + i_f * candidate_f
    cell = np.where(valid[:, None], new, cell)
    h = np.where(valid[:, None], o * np.tanh(new), h)
    raw[:, t] = h
  valid = np.arange(x.shape[1]) < lengths[:, None]
  if output_bn == "per_step":
    for t in range(x.shape[1]):
      raw[:, t] = slot_norm("output_bn", t, raw[:, t], valid[:, t])
  elif output_bn == "shared":
    slots = stats["output_bn"]
    flat, (slots["mean"], slots["variance"]) = batch_norm(
      raw.reshape(-1, HIDDEN),
      valid.ravel(),
      params["output_bn"],
      (slots["mean"], slots["variance"]),
      train,
    )
    raw = flat.reshape(raw.shape)
  return raw * valid[:, :, None], stats


def inputs(time=TIME, batch=BATCH, seed=0):
  draw = np.random.default_rng(seed)
  return (
    draw.normal(size=(batch, time, DIM_X)).astype(np.float32),
    draw.normal(size=(batch, time, DIM_Y)).astype(np.float32),
  )


def make(time=TIME, **options):
  """A layer with parameters and statistics that are nowhere degenerate."""
  layer = DSLSTM(HIDDEN, **options)
  arrays = (*inputs(time), np.full(BATCH, time, np.int32))
  shapes = jax.eval_shape(
    lambda *arrays: layer.init(jax.random.key(0), *arrays, train=False), *arrays
  )
  draw = np.random.default_rng(1)
  filled = jax.tree_util.tree_map_with_path(
    lambda path, leaf: draw.uniform(
      0.2 if path[-1].key in ("variance", "scale") else -0.6, 0.8, leaf.shape
    ).astype(np.float32),
    shapes,
  )
  return layer, filled["params"], filled.get("batch_stats", {})


@functools.partial(jax.jit, static_argnums=0, compiler_options=QUICK)
def train_pass(layer, params, stats, x, y, lengths, weights):
  """A training step's output and statistics, and gradients of a weighted sum.

  The gradients are for the parameters and both inputs.
  """

  def loss(params, x, y):
    variables = {"params": params, "batch_stats": stats}
    out, new = layer.apply(
      variables, x, y, lengths, train=True, mutable=["batch_stats"]
    )
    return jnp.sum(out * weights), (out, new.get("batch_stats", {}))

  grads, (out, new) = jax.grad(loss, (0, 1, 2), has_aux=True)(params, x, y)
  return out, new, grads


@functools.partial(jax.jit, static_argnums=0, compiler_options=QUICK)
def evaluate(layer, params, stats, x, y, lengths):
  """Output with the running statistics."""
  variables = {"params": params, "batch_stats": stats}
  return layer.apply(variables, x, y, lengths, train=False)


def random_weights(time=TIME, batch=BATCH):
  draw = np.random.default_rng(3)
  return draw.normal(size=(batch, time, HIDDEN)).astype(np.float32)


def float64(tree):
  return jax.tree.map(lambda a: np.asarray(a, np.float64), tree)


def assert_close(got, want, rtol=1e-4, atol=1e-5):
  assert jax.tree.structure(got) == jax.tree.structure(want)
  for (path, a), b in zip(
    jax.tree.leaves_with_path(got), jax.tree.leaves(want), strict=True
  ):
    np.testing.assert_allclose(a, b, rtol, atol, err_msg=str(path))


@pytest.mark.parametrize("rbn,output_bn", OPTIONS)
def test_forward_and_statistics_follow_the_equations(rbn, output_bn):
  options = {"rbn": rbn, "output_bn": output_bn}
  layer, params, stats = make(**options)
  x, y = inputs()
  arrays = float64((params, stats, x, y))
  want, want_stats = reference(*arrays, LENGTHS, train=True, **options)
  out, new, _ = train_pass(
    layer, params, stats, x, y, LENGTHS, random_weights()
  )
  np.testing.assert_allclose(out, want, rtol=1e-4, atol=2e-5)
  assert_close(new, want_stats)

  out = evaluate(layer, params, stats, x, y, LENGTHS)
  want, _ = reference(*arrays, LENGTHS, train=False, **options)
  np.testing.assert_allclose(out, want, rtol=1e-4, atol=1e-5)
  assert np.abs(want).max() > 0.1


@pytest.mark.parametrize("rbn,output_bn", OPTIONS)
def test_gradients_equal_finite_differences_of_the_reference(rbn, output_bn):
  options = {"rbn": rbn, "output_bn": output_bn}
  layer, params, stats = make(**options)
  # No step with one lone utterance: its variance, 0, makes the loss steep.
  lengths = np.array([5, 5, 5, 4, 3, 3, 3, 0], np.int32)
  x, y = inputs()
  weights, draw = random_weights(), np.random.default_rng(4)
  _, _, grads = train_pass(layer, params, stats, x, y, lengths, weights)
  leaves, structure = jax.tree.flatten(float64((params, x, y)))

  def loss(leaves):
    params, x, y = jax.tree.unflatten(structure, leaves)
    out, _ = reference(
      params, float64(stats), x, y, lengths, train=True, **options
    )
    return np.sum(out * weights)

  for number, grad in enumerate(jax.tree.leaves(grads)):
    direction, tiny = draw.normal(size=grad.shape), 1e-6

    def moved(by, number=number, direction=direction):
      return loss(
        [a + by * direction if n == number else a for n, a in enumerate(leaves)]
      )

    slope = (moved(tiny) - moved(-tiny)) / (2 * tiny)
    np.testing.assert_allclose(
      np.sum(grad * direction), slope, rtol=2e-3, atol=2e-3
    )


@pytest.mark.parametrize("loop", [{"hoist": False}, {"unroll": 2}], ids=str)
def test_how_the_loop_is_written_changes_nothing(loop):
  options = {"rbn": "post", "output_bn": "per_step"}
  layer, params, stats = make(**options)
  other = DSLSTM(HIDDEN, **loop, **options)
  args = (params, stats, *inputs(), LENGTHS, random_weights())
  assert_close(train_pass(layer, *args), train_pass(other, *args), atol=1e-4)


@pytest.mark.parametrize("rbn,output_bn", NORMALIZED)
def test_padding_and_filler_change_nothing(rbn, output_bn):
  # Slots for the longer of both batches, so that none is missing.
  layer, params, stats = make(TIME + 3, rbn=rbn, output_bn=output_bn)
  short = inputs()
  long = [100.0 * a for a in inputs(TIME + 3, BATCH + 2, seed=9)]
  valid = np.arange(TIME) < LENGTHS[:, None]
  for whole, part in zip(long, short, strict=True):
    whole[:BATCH, :TIME][valid] = part[valid]
  weights = random_weights(TIME + 3, BATCH + 2)

  want, want_stats, want_grads = train_pass(
    layer, params, stats, *short, LENGTHS, weights[:BATCH, :TIME]
  )
  out, new, grads = train_pass(
    layer, params, stats, *long, np.append(LENGTHS, np.int32([0, 0])), weights
  )
  assert_close(new, want_stats, atol=1e-6)
  assert_close(grads[0], want_grads[0], atol=1e-4)
  for whole, part in zip(
    (out, *grads[1:]), (want, *want_grads[1:]), strict=True
  ):
    np.testing.assert_allclose(whole[:BATCH, :TIME], part, rtol=1e-4, atol=1e-4)
    assert not np.any(whole[BATCH:]) and not np.any(whole[:, TIME:])


def test_steps_past_the_last_slot_use_it():
  layer, params, stats = make(rbn="post", output_bn="per_step")
  x, y = inputs(TIME + 3)
  full = np.full(BATCH, TIME + 3, np.int32)
  options = {"rbn": "post", "output_bn": "per_step"}
  out = evaluate(layer, params, stats, x, y, full)
  arrays = float64((params, stats, x, y))
  want, _ = reference(*arrays, full, train=False, **options)
  np.testing.assert_allclose(out, want, rtol=1e-4, atol=1e-5)

  weights = random_weights(TIME + 3)
  _, new, _ = train_pass(layer, params, stats, x, y, full, weights)
  _, want = reference(*arrays, full, train=True, **options)
  assert_close(new, want)


@pytest.mark.parametrize("reached", [0, 1])
def test_a_step_that_at_most_one_reaches_keeps_its_statistics(reached):
  layer, params, stats = make(rbn="post", output_bn="per_step")
  lengths = np.minimum(LENGTHS, 3)
  lengths[:reached] = TIME
  args = (*inputs(), lengths, random_weights())
  _, new, _ = train_pass(layer, params, stats, *args)
  for old, now in zip(
    jax.tree.leaves(stats), jax.tree.leaves(new), strict=True
  ):
    np.testing.assert_array_equal(old[3:], now[3:])
    assert np.all(old[:3] != now[:3])


def test_steps_that_training_never_reaches_use_the_last_that_it_did():
  options = {"rbn": "post", "output_bn": "per_step"}
  layer, params, stats = make(**options)
  for slots in stats.values():
    slots["mean"][3:], slots["variance"][3:] = 0.0, 1.0
  lengths = np.minimum(LENGTHS, 3)
  x, y = inputs()
  _, trained, _ = train_pass(
    layer, params, stats, x, y, lengths, random_weights()
  )
  full = np.full(BATCH, TIME, np.int32)
  out = evaluate(layer, params, trained, x, y, full)
  # Slots that end there, as if no longer batch had been seen at first.
  ended = jax.tree.map(lambda slots: slots[:3], trained)
  arrays = float64((params, ended, x, y))
  want, _ = reference(*arrays, full, train=False, **options)
  np.testing.assert_allclose(out, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rbn,output_bn", NORMALIZED[:2])
def test_pmap_equals_one_device(rbn, output_bn):
  layer, params, stats = make(rbn=rbn, output_bn=output_bn)
  split = DSLSTM(HIDDEN, rbn=rbn, output_bn=output_bn, axis_name="data")
  lengths = np.concatenate([LENGTHS, LENGTHS[::-1]])
  arrays = (*inputs(batch=16), lengths, random_weights(batch=16))
  want, want_stats, want_grads = train_pass(layer, params, stats, *arrays)

  held = jax.tree.map(jnp.array, (params, stats))

  def device_step(*args):
    out, new, grads = train_pass.__wrapped__(split, *held, *args)
    return out, new, (jax.lax.psum(grads[0], "data"), *grads[1:])

  assert jax.device_count() == 8
  shards = [a.reshape(8, 2, *a.shape[1:]) for a in arrays]
  out, new, grads = jax.pmap(device_step, "data")(*shards)
  for whole, part in zip(
    (want, *want_grads[1:]), (out, *grads[1:]), strict=True
  ):
    np.testing.assert_allclose(
      part.reshape(whole.shape), whole, rtol=1e-4, atol=1e-4
    )
  for device in (0, 7):
    got = jax.tree.map(lambda a, d=device: a[d], (new, grads[0]))
    assert_close(got, (want_stats, want_grads[0]), atol=1e-4)
