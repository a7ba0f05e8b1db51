"""One stage for a group of runs: epochs of compiled steps, best weights kept.

The loop knows neither models nor devices: it feeds rows of utterance positions
to two compiled programs and keeps the books. Host and device never wait for
each other inside an epoch: metrics are read one step late.
"""

import dataclasses
import logging
import time
from collections.abc import Callable, Iterator, Sequence

import jax
import numpy as np
from jaxtyping import Bool, Int, PyTree
from tqdm import tqdm

from ser_jax.data import order
from ser_jax.data.examples import Row
from ser_jax.errors import UserError
from ser_jax.run_names import run_name
from ser_jax.train.books import (
  Books,
  Settings,
  has_stopped,
  is_complete,
  opened,
)
from ser_jax.train.checkpoint import Checkpoints
from ser_jax.train.engine import Engine, calls, predict
from ser_jax.train.optimizers import current_rate
from ser_jax.train.state import TrainState, are_finite

LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Run:
  """One fold x one seed, as the loop sees it.

  Attributes:
    rate: its learning rate, where runs differ in it.
  """

  fold: str
  seed: int
  train: Int[np.ndarray, "train"]
  validation: Int[np.ndarray, "validation"]
  test: Int[np.ndarray, "test"]
  rate: float | None = None

  @property
  def name(self) -> str:
    """Unique within an experiment; a folder's name."""
    return run_name(self.fold, self.seed, self.rate)


@dataclasses.dataclass(frozen=True)
class Hooks:
  """What the loop asks of its surroundings.

  Attributes:
    score: a run and the scores of its validation part, to metrics.
    log: takes one line for each run and epoch.
    rewind: drops lines from an epoch on, before a resumed run writes them.
    should_stop: asked after each call of a program.
  """

  score: Callable[[Run, np.ndarray], dict[str, float]]
  log: Callable[[dict], None]
  rewind: Callable[[int], None]
  should_stop: Callable[[], bool]


class Diverged(UserError):
  """Losses or weights of a whole group are not finite; no use going on."""

  status = 1  # as where some of the runs are given up


class Stopped(Exception):
  """The process was asked to stop; a checkpoint has been written."""


@dataclasses.dataclass
class _Training:
  """A group in training: what is fixed, then what each step changes.

  `last` are the weights with which each run ended, or its last whole epoch: a
  run that has stopped goes on in the program for as long as others train.
  """

  engine: Engine
  runs: Sequence[Run]
  statistics: PyTree
  settings: Settings
  checkpoints: Checkpoints
  hooks: Hooks
  state: TrainState
  best: PyTree
  last: PyTree
  books: Books


def fit(
  engine: Engine,
  runs: Sequence[Run],
  fresh: TrainState,
  statistics: PyTree,
  settings: Settings,
  checkpoints: Checkpoints,
  hooks: Hooks,
  diverged: Sequence[int],
) -> tuple[PyTree, PyTree, Books]:
  """Trains a group of runs through one stage, resuming where it stopped.

  Args:
    engine: the compiled steps.
    runs: the group, in the order of the run axis.
    fresh: the initial states, on the host.
    statistics: of each run's fold, placed.
    settings: lengths and selection.
    checkpoints: the group's folder.
    hooks: scoring, logging, stopping.
    diverged: of the books of the stage before, else -1 for every run: what it
      gave up stays given up.

  Returns:
    The best and the last weights of every run, placed, and the books.

  Raises:
    Diverged: losses or weights of all runs have ceased to be finite.
    Stopped: `should_stop` said so.
  """
  training = _Training(
    *(engine, runs, statistics, settings, checkpoints, hooks),
    *_resume(engine, fresh, settings, diverged, checkpoints),
  )
  books = training.books
  hooks.rewind(books.epoch)
  items = engine.source.items(
    _rows(runs, settings, engine.batch_size, books.epoch, books.row)
  )
  others = f" and {len(runs) - 1} more" if len(runs) > 1 else ""
  name = f"{runs[0].name}{others}"
  if (books.epoch or books.row) and not is_complete(books, settings):
    LOG.info("%s goes on after epoch %d and %d steps", name, books.epoch,
             books.row)  # fmt: skip
  with tqdm(
    total=settings.epochs * settings.steps,
    initial=books.epoch * settings.steps + books.row,
    desc=name,
    unit="step",
    disable=None,
  ) as bar:
    while not is_complete(books, settings):
      start = time.perf_counter()
      _train_epoch(training, items, bar)
      told = _close_epoch(training, start)
      bar.set_postfix(told)
      if bar.disable:  # output is a file: a line an epoch instead of a bar
        LOG.info("%s epoch %d of %d: %s", name, books.epoch, settings.epochs,
                 ", ".join(map(" ".join, told.items())))  # fmt: skip
      if books.epoch % settings.checkpoint_epochs == 0:
        _save(training)
    _save(training)
  return training.best, training.last, books


