"""The loop on a small model: resuming, selection, bad numbers."""

import dataclasses
import functools
import os
import signal
import types

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ser_jax.data import statistics
from ser_jax.data.examples import Examples, example_batch
from ser_jax.data.prepare import prepare
from ser_jax.data.protocols import Fold
from ser_jax.data.resident import Resident
from ser_jax.data.stream import Stream
from ser_jax.errors import UserError
from ser_jax.tasks.classify import classify
from ser_jax.train import loop
from ser_jax.train.books import Books, Settings
from ser_jax.train.checkpoint import Checkpoints
from ser_jax.train.compile import Program
from ser_jax.train.devices import make_layout
from ser_jax.train.engine import Engine
from ser_jax.train.state import init_state
from ser_jax.train.step import predict_step, several, train_step
from tests import fakes

EPOCHS, STEPS, SIZE = 3, 4, 8


class Net(nn.Module):
  """Masked mean -> Dense, with dropout, so that keys matter."""

  @nn.compact
  def __call__(self, inputs, lengths, *, train):
    x, length = inputs["frames"], lengths["frames"]
    x = x.sum(axis=1) / jnp.maximum(length, 1)[:, None]
    x = nn.Dropout(0.2, deterministic=not train)(nn.Dense(16)(x))
    logits = nn.Dense(4)(nn.relu(x))
    return {"logits": logits, "heads": {"only": logits}}


class Bench:
  """Everything a fit needs, over the corpus in memory."""

  def __init__(
    self, source=Resident, seeds=(0,), runs="loop", rate=1e-2, steps=1
  ):
    shards = fakes.FakeShards()
    indices = np.arange(len(shards))
    fold = Fold("one", indices[:30], indices[30:40], indices[40:])
    config = fakes.data_config()
    plans = statistics.make_plans(shards, config, (fold,), indices)
    self.labels = np.array(
      [fakes.EMOTIONS.index(e) for e in shards.table.emotions], np.int32
    )
    examples = Examples(
      shards,
      plans,
      {"emotion": self.labels},
      np.zeros(len(shards), np.int32),
      indices,
    )
    tx = optax.inject_hyperparams(optax.adam)(learning_rate=rate)
    self.task = classify(Net(), tx)
    parallel = {"backend": "jit", "runs": runs, "run": 1, "data": 1}
    layout = make_layout(
      types.SimpleNamespace(**parallel, optimizer_state="replicated"),
      runs=len(seeds),
      batch_size=SIZE,
    )
    data = source(examples, layout.share)

    def train(state, item, stats, constants, frames):
      batch = prepare(data.gather(constants, item, frames), stats, plans)
      return train_step(
        state, batch, task=self.task, total_steps=EPOCHS * STEPS
      )

    def train_several(state, items, *arrays, frames):
      return several(lambda s, i: train(s, i, *arrays, frames))(state, items)

    def predict(weights, item, stats, constants, frames):
      batch = prepare(data.gather(constants, item, frames), stats, plans)
      return predict_step(weights, batch, task=self.task)

    self.engine = Engine(
      layout=layout,
      source=data,
      constants=layout.place_constants(data.constants),
      train=Program(layout, train, trains=True, name="train"),
      predict=Program(layout, predict, trains=False, name="predict"),
      batch_size=SIZE,
      several=Program(
        layout, train_several, trains=True, name="several", stacked=True
      ),
      steps=steps,
    )
    self.runs = [
      loop.Run("one", seed, fold.train, fold.validation, fold.test)
      for seed in seeds
    ]
    found = statistics.fold_statistics(shards, plans, fold)
    self.statistics = layout.place_runs(
      jax.tree.map(lambda x: np.stack([x] * len(seeds)), found)
    )
    self.examples = examples

  def start(self):
    """Fresh states, on the host."""
    fresh = jax.vmap(
      functools.partial(init_state, task=self.task), in_axes=(0, None)
    )
    seeds = jnp.array([run.seed for run in self.runs], jnp.uint32)
    return jax.device_get(fresh(seeds, example_batch(self.examples, 2)))

  def fit(
    self, folder, *, stop_after=None, score=None, patience=0, diverged=None
  ):
    """Fits; `stop_after` counts this call's steps."""
    state = self.start()
    lines, asked = [], []

    def should_stop():
      asked.append(None)
      return stop_after is not None and len(asked) >= stop_after

    hooks = loop.Hooks(
      score=score or self._score,
      log=lines.append,
      rewind=lambda epoch: None,
      should_stop=should_stop,
    )
    settings = Settings(
      stage="train",
      number=0,
      epochs=EPOCHS,
      steps=STEPS,
      metric="wa",
      patience=patience,
      checkpoint_epochs=1,
    )
    layout = self.engine.layout
    with Checkpoints(folder) as checkpoints:
      best, last, books = loop.fit(
        self.engine,
        self.runs,
        state,
        self.statistics,
        settings,
        checkpoints,
        hooks,
        diverged or [-1] * len(self.runs),
      )
    return layout.fetch_runs(best), layout.fetch_runs(last), books, lines

  def _score(self, run, scores):
    labels = self.labels[run.validation]
    picked = scores[np.arange(len(labels)), labels]
    return {
      "loss": float(-np.log(picked).mean()),
      "wa": float((scores.argmax(1) == labels).mean()),
    }


