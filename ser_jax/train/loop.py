"""One stage for a group of runs: epochs of compiled steps, best weights kept.

The loop knows neither models nor devices: it feeds rows of utterance positions
to two compiled programs and keeps the books. Host and device never wait for
each other inside an epoch: metrics are read one step late.
"""

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence

import jax
import numpy as np
from jaxtyping import Float, Int, PyTree
from tqdm import tqdm

from ser_jax.data import order
from ser_jax.data.examples import Source
from ser_jax.errors import UserError
from ser_jax.train.checkpoint import Checkpoints
from ser_jax.train.compile import Layout, Program
from ser_jax.train.state import TrainState

Score = Callable[[np.ndarray, np.ndarray], dict[str, float]]
Scores = list[Float[np.ndarray, "utterances ..."]]


@dataclasses.dataclass(frozen=True)
class Engine:
  """Compiled steps, and the arrays that they are fed with.

  Attributes:
    layout: where everything lies.
    source: where batches come from.
    constants: the source's arrays, placed.
    train: the training step.
    predict: the prediction step.
    batch_size: of both.
  """

  layout: Layout
  source: Source
  constants: PyTree
  train: Program
  predict: Program
  batch_size: int


@dataclasses.dataclass(frozen=True)
class Run:
  """One fold x one seed, as the loop sees it."""

  fold: str
  seed: int
  train: Int[np.ndarray, "train"]
  validation: Int[np.ndarray, "validation"]

  @property
  def name(self) -> str:
    """Unique within an experiment; a folder's name."""
    return f"{self.fold}-seed{self.seed}"


@dataclasses.dataclass(frozen=True)
class Settings:
  """How long to train and what to keep.

  Attributes:
    stage: the stage's name, for logs.
    epochs: passes over the training part.
    steps: steps in an epoch.
    metric: what validation is judged by; ties go to the lower loss.
    patience: epochs without a new best before a run stops; 0 for never.
    checkpoint_epochs: epochs between checkpoints.
  """

  stage: str
  epochs: int
  steps: int
  metric: str
  patience: int
  checkpoint_epochs: int


@dataclasses.dataclass
class Books:
  """Bookkeeping of a group, saved with every checkpoint.

  Attributes:
    epoch: epochs done.
    row: steps done of the epoch in progress.
    totals: metric sums of that epoch: name to `[sum, count]` of each run.
    best: each run's best `[metric, -loss]`.
    best_epoch: the epoch of it.
  """

  epoch: int
  row: int
  totals: dict[str, list[list[float]]]
  best: list[list[float]]
  best_epoch: list[int]


class Stopped(Exception):
  """The process was asked to stop; a checkpoint has been written."""


def fit(
  engine: Engine,
  runs: Sequence[Run],
  state: TrainState,
  statistics: PyTree,
  settings: Settings,
  checkpoints: Checkpoints,
  *,
  score: Score,
  targets: np.ndarray,
  log: Callable[[dict], None],
  rewind: Callable[[int], None],
  should_stop: Callable[[], bool],
) -> tuple[PyTree, PyTree, Books]:
  """Trains a group of runs through one stage, resuming where it stopped.

  Args:
    engine: the compiled steps.
    runs: the group, in the order of the run axis.
    state: the initial states, placed.
    statistics: of each run's fold, placed.
    settings: lengths and selection.
    checkpoints: the group's folder.
    score: `(scores, targets)` of a validation part to metrics.
    targets: labels by position within the shards.
    log: takes one line for each run and epoch.
    rewind: drops lines from an epoch on, before a resumed run writes them.
    should_stop: asked after each step.

  Returns:
    The best and the last weights of every run on the host, and the books.

  Raises:
    UserError: a loss is not finite.
    Stopped: `should_stop` said so.
  """
  books = Books(0, 0, {}, [[-np.inf, -np.inf] for _ in runs], [-1] * len(runs))
  state, best, books = _resume(engine, state, books, checkpoints)
  rewind(books.epoch)
  schedule = _rows(runs, settings, engine.batch_size, books)
  items = engine.source.items(schedule)
  bar = tqdm(
    total=settings.epochs * settings.steps,
    initial=books.epoch * settings.steps + books.row,
    desc=f"{runs[0].name}{f' and {len(runs) - 1} more' * (len(runs) > 1)}",
    unit="step",
    disable=None,
  )
  with bar:
    while books.epoch < settings.epochs and not _finished(books, settings):
      start = time.perf_counter()
      state = _train_epoch(
        engine, runs, state, best, statistics, settings, books, items, bar,
        checkpoints, should_stop,
      )  # fmt: skip
      best = _close_epoch(
        engine, runs, state, best, statistics, settings, books,
        score, targets, log, start,
      )  # fmt: skip
      bar.set_postfix(_postfix(books, settings))
      if books.epoch % settings.checkpoint_epochs == 0:
        _save(engine, state, best, books, settings, checkpoints)
    _save(engine, state, best, books, settings, checkpoints)
  fetch = engine.layout.fetch_runs
  return fetch(best), fetch(state.weights), books


