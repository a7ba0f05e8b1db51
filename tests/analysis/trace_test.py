"""Traces: of devices written by hand, and of a real step."""

import gzip
import json

import jax
import jax.numpy as jnp
import pytest

from configs import common
from ser_jax.analysis import hlo, measured, trace
from ser_jax.errors import UserError


def span(pid, tid, name, start, end, **arguments):
  """An event; times in microseconds."""
  return {
    **{"ph": "X", "pid": pid, "tid": tid, "name": name},
    **{"ts": start, "dur": end - start, "args": arguments},
  }


def named(kind, pid, name, tid=None):
  tid = {} if tid is None else {"tid": tid}
  return {"ph": "M", "pid": pid, "name": kind, "args": {"name": name}} | tid


GPU = [
  named("process_name", 1, "/device:GPU:0"),
  named("thread_name", 1, "Stream #14(Compute)", tid=7),
  named("thread_name", 1, "XLA Ops", tid=8),
  named("process_name", 9, "/host:CPU"),
  span(1, 7, "kernel_17", 0, 10, hlo_op="fusion.1"),
  span(1, 7, "kernel_18", 20, 50, hlo_op="dot.2"),
  span(1, 7, "MemcpyH2D", 90, 100),
  span(1, 8, "fusion.1", 0, 10, hlo_op="fusion.1"),
  span(9, 3, "fusion.1", 0, 1000, hlo_op="fusion.1"),
]
CPU = [
  named("process_name", 9, "/host:CPU"),
  span(9, 3, "while.3", 0, 100, hlo_op="while.3", device_ordinal="0"),
  span(9, 3, "dot.1", 10, 40, hlo_op="dot.1", device_ordinal="0"),
  span(9, 4, "dot.1", 30, 60, hlo_op="dot.1", device_ordinal="1"),
  span(9, 3, "ThunkExecutor", 0, 500),
  {"ph": "i", "pid": 9, "tid": 3, "name": "mark", "ts": 1},
]


def test_a_gpu_s_streams_and_nothing_twice():
  events = trace.executions(GPU)
  assert [event.name for event in events] == ["fusion.1", "dot.2", "MemcpyH2D"]
  assert trace.busy_share(events) == {"/device:GPU:0": pytest.approx(0.5)}
  (first, second, *_) = trace.top(events, 2)
  assert (first["name"], first["share"]) == ("dot.2", pytest.approx(0.6))
  assert second["executed"] == 1


def test_a_cpu_s_threads():
  events = trace.executions(CPU)
  assert [event.name for event in events] == ["while.3", "dot.1", "dot.1"]
  leaves = [event for event in events if event.name != "while.3"]
  assert trace.busy_share(leaves) == {
    "0": pytest.approx(0.6),
    "1": pytest.approx(0.6),
  }


def test_what_overlaps_counts_once():
  assert trace.covered([(0, 2), (1, 3), (5, 6), (5, 5.5)]) == 4


def test_no_trace_is_an_error(tmp_path):
  with pytest.raises(UserError, match="no trace"):
    trace.read(tmp_path)


def test_the_newest_trace_is_read(tmp_path):
  with gzip.open(tmp_path / "host.trace.json.gz", "wt") as file:
    json.dump({"traceEvents": GPU}, file)
  assert trace.read(tmp_path) == GPU


def profile_config(**changes):
  config = common.get_config()
  config.profile.update({"steps": 2, "skip": 1, "during_training": True})
  config.profile.update(changes)
  return config


@pytest.mark.parametrize("skip", [0, 1])
def test_a_training_traces_the_steps_asked_for(tmp_path, skip):
  x = jnp.ones((8, 8))
  step = jax.jit(lambda x: jnp.sin(x) @ x).lower(x).compile()
  with trace.tracing(
    profile_config(skip=skip), tmp_path, lambda: True
  ) as should_stop:
    for number in range(5):
      with jax.profiler.StepTraceAnnotation("train", step_num=number):
        jax.block_until_ready(step(x))
      assert should_stop()
  events = trace.read(tmp_path / "trace")
  steps = [e["args"]["step_num"] for e in events if e.get("name") == "train"]
  assert steps == [str(number) for number in range(skip, skip + 2)]
  executed = {event.name for event in trace.executions(events)}
  assert executed and all(f"%{name} = " in step.as_text() for name in executed)


def test_a_training_that_ends_early_still_leaves_its_trace(tmp_path):
  with trace.tracing(
    profile_config(skip=0, steps=9), tmp_path, lambda: False
  ) as should_stop:
    assert not should_stop()
  assert trace.read(tmp_path / "trace")


def test_a_training_too_short_to_trace_says_so(tmp_path, caplog):
  with trace.tracing(
    profile_config(skip=9), tmp_path, lambda: False
  ) as should_stop:
    should_stop()
  assert "nothing was traced" in caplog.text
  assert not (tmp_path / "trace").exists()


def test_a_training_is_traced_only_where_asked_for(tmp_path):
  def should_stop():
    return True

  config = profile_config(during_training=False)
  with trace.tracing(config, tmp_path, should_stop) as asked:
    assert asked is should_stop


@pytest.mark.parametrize(("field", "value"), [("steps", 0), ("skip", -1)])
def test_steps_out_of_range_are_refused(tmp_path, field, value):
  with (
    pytest.raises(UserError, match=f"config.profile.{field}={value}"),
    trace.tracing(profile_config(**{field: value}), tmp_path, lambda: False),
  ):
    pass


def test_what_holds_instructions_is_not_one(tmp_path, monkeypatch):
  """Loops and branches, whatever they are called."""

  def step(x):
    def turn(i, x):
      return jax.lax.cond(x[0, 0] > i, jnp.matmul, jnp.add, x, x)

    return jax.lax.fori_loop(0, 9, turn, x)

  text = jax.jit(step).lower(jnp.ones((64, 64))).compile().as_text()
  names = [
    instruction.name
    for computation in hlo.parse(text).computations.values()
    for instruction in computation.values()
    if instruction.opcode in ("while", "conditional", "dot", "fusion")
  ]
  events = [
    span(9, 3, name, 10 * n, 10 * n + 10, hlo_op=name, device_ordinal="0")
    for n, name in enumerate(names)
  ]
  monkeypatch.setattr(trace, "read", lambda folder: [CPU[0], *events])
  rows = {
    row["name"] for row in measured._traced(tmp_path, [text])["instructions"]
  }
  held = {name for name in names if name.startswith(("while", "cond"))}
  assert len(held) == 2 and rows == set(names) - held