def epoch_rows(runs: Sequence[Run], epoch: int, **rows: int) -> list[Row]:
  """Positions and weights, runs first, of every step of an epoch.

  Args:
    runs: a group.
    epoch: counted from 0.
    **rows: `steps`, `batch_size` and `stage`, see `order.training_rows`.
  """
  each = [
    order.training_rows(run.train, seed=run.seed, epoch=epoch, **rows)
    for run in runs
  ]
  index = np.stack([index for index, _ in each], axis=1)
  weight = np.stack([weight for _, weight in each], axis=1)
  return list(zip(index, weight, strict=True))


def _rows(
  runs: Sequence[Run], settings: Settings, size: int, epoch: int, row: int
) -> Iterator[Row]:
  """Positions and weights of every step left, from a row of an epoch on."""
  for number in range(epoch, settings.epochs):
    rows = epoch_rows(
      runs,
      number,
      steps=settings.steps,
      batch_size=size,
      stage=settings.number,
    )
    yield from rows[row if number == epoch else 0 :]


def _train_epoch(t: _Training, items: Iterator, bar: tqdm) -> None:
  """Takes the steps left of an epoch; the books take in its metrics."""
  engine, books, pending = t.engine, t.books, None
  steps = t.settings.steps
  with jax.transfer_guard("disallow"):
    for count, program, frames, item in calls(engine, items, books.row, steps):
      number = books.epoch * steps + books.row
      with jax.profiler.StepTraceAnnotation("train", step_num=number):
        t.state, metrics = program(
          t.state, item, t.statistics, engine.constants, frames
        )
      _add(t, pending)
      pending = metrics
      books.row += count
      bar.update(count)
      if t.hooks.should_stop():
        _add(t, pending)
        _save(t)
        raise Stopped
    _add(t, pending)


def _add(t: _Training, metrics: PyTree | None) -> None:
  """Adds one step's (sum, count) pairs to the epoch's."""
  if metrics is None:
    return
  found = t.engine.layout.fetch_runs(metrics)
  values = found.values.astype(np.float64)
  for name, total in zip(found.names, values.swapaxes(0, 1), strict=True):
    _mark(t, name, np.isfinite(total).all(axis=-1))
    before = t.books.totals.get(name, np.zeros_like(total))
    t.books.totals[name] = (total + before).tolist()


def _mark(t: _Training, name: str, finite: Bool[np.ndarray, "runs"]) -> None:
  """Gives up runs whose numbers are not finite; the others go on.

  Raises:
    Diverged: there are no others.
  """
  books = t.books
  for number in np.flatnonzero(~finite):
    if has_stopped(books, t.settings, number):
      continue
    books.diverged[number] = books.epoch
    message = (
      f"training: {name} of {t.runs[number].name} is not finite in epoch "
      f"{books.epoch + 1} near step {books.row}: lower config.optimizer."
      "learning_rate or set config.optimizer.clip_norm, in another --workdir."
    )
    if min(books.diverged) >= 0:
      raise Diverged(f"{message} The last finite checkpoint is kept.")
    LOG.error("%s The other runs go on.", message)