def predict(
  engine: Engine,
  weights: PyTree,
  statistics: PyTree,
  parts: Sequence[Int[np.ndarray, "utterances"]],
) -> Scores:
  """Predicts one part of the corpus for each run of a group.

  Args:
    engine: the compiled steps.
    weights: of every run, placed.
    statistics: of every run's fold, placed.
    parts: positions within the shards, one array a run.

  Returns:
    The scores of each run's part, in its order.
  """
  size = engine.batch_size
  steps = order.steps_per_epoch(max(map(len, parts)), size)
  rows = [
    order.evaluation_rows(part, steps=steps, batch_size=size) for part in parts
  ]
  index = np.stack([index for index, _ in rows], axis=1)
  weight = np.stack([weight for _, weight in rows], axis=1)
  found = []
  for frames, item in engine.source.items(zip(index, weight, strict=True)):
    placed = engine.layout.place_item(item)
    outputs = engine.predict(
      weights, placed, statistics, engine.constants, frames
    )
    found.append(outputs["scores"])
  scores = np.concatenate(engine.layout.fetch_item(found), axis=1)
  return [s[: len(part)] for s, part in zip(scores, parts, strict=True)]


def _rows(runs, settings: Settings, size: int, books: Books) -> Iterator:
  """Positions and weights of every step left, epoch after epoch."""
  for epoch in range(books.epoch, settings.epochs):
    rows = [
      order.training_rows(
        run.train,
        seed=run.seed,
        epoch=epoch,
        steps=settings.steps,
        batch_size=size,
      )
      for run in runs
    ]
    first = books.row if epoch == books.epoch else 0
    for step in range(first, settings.steps):
      yield (
        np.stack([index[step] for index, _ in rows]),
        np.stack([weight[step] for _, weight in rows]),
      )


def _train_epoch(
  engine, runs, state, best, statistics, settings, books, items, bar,
  checkpoints, should_stop,
) -> TrainState:  # fmt: skip
  """The steps left of an epoch; the books take in its metrics."""
  pending = None
  with jax.transfer_guard("disallow"):
    for row in range(books.row, settings.steps):
      frames, item = next(items)
      item = engine.layout.place_item(item)
      with jax.profiler.StepTraceAnnotation("train", step_num=row):
        state, metrics = engine.train(
          state, item, statistics, engine.constants, frames
        )
      _add(engine, runs, books, pending)
      pending = metrics
      books.row = row + 1
      bar.update()
      if should_stop():
        _add(engine, runs, books, pending)
        _save(engine, state, best, books, settings, checkpoints)
        raise Stopped
  _add(engine, runs, books, pending)
  return state