def assert_same(one, two):
  for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
    np.testing.assert_array_equal(a, b)


def without_time(lines):
  return [{k: v for k, v in line.items() if k != "seconds"} for line in lines]


@pytest.mark.parametrize("source", [Resident, Stream])
@pytest.mark.parametrize("stop_after", [1, STEPS, STEPS + 2, EPOCHS * STEPS])
def test_a_resumed_run_is_bitwise_the_uninterrupted_one(
  tmp_path, source, stop_after
):
  bench = Bench(source)
  best, last, books, lines = bench.fit(tmp_path / "whole")
  with pytest.raises(loop.Stopped):
    Bench(source).fit(tmp_path / "cut", stop_after=stop_after)
  again = Bench(source).fit(tmp_path / "cut")
  assert_same((best, last), again[:2])
  assert books == again[2]
  tail = again[3]
  assert without_time(lines)[-len(tail) :] == without_time(tail)
  with Checkpoints(tmp_path / "cut") as checkpoints:
    kept = checkpoints.restore({"best": best, "last": last})
    progress = checkpoints.progress()
  assert_same((best, last), (kept["best"], kept["last"]))
  assert Books(**progress) == books


def test_a_finished_group_keeps_no_optimizers(tmp_path):
  """Training goes on from a stopped one, and never from a finished one."""
  like = {"state": Bench().start()}
  with pytest.raises(loop.Stopped):
    Bench().fit(tmp_path, stop_after=EPOCHS * STEPS)
  with Checkpoints(tmp_path) as checkpoints:
    assert checkpoints.restore(like)["state"].step == EPOCHS * STEPS
  Bench().fit(tmp_path)
  with Checkpoints(tmp_path) as checkpoints:
    with pytest.raises(UserError, match="state/.* is absent there"):
      checkpoints.restore(like)


@pytest.mark.parametrize("steps", [2, 3, STEPS])
def test_several_steps_a_call_are_steps_one_by_one(tmp_path, steps):
  """Two runs in a program; with 3 of 4 one step is left over."""
  one = Bench(seeds=(0, 5), runs="vmap").fit(tmp_path / "one")
  bench = Bench(seeds=(0, 5), runs="vmap", steps=steps)
  many = bench.fit(tmp_path / "many")
  for a, b in zip(*map(jax.tree.leaves, (one[:2], many[:2])), strict=True):
    np.testing.assert_allclose(a, b, atol=1e-5)
  for a, b in zip(one[3], many[3], strict=True):
    assert a["train"] == pytest.approx(b["train"], abs=1e-5)
  assert len(bench.engine.several.compile_seconds) == 1
  assert len(bench.engine.train.compile_seconds) == (STEPS % steps > 0)


def test_several_steps_a_call_resume_bitwise(tmp_path):
  whole = Bench(steps=3).fit(tmp_path / "whole")
  for calls in (1, 2, 3):
    with pytest.raises(loop.Stopped):
      Bench(steps=3).fit(tmp_path / f"{calls}", stop_after=calls)
    again = Bench(steps=3).fit(tmp_path / f"{calls}")
    assert_same(whole[:2], again[:2])
    assert whole[2] == again[2]


def test_stream_trains_as_resident(tmp_path):
  one = Bench(Resident).fit(tmp_path / "resident")
  two = Bench(Stream).fit(tmp_path / "stream")
  assert_same(one[:2], two[:2])


def test_stacked_runs_train_as_single_ones(tmp_path):
  together = Bench(seeds=(0, 5), runs="vmap").fit(tmp_path / "both")
  for number, seed in enumerate((0, 5)):
    alone = Bench(seeds=(seed,)).fit(tmp_path / f"{seed}")
    for one, two in zip(
      jax.tree.leaves(alone[:2]), jax.tree.leaves(together[:2]), strict=True
    ):
      np.testing.assert_allclose(one[0], two[number], atol=1e-5)


