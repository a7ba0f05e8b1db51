"""One step under every layout: one device = mesh = pmap, stacked = looped."""

import re
import types

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ser_jax.batch import Batch
from ser_jax.errors import UserError
from ser_jax.nn.dropout import Dropout
from ser_jax.nn.normalization import BatchNorm
from ser_jax.tasks.classify import classify
from ser_jax.train.compile import OPTIONS, Program
from ser_jax.train.devices import make_layout
from ser_jax.train.placement import fitting
from ser_jax.train.sharing import sharing
from ser_jax.train.state import TrainState, init_state
from ser_jax.train.step import predict_step, several, train_step
from tests.compiling import AS_TRAININGS

SIZE, TIME, DIM = 16, 6, 3


class Net(nn.Module):
  """Dense -> BatchNorm -> dropout -> masked mean -> Dense: small.

  No bias before BatchNorm: its gradient is rounding error, and Adam
  amplifies it.
  """

  axis_name: str | None = None

  @nn.compact
  def __call__(self, inputs, lengths, *, train):
    x, length = nn.Dense(8, use_bias=False)(inputs["frames"]), lengths["frames"]
    valid = jnp.arange(x.shape[1])[None] < length[:, None]
    x = BatchNorm(axis_name=self.axis_name)(x, valid, train=train)
    x = Dropout(0.2, axis_name=self.axis_name)(x, train=train)
    x = jnp.where(valid[:, :, None], nn.relu(x), 0.0).sum(axis=1)
    logits = nn.Dense(4)(x / jnp.maximum(length, 1)[:, None])
    return {"logits": logits, "heads": {"only": logits}}


def random_batch(seed=0, runs=1, filler=3):
  draw = np.random.default_rng(seed)
  weight = np.ones((runs, SIZE), np.float32)
  weight[:, SIZE - filler :] = 0.0
  lengths = draw.integers(1, TIME + 1, (runs, SIZE)) * (weight > 0)
  frames = draw.normal(size=(runs, SIZE, TIME, DIM)).astype(np.float32)
  return Batch(
    inputs={"frames": frames},
    lengths={"frames": lengths.astype(np.int32)},
    targets={"emotion": draw.integers(0, 4, (runs, SIZE)).astype(np.int32)},
    weight=weight,
    speaker=np.zeros((runs, SIZE), np.int32),
    index=np.zeros((runs, SIZE), np.int32),
  )


def layout_of(count=1, accumulate=1, size=SIZE, **changes):
  config = {
    "backend": "jit",
    "runs": "loop",
    "run": 1,
    "data": 1,
    "optimizer_state": "replicated",
  }
  return make_layout(
    types.SimpleNamespace(**(config | changes)),
    runs=count,
    batch_size=size,
    accumulate=accumulate,
  )


def programs(layout, sharded=False):
  tx = optax.inject_hyperparams(optax.adam)(learning_rate=1e-2)
  if sharded:
    tx = sharing(tx, layout.axis_name)
  task = classify(Net(layout.axis_name), tx)

  def train(state, item, statistics, constants, frames):
    return train_step(
      state, item, task=task, total_steps=10, axis_name=layout.axis_name
    )

  def predict(weights, item, statistics, constants, frames):
    return predict_step(weights, item, task=task)

  return (
    task,
    Program(layout, train, trains=True, name="train"),
    Program(layout, predict, trains=False, name="predict"),
  )


def train_under(layout, seeds, batches, sharded=False):
  """A few steps and a prediction, everything back on the host."""
  task, train, predict = programs(layout, sharded)
  example = jax.tree.map(lambda x: x[0], batches[0])
  state = jax.vmap(lambda seed: init_state(seed, example, task))(
    jnp.array(seeds, jnp.uint32)
  )
  state = layout.place_runs(jax.device_get(state))
  statistics = layout.place_runs(np.zeros(len(seeds), np.float32))
  key = (("frames", TIME),)
  for batch in batches:
    item = layout.place_item(batch)
    state, metrics = train(state, item, statistics, {}, key)
  scores = predict(state.weights, item, statistics, {}, key)["scores"]
  assert len(train.compile_seconds) == 1
  return (
    layout.fetch_runs(state),
    layout.fetch_runs(metrics),
    layout.fetch_item(scores),
  )