def _add(engine, runs, books: Books, metrics) -> None:
  """Adds one step's (sum, count) pairs to the epoch's."""
  if metrics is None:
    return
  for name, pair in engine.layout.fetch_runs(metrics).items():
    total = np.stack([np.asarray(x, np.float64) for x in pair], axis=-1)
    bad = np.flatnonzero(~np.isfinite(total).all(axis=-1))
    if len(bad):
      raise UserError(
        f"training: {name} of {runs[bad[0]].name} is not finite in epoch "
        f"{books.epoch + 1}, step {books.row}: lower "
        "config.optimizer.learning_rate or set config.optimizer.clip_norm. The "
        "last checkpoint is from before."
      )
    before = books.totals.get(name)
    books.totals[name] = (
      total if before is None else total + np.asarray(before)
    ).tolist()


def _close_epoch(
  engine, runs, state, best, statistics, settings, books,
  score, targets, log, start,
):  # fmt: skip
  """Validates, keeps what is better, writes the log lines."""
  scores = predict(
    engine, state.weights, statistics, [run.validation for run in runs]
  )
  rate = _learning_rates(engine, state)
  improved = np.zeros(len(runs), bool)
  for number, run in enumerate(runs):
    found = score(scores[number], targets[run.validation])
    rank = [found[settings.metric], -found["loss"]]
    stopped = _stopped(books, settings, number)
    if rank > books.best[number] and not stopped:
      improved[number] = True
      books.best[number], books.best_epoch[number] = rank, books.epoch
    trained = {
      name: pairs[number][0] / max(pairs[number][1], 1.0)
      for name, pairs in books.totals.items()
    }
    log(
      {
        "fold": run.fold,
        "seed": run.seed,
        "stage": settings.stage,
        "epoch": books.epoch,
        "step": (books.epoch + 1) * settings.steps,
        "train": trained,
        "validation": found,
        "best": bool(improved[number]),
        "learning_rate": rate[number],
        "seconds": round(time.perf_counter() - start, 3),
      }
    )
  if improved.any():
    best = engine.layout.select(improved, state.weights, best)
  books.epoch, books.row, books.totals = books.epoch + 1, 0, {}
  return best


def _learning_rates(engine, state: TrainState) -> list[dict[str, float]]:
  """The learning rate of each phase, for each run."""
  rates = engine.layout.fetch_runs(
    {
      phase: opt.hyperparams["learning_rate"]
      for phase, opt in state.opt_state.items()
    }
  )
  runs = len(next(iter(rates.values())))
  return [
    {phase: float(value[run]) for phase, value in rates.items()}
    for run in range(runs)
  ]


def _stopped(books: Books, settings: Settings, run: int) -> bool:
  """Whether a run has gone without a new best for too long."""
  if not settings.patience or books.best_epoch[run] < 0:
    return False
  return books.epoch - books.best_epoch[run] > settings.patience


def _finished(books: Books, settings: Settings) -> bool:
  runs = range(len(books.best))
  return all(_stopped(books, settings, run) for run in runs)


def _postfix(books: Books, settings: Settings) -> dict[str, str]:
  values = [rank[0] for rank in books.best]
  return {f"best {settings.metric}": f"{np.mean(values):.3f}"}


def _save(engine, state, best, books, settings, checkpoints) -> None:
  """Begins a checkpoint; orbax never sees device arrays."""
  fetch = engine.layout.fetch_runs
  checkpoints.save(
    books.epoch * settings.steps + books.row,
    {"state": fetch(state), "best": fetch(best)},
    dataclasses.asdict(books),
  )


def _resume(engine, state: TrainState, books: Books, checkpoints: Checkpoints):
  """The newest checkpoint if there is one, else the start."""
  if checkpoints.latest is None:
    # The step consumes its argument: the best weights need their own buffers.
    best = engine.layout.select(
      np.ones(engine.layout.size, bool), state.weights, state.weights
    )
    return state, best, books
  fetch, place = engine.layout.fetch_runs, engine.layout.place_runs
  like = {"state": fetch(state), "best": fetch(state.weights)}
  arrays, progress = checkpoints.restore(like)
  return place(arrays["state"]), place(arrays["best"]), Books(**progress)
