"""Phases: each moves its scope alone, in order, on what the one before left."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ser_jax.batch import Batch
from ser_jax.tasks.task import Phase, Task
from ser_jax.train.state import init_state, split
from ser_jax.train.step import train_step

ONE = jnp.ones(())


def batch():
  zeros = jnp.zeros(4, jnp.int32)
  return Batch({}, {}, {}, jnp.ones(4), zeros, zeros)


def two_phases(order=("generator", "critic")):
  """w <- w - .1 (from w = 1), then v <- v - w; progress and keys are seen."""

  def init(rng, batch):
    del rng, batch
    return {"w": jnp.ones(()), "v": jnp.zeros(())}, {
      "seen": jnp.zeros((), jnp.int32)
    }

  def generator(params, stats, batch, turn):
    loss = 0.1 * params["w"] + 7.0 * params["v"]
    totals = {"noise": (jax.random.uniform(turn.rng), ONE)}
    return (loss, ONE), {"seen": stats["seen"] + 1}, totals

  def critic(params, stats, batch, turn):
    loss = params["w"] * params["v"]
    totals = {
      "progress": (turn.progress, ONE),
      "noise2": (jax.random.uniform(turn.rng), ONE),
    }
    return (loss, ONE), {"seen": stats["seen"] * 10}, totals

  phases = {
    "generator": Phase("generator", ("w",), generator, optax.sgd(1.0)),
    "critic": Phase("critic", ("v",), critic, optax.sgd(1.0)),
  }
  phases = {
    name: Phase(
      phase.name,
      phase.scope,
      phase.loss_fn,
      optax.with_extra_args_support(phase.tx),
    )
    for name, phase in phases.items()
  }
  return Task(init, tuple(phases[name] for name in order), lambda *a: {})


def step(task, state):
  return jax.jit(
    lambda state: train_step(state, batch(), task=task, total_steps=10)
  )(state)


def test_a_phase_moves_its_scope_and_sees_what_went_before():
  task = two_phases()
  state, _ = step(task, init_state(jnp.uint32(0), batch(), task))
  assert float(state.params["w"]) == pytest.approx(0.9)
  assert float(state.params["v"]) == pytest.approx(-0.9)
  assert int(state.batch_stats["seen"]) == 10


def test_order_matters():
  task = two_phases(("critic", "generator"))
  state, _ = step(task, init_state(jnp.uint32(0), batch(), task))
  assert float(state.params["v"]) == pytest.approx(-1.0)
  assert int(state.batch_stats["seen"]) == 1


def test_optimizer_states_are_those_of_the_scopes():
  task = two_phases()
  task = Task(
    task.init,
    tuple(
      Phase(p.name, p.scope, p.loss_fn,
            optax.with_extra_args_support(optax.adam(1e-3)))
      for p in task.phases
    ),
    task.predict,
  )  # fmt: skip
  state = init_state(jnp.uint32(0), batch(), task)
  assert set(state.opt_state["generator"][0].mu) == {"w"}
  assert set(state.opt_state["critic"][0].mu) == {"v"}


def test_keys_differ_by_step_and_phase_and_repeat_with_the_seed():
  task = two_phases()
  state = init_state(jnp.uint32(0), batch(), task)
  later, one = step(task, state)
  _, two = step(task, later)
  _, again = step(task, state)
  assert float(one["noise"][0]) != float(one["noise2"][0])
  assert float(one["noise"][0]) != float(two["noise"][0])
  assert float(one["noise"][0]) == float(again["noise"][0])
  assert float(two["progress"][0]) == pytest.approx(0.1)


def regression():
  """Squared error of a line, weighted, in a phase; counts what it saw."""

  def init(rng, batch):
    del rng, batch
    return {"line": jnp.ones(3)}, {"seen": jnp.zeros(())}

  def loss_fn(params, stats, batch, turn):
    del turn
    error = batch.inputs["x"] @ params["line"] - batch.inputs["y"]
    loss = jnp.sum(error**2 * batch.weight), batch.weight.sum()
    return loss, {"seen": stats["seen"] + 1}, {"loss": loss}

  tx = optax.with_extra_args_support(optax.sgd(0.1))
  return Task(init, (Phase("fit", None, loss_fn, tx),), lambda *a: {})


def test_microbatches_equal_the_large_batch():
  """Filler, last in the batch, counts for nothing; its share is uneven."""
  draw = np.random.default_rng(0)
  zeros = np.zeros(8, np.int32)
  weight = (np.arange(8) < 5).astype(np.float32)
  inputs = {
    "x": draw.normal(size=(8, 3)).astype(np.float32),
    "y": draw.normal(size=8).astype(np.float32),
  }
  large = Batch(inputs, {}, {}, weight, zeros, zeros)
  large = jax.tree.map(jnp.asarray, large)
  task = regression()
  state = init_state(jnp.uint32(0), large, task)
  found = {
    count: jax.jit(
      lambda state, count=count: train_step(
        state, large, task=task, total_steps=10, accumulate=count
      )
    )(state)
    for count in (1, 2, 4)
  }
  for count in (2, 4):
    after, totals = found[count]
    np.testing.assert_allclose(
      after.params["line"], found[1][0].params["line"], rtol=1e-5
    )
    np.testing.assert_allclose(totals["loss"], found[1][1]["loss"], rtol=1e-5)
    # Running statistics move with every microbatch.
    assert float(after.batch_stats["seen"]) == count
  halves = jax.tree.map(lambda x: x.reshape(2, 4, *x.shape[1:]), large)
  over_devices = jax.vmap(
    lambda state, half: train_step(
      state, half, task=regression(), total_steps=10, axis_name="data",
      accumulate=2,
    ),
    in_axes=(None, 0), axis_name="data",
  )  # fmt: skip
  np.testing.assert_allclose(
    jax.jit(over_devices)(state, halves)[0].params["line"][0],
    found[1][0].params["line"],
    rtol=1e-5,
  )


def test_the_step_traces_once():
  task, traces = two_phases(), []

  @jax.jit
  def counted(state):
    traces.append(None)
    return train_step(state, batch(), task=task, total_steps=10)[0]

  state = init_state(jnp.uint32(0), batch(), task)
  for _ in range(3):
    state = counted(state)
  assert len(traces) == 1
  assert int(state.step) == 3


def test_splitting_by_an_unknown_group_is_refused():
  with pytest.raises(KeyError, match="encoder"):
    split({"w": np.zeros(2)}, ("encoder",))