def _close_epoch(t: _Training, start: float) -> dict[str, str]:
  """Validates, keeps what is better, writes the log lines; tells of them."""
  books, settings = t.books, t.settings
  scores = predict(
    t.engine, t.state.weights, t.statistics, [r.validation for r in t.runs]
  )
  # The epoch's last update shows in no loss.
  finite = np.array([np.isfinite(found).all() for found in scores])
  _mark(t, "a prediction", finite)
  rates = _learning_rates(t)
  training = np.array(
    [not has_stopped(books, settings, number) for number in range(len(t.runs))]
  )
  improved, now = np.zeros(len(t.runs), bool), []
  for number in np.flatnonzero(training):
    run = t.runs[number]
    found = t.hooks.score(run, scores[number])
    rank = [float(found[settings.metric]), -float(found["loss"])]
    now.append(rank[0])
    if rank > books.best[number]:
      improved[number] = True
      books.best[number], books.best_epoch[number] = rank, books.epoch
    t.hooks.log(
      {
        "fold": run.fold,
        "seed": run.seed,
        "rate": run.rate,
        "stage": settings.stage,
        "epoch": books.epoch,
        "step": (books.epoch + 1) * settings.steps,
        "train": {
          name: pairs[number][0] / max(pairs[number][1], 1.0)
          for name, pairs in books.totals.items()
        },
        "validation": found,
        "best": bool(improved[number]),
        "learning_rate": {name: float(r[number]) for name, r in rates.items()},
        "seconds": round(time.perf_counter() - start, 3),
      }
    )
  select, weights = t.engine.layout.select, t.state.weights
  if improved.any():
    t.best = select(improved, weights, t.best)
  t.last = select(training, weights, t.last)
  books.epoch, books.row, books.totals = books.epoch + 1, 0, {}
  kept = np.flatnonzero(np.array(books.diverged) < 0)
  means = {
    f"validation {settings.metric}": now,
    "best": [books.best[number][0] for number in kept],
    "seconds": [time.perf_counter() - start],
  }
  return {name: f"{np.mean(x):.3g}" for name, x in means.items() if x}


def _learning_rates(t: _Training) -> dict[str, np.ndarray]:
  """The learning rate of each phase, for each run."""
  return t.engine.layout.fetch_runs(
    {phase: current_rate(opt) for phase, opt in t.state.opt_state.items()}
  )


def _save(t: _Training) -> None:
  """Begins a checkpoint; orbax never sees device arrays."""
  fetch, books = t.engine.layout.fetch_runs, t.books
  complete = is_complete(books, t.settings)
  kept = _kept(t.state, t.best, t.last, complete=complete)
  kept = {name: fetch(tree) for name, tree in kept.items()}
  newest = kept["last"] if complete else kept["state"].weights
  _mark(t, "a weight", are_finite(newest, len(t.runs)))
  t.checkpoints.save(
    # The end of an epoch differs from the start of the next: validation.
    books.epoch * (t.settings.steps + 1) + books.row,
    kept,
    dataclasses.asdict(books),
  )


def _kept(
  state: TrainState, best: PyTree, last: PyTree, *, complete: bool
) -> dict[str, PyTree]:
  """What a checkpoint holds: the state, too, if training goes on from it."""
  kept = {"best": best, "last": last}
  return kept if complete else {"state": state, **kept}


def _resume(
  engine: Engine,
  fresh: TrainState,
  settings: Settings,
  diverged: Sequence[int],
  checkpoints: Checkpoints,
) -> tuple[TrainState | None, PyTree, PyTree, Books]:
  """The newest checkpoint if there is one, else the start.

  A training that is complete has no state.
  """
  layout, progress = engine.layout, checkpoints.progress()
  if progress is None:
    state = layout.place_runs(fresh)
    # The step consumes its argument: these weights need their own buffers.
    everyone, weights = np.ones(layout.size, bool), state.weights
    best, last = (layout.select(everyone, weights, weights) for _ in range(2))
    return state, best, last, opened(diverged)
  books = Books(**progress)
  complete = is_complete(books, settings)
  like = _kept(fresh, fresh.weights, fresh.weights, complete=complete)
  found = checkpoints.restore(like)
  placed = {name: layout.place_runs(tree) for name, tree in found.items()}
  return placed.get("state"), placed["best"], placed["last"], books