def assert_close(one, two, atol):
  for (path, a), b in zip(
    jax.tree_util.tree_leaves_with_path(one), jax.tree.leaves(two), strict=True
  ):
    np.testing.assert_allclose(
      a, b, atol=atol, rtol=1e-4, err_msg=jax.tree_util.keystr(path)
    )


@pytest.mark.parametrize(
  "changes", [{"data": 8}, {"backend": "pmap", "data": 8}, {"data": 2}]
)
def test_devices_are_invisible(changes):
  batches = [random_batch(seed) for seed in range(3)]
  one = train_under(layout_of(), [0], batches)
  many = train_under(layout_of(**changes), [0], batches)
  assert_close(one, many, atol=2e-5)


@pytest.mark.parametrize(
  ("runs", "changes"),
  [(1, {"data": 8}), (4, {"runs": "vmap", "run": 2, "data": 2})],
)
def test_several_steps_a_call_are_steps_one_by_one(runs, changes):
  """On devices that share a batch, too; sums are those of all steps."""
  batches = [random_batch(seed, runs) for seed in range(3)]
  layout, seeds = layout_of(runs, **changes), list(range(runs))
  task, train, _ = programs(layout)
  example = jax.tree.map(lambda x: x[0], batches[0])
  state = jax.vmap(lambda seed: init_state(seed, example, task))(
    jnp.array(seeds, jnp.uint32)
  )
  statistics = layout.place_runs(np.zeros(runs, np.float32))
  key = (("frames", TIME),)

  def scanned(state, items, *arrays, frames):
    def step(state, item):
      return train_step(
        state, item, task=task, total_steps=10, axis_name=layout.axis_name
      )

    return several(step)(state, items)

  program = Program(layout, scanned, trains=True, name="three", stacked=True)
  items = jax.tree.map(lambda *x: np.stack(x, axis=1), *batches)
  found, sums = program(
    layout.place_runs(jax.device_get(state)),
    layout.place_item(items, stacked=True),
    *(statistics, {}, key),
  )
  state = layout.place_runs(jax.device_get(state))
  total = 0
  for batch in batches:
    state, metrics = train(state, layout.place_item(batch), statistics, {}, key)
    total += layout.fetch_runs(metrics).values
  assert_close(layout.fetch_runs(state), layout.fetch_runs(found), atol=2e-5)
  np.testing.assert_allclose(layout.fetch_runs(sums).values, total, rtol=1e-4)


@pytest.mark.parametrize(
  "changes",
  [
    {"runs": "vmap"},
    {"runs": "vmap", "run": 2, "data": 2},
    {"runs": "shard", "run": 4},
    {"runs": "vmap", "backend": "pmap", "data": 4},
  ],
)
def test_stacked_runs_are_runs_one_by_one(changes):
  seeds = [3, 1, 4, 1]
  stacked = [random_batch(seed, runs=4) for seed in range(3)]
  together = train_under(layout_of(4, **changes), seeds, stacked)
  for number, seed in enumerate(seeds):
    alone = train_under(
      layout_of(),
      [seed],
      [jax.tree.map(lambda x, n=number: x[n : n + 1], b) for b in stacked],
    )
    part = jax.tree.map(lambda x, n=number: x[n : n + 1], together)
    assert_close(alone, part, atol=2e-5)


@pytest.mark.parametrize(
  ("runs", "changes"),
  [(1, {}), (1, {"data": 8}), (4, {"runs": "vmap", "run": 2, "data": 4})],
)
def test_shared_states_are_whole_ones(runs, changes):
  """And each device holds its share alone."""
  batches = [random_batch(seed, runs=runs) for seed in range(3)]
  layout, seeds = layout_of(runs, **changes), list(range(runs))
  whole = train_under(layout, seeds, batches)
  shared = train_under(layout, seeds, batches, sharded=True)
  assert_close(
    (whole[0].params, *whole[1:]), (shared[0].params, *shared[1:]), atol=2e-5
  )
  placed = layout.place_runs(shared[0])
  moments = jax.tree.leaves(placed.opt_state["classify"].inner_state[0].mu)
  whole = jax.tree.leaves(layout.place_runs(whole[0].params))
  for wanted, x in zip(whole, moments, strict=True):
    assert x.ndim == wanted.ndim
    (size,) = {shard.data.size for shard in x.addressable_shards}
    assert size * len(x.addressable_shards) == x.size