def test_a_stacked_run_ends_where_it_would_alone(tmp_path):
  """One has its best epoch first, the other gets better all the time."""
  marks = {0: [0.9, 0.1, 0.1], 5: [0.1, 0.2, 0.3]}

  def fit(seeds, folder):
    left = {seed: iter(marks[seed]) for seed in seeds}
    return Bench(seeds=seeds, runs="vmap").fit(
      tmp_path / folder,
      score=lambda run, scores: {"wa": next(left[run.seed]), "loss": 1.0},
      patience=1,
    )

  together = fit((0, 5), "both")
  assert [line["seed"] for line in together[3]] == [0, 5, 0, 5, 5]
  for number, seed in enumerate((0, 5)):
    alone = fit((seed,), f"{seed}")
    for one, two in zip(
      jax.tree.leaves(alone[:2]), jax.tree.leaves(together[:2]), strict=True
    ):
      np.testing.assert_allclose(one[0], two[number], atol=1e-5)


def test_a_run_that_diverges_leaves_the_others_alone(tmp_path):
  bench = Bench(seeds=(0, 5), runs="vmap")
  bench.statistics = jax.tree.map(
    lambda x: x.at[1].set(jnp.nan) if x.dtype == jnp.float32 else x,
    bench.statistics,
  )
  *found, books, lines = bench.fit(tmp_path / "both")
  assert books.diverged == [-1, 0]
  assert [line["seed"] for line in lines] == [0] * EPOCHS
  *wanted, _, _ = Bench(seeds=(0,)).fit(tmp_path / "alone")
  for one, two in zip(*map(jax.tree.leaves, (wanted, found)), strict=True):
    np.testing.assert_allclose(one[0], two[0], atol=1e-5)
  with Checkpoints(tmp_path / "both") as checkpoints:
    assert checkpoints.progress()["diverged"] == [-1, 0]


def test_predictions_that_are_not_finite_are_not_scored(tmp_path):
  """An epoch's last update may spoil a run; the other goes on."""
  bench = Bench(seeds=(0, 5), runs="vmap")
  predict = bench.engine.predict

  def spoil(*arguments):
    return {"scores": predict(*arguments)["scores"].at[1].set(jnp.nan)}

  bench.engine = dataclasses.replace(bench.engine, predict=spoil)
  *_, books, lines = bench.fit(tmp_path)
  assert books.diverged == [-1, 0]
  assert [line["seed"] for line in lines] == [0] * EPOCHS


def test_what_the_stage_before_gave_up_stays_given_up(tmp_path):
  """Resumed, too: the checkpoint has it."""
  bench = Bench(seeds=(0, 5), runs="vmap")
  with pytest.raises(loop.Stopped):
    bench.fit(tmp_path, stop_after=STEPS + 2, diverged=[2, -1])
  *_, books, lines = bench.fit(tmp_path)
  assert books.diverged == [2, -1] and books.best_epoch[0] == -1
  assert {line["seed"] for line in lines} == {5}


def test_the_best_epoch_is_kept(tmp_path):
  marks = iter([0.2, 0.9, 0.4])
  best, last, books, lines = Bench().fit(
    tmp_path, score=lambda run, scores: {"wa": next(marks), "loss": 1.0}
  )
  assert books.best_epoch == [1]
  assert [line["best"] for line in lines] == [True, True, False]
  changed = [
    (a != b).any()
    for a, b in zip(jax.tree.leaves(best), jax.tree.leaves(last), strict=True)
  ]
  assert any(changed)


def test_ties_go_to_the_lower_loss(tmp_path):
  losses = iter([1.0, 0.5, 0.7])
  *_, books, _ = Bench().fit(
    tmp_path, score=lambda run, scores: {"wa": 0.5, "loss": next(losses)}
  )
  assert books.best_epoch == [1]


def test_patience_stops_a_run(tmp_path):
  marks = iter([0.9, 0.1, 0.1])
  *_, books, lines = Bench().fit(
    tmp_path,
    score=lambda run, scores: {"wa": next(marks), "loss": 1.0},
    patience=1,
  )
  assert len(lines) == books.epoch == 2


def test_a_loss_that_is_not_finite_names_the_run(tmp_path):
  with pytest.raises(loop.Diverged, match="one-seed0 is not finite in epoch"):
    Bench(rate=np.inf).fit(tmp_path)


def test_weights_that_are_not_finite_are_never_saved(tmp_path):
  """The last update overflows, of which no loss tells any more."""
  last = EPOCHS * STEPS - 1
  with pytest.raises(UserError, match="a prediction of one-seed0 is not"):
    Bench(rate=lambda step: jnp.where(step == last, np.inf, 1e-2)).fit(tmp_path)
  with Checkpoints(tmp_path) as checkpoints:
    progress = checkpoints.progress()
  assert (progress["epoch"], progress["row"]) == (EPOCHS - 1, 0)


def test_sigterm_asks_the_loop_to_stop():
  from ser_jax import command_line

  numbers = (signal.SIGTERM, signal.SIGINT)
  before = {number: signal.getsignal(number) for number in numbers}
  try:
    seen = command_line.stop_on_signals()
    os.kill(os.getpid(), signal.SIGTERM)
    assert seen == [signal.SIGTERM]
  finally:
    for number, handler in before.items():
      signal.signal(number, handler)