def test_shared_states_take_two_collectives():
  """In place of one for every parameter's gradient."""
  layout, batch, counts = layout_of(data=8), random_batch(0), []
  for sharded in (False, True):
    task, train, _ = programs(layout, sharded)
    state = jax.vmap(
      lambda seed: init_state(seed, jax.tree.map(lambda x: x[0], batch), task)  # noqa: B023
    )(jnp.zeros(1, jnp.uint32))
    text = train.lower(
      layout.place_runs(jax.device_get(state)),
      layout.place_item(batch),
      layout.place_runs(np.zeros(1, np.float32)),
      {},
      (("frames", TIME),),
    ).as_text()
    kinds = ("reduce_scatter", "all_gather", "all_reduce")
    counts.append([text.count(f'"stablehlo.{kind}"') for kind in kinds])
  more = np.subtract(counts[1], counts[0])
  parameters = len(jax.tree.leaves(state.params))
  np.testing.assert_array_equal(more, [1, 1, -parameters])


def test_a_run_s_weights_change_where_they_lie():
  """No copies of what a program was given to change, beside the gradient."""
  tx = optax.adam(1e-3)

  def train(state, item, *_, frames):
    gradient = jax.grad(lambda w: jnp.sum(jnp.square(item @ w)))(state.params)
    updates, opt_state = tx.update(gradient, state.opt_state)
    params = optax.apply_updates(state.params, updates)
    return state.replace(params=params, opt_state=opt_state), gradient[0, 0]

  weight, layout = np.zeros((512, 512), np.float32), layout_of()
  state = TrainState(0, weight, {}, tx.init(weight), 0)
  state = jax.tree.map(lambda x: np.asarray(x)[None], state)
  item = layout.place_item(np.ones((1, SIZE, 512), np.float32))
  program = Program(layout, train, trains=True, name="train")
  lowered = program.lower(layout.place_runs(state), item, {}, {}, ())
  found = lowered.compile(AS_TRAININGS).memory_analysis()
  assert found.alias_size_in_bytes >= 3 * weight.nbytes
  assert found.temp_size_in_bytes < 1.1 * weight.nbytes


def test_products_on_cpus_are_eigen_s(monkeypatch):
  """YNNPACK's take up to two thirds longer; its sums are the faster ones."""
  monkeypatch.setitem(OPTIONS, "cpu", OPTIONS["cpu"] | AS_TRAININGS)
  x, layout = np.ones((64, 512), np.float32), layout_of()
  lowered = jax.jit(lambda x, w: (x @ w, x.sum(0))).lower(x, x.T)
  text = layout.compiled(lowered).as_text()
  assert re.search(r" dot\(", text)
  assert len(re.findall("calls=.*__ynn_fusion", text)) == 1


def test_filler_changes_nothing():
  batch = random_batch(0, filler=3)
  other = random_batch(7, filler=3)
  mixed = jax.tree.map(
    lambda a, b: np.concatenate([a[:, :-3], b[:, -3:]], axis=1), batch, other
  )
  one = train_under(layout_of(), [0], [batch])
  two = train_under(layout_of(), [0], [mixed])
  assert_close(one[:2], two[:2], atol=0)
  np.testing.assert_array_equal(one[2][:, :-3], two[2][:, :-3])


def test_selection_is_by_run():
  stacked = layout_of(3, runs="vmap")
  new = stacked.place_runs({"w": np.ones((3, 2), np.float32)})
  old = stacked.place_runs({"w": np.zeros((3, 2), np.float32)})
  mask = np.array([True, False, True])
  found = stacked.fetch_runs(stacked.select(mask, new, old))
  assert found["w"].tolist() == [[1, 1], [0, 0], [1, 1]]


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"backend": "xmap"}, "backend='xmap'"),
    ({"runs": "scan"}, "runs='scan'"),
    ({"optimizer_state": "split"}, "optimizer_state='split'"),
    ({"optimizer_state": "sharded", "data": 7}, "divides 960"),
    ({"optimizer_state": "sharded", "backend": "pmap"}, "backend='pmap'"),
    ({"runs": "shard", "backend": "pmap"}, "backend='pmap'"),
    ({"runs": "vmap", "run": 2, "backend": "pmap"}, "run=2 is for runs that"),
    ({"run": 4}, "run=4 is for runs that"),
    ({"runs": "shard", "data": 2}, "whole runs, no share of a batch"),
    ({"runs": "shard", "optimizer_state": "sharded"}, "whole runs"),
    ({"data": 9}, "there are 8"),
    ({"data": 3}, "does not divide by the 3"),
    ({"runs": "vmap", "run": 3}, "the 4 runs of a program"),
    ({"data": 4, "accumulate": 3}, "config.accumulate=3"),
    ({"data": 0, "accumulate": 3}, "over 1 devices .* config.accumulate=3"),
    ({"data": 0, "runs": "vmap", "run": 16}, "asks for 16 x 0"),
  ],
)
def test_what_does_not_divide_is_refused(changes, message):
  with pytest.raises(UserError, match=message):
    layout_of(4, **changes)


@pytest.mark.parametrize(
  ("size", "changes", "wanted"),
  [
    (16, {}, (1, 8)),
    (50, {}, (1, 5)),
    (5, {}, (1, 5)),
    (1, {}, (1, 1)),
    (50, {"backend": "pmap"}, (1, 5)),
    (16, {"accumulate": 4}, (1, 4)),
    (50, {"runs": "vmap", "run": 2}, (2, 2)),
    (50, {"runs": "shard"}, (4, 1)),
  ],
)
def test_as_many_devices_share_a_batch_as_divide_it(
  caplog, size, changes, wanted
):
  layout = layout_of(4, size=size, data=0, **changes)
  assert layout.mesh.devices.shape == wanted
  assert ("the others idle" in caplog.text) == (layout.mesh.size < 8)


@pytest.mark.parametrize(
  ("runs", "devices"), [(5, 5), (9, 3), (10, 5), (11, 1), (12, 6), (16, 8)]
)
def test_as_many_devices_have_runs_as_divide_them(caplog, runs, devices):
  layout = layout_of(runs, runs="shard", data=0)
  assert layout.mesh.devices.shape == (devices, 1)
  assert ("the others idle" in caplog.text) == (devices < 8)


def test_each_shape_compiles_once():
  layout = layout_of()
  task, train, _ = programs(layout)
  example = jax.tree.map(lambda x: x[0], random_batch())
  state = jax.device_get(init_state(jnp.uint32(0), example, task))
  state = layout.place_runs(jax.tree.map(lambda x: np.asarray(x)[None], state))
  for time in [TIME, 4] * 3:
    batch = random_batch()
    batch = batch.replace(
      inputs={"frames": batch.inputs["frames"][:, :, :time]},
      lengths={"frames": np.minimum(batch.lengths["frames"], time)},
    )
    state, _ = train(
      state,
      layout.place_item(batch),
      layout.place_runs(np.zeros(1, np.float32)),
      {},
      (("frames", time),),
    )
  assert len(train.compile_seconds) == 2


def test_what_does_not_fit_into_memory_says_what_to_lower():
  layout = layout_of()

  def predict(weights, item, statistics, constants, frames):
    room = jnp.zeros(2**46) + item.weight[0]  # 256 TiB
    return {"scores": jnp.sort(room)[None]}

  program = Program(layout, predict, trains=False, name="predict step")
  arguments = layout.place_item(random_batch()), jnp.zeros(()), {}, ()
  with pytest.raises(
    UserError, match="the predict step does not fit .*: lower config.batch_size"
  ):
    program({}, *arguments)


def test_other_failures_of_devices_are_not_called_memory():
  with pytest.raises(jax.errors.JaxRuntimeError), fitting("it", "nothing"):
    raise jax.errors.JaxRuntimeError("INTERNAL: out of luck")
