"""A group of runs: its programs, its stages, its predictions.

An experiment's runs are folds x seeds; a group is what one program trains.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree, UInt32

from ser_jax import atomic, predictions
from ser_jax import workdir as workdirs
from ser_jax.batch import Batch
from ser_jax.data import statistics
from ser_jax.data.augment import Augmentation, augment
from ser_jax.data.dataset import Dataset, make_source
from ser_jax.data.examples import Examples, Source, example_batch
from ser_jax.data.prepare import prepare
from ser_jax.errors import UserError
from ser_jax.tasks.task import Stage
from ser_jax.train import groups, loop, optimizers, processes
from ser_jax.train.books import Books, Settings, is_complete
from ser_jax.train.checkpoint import Checkpoints, read_arrays, read_progress
from ser_jax.train.compile import Layout, Program
from ser_jax.train.engine import Engine, predict
from ser_jax.train.groups import Group
from ser_jax.train.placement import fitting
from ser_jax.train.state import (
  TrainState,
  Weights,
  augmentation_key,
  init_opt_state,
  init_state,
  stage_seed,
)
from ser_jax.train.step import predict_step, several, train_step


@dataclasses.dataclass(frozen=True)
class Experiment:
  """A config brought to life.

  Attributes:
    config: as given.
    workdir: where everything is written.
    dataset: utterances, labels, folds.
    held: the examples that batches come from, usually the dataset's.
    layout: devices.
    stages: what every run trains, in order.
    steps: steps in an epoch.
    groups: runs by program.
    statistics: of each fold, by fold name.
  """

  config: object
  workdir: pathlib.Path
  dataset: Dataset
  held: Examples
  layout: Layout
  stages: tuple[Stage, ...]
  steps: int
  groups: tuple[Group, ...]
  statistics: dict[str, statistics.Statistics]


def make_engines(experiment: Experiment) -> list[Engine]:
  """The programs of each stage; they compile at their first step."""
  layout = experiment.layout
  source = make_source(
    experiment.config.data.source, experiment.held, layout.share
  )
  with fitting("the resident corpus", "set config.data.source=stream"):
    constants = layout.place_constants(source.constants)
  return [
    _make_engine(experiment, stage, source, constants)
    for stage in experiment.stages
  ]


def _make_engine(
  experiment: Experiment, stage: Stage, source: Source, constants: PyTree
) -> Engine:
  layout = experiment.layout
  plans = experiment.dataset.examples.plans
  augmentation = Augmentation(**experiment.config.augment)

  def batch_of(item, stats, constants, frames) -> Batch:
    return prepare(source.gather(constants, item, frames), stats, plans)

  def train_one(state, item, stats, constants, frames):
    batch = batch_of(item, stats, constants, frames)
    key = augmentation_key(state)
    return train_step(
      state,
      augment(batch, augmentation, key, layout.axis_name),
      task=stage.task,
      total_steps=stage.epochs * experiment.steps,
      axis_name=layout.axis_name,
      accumulate=experiment.config.accumulate,
    )

  def train_several(state, items, stats, constants, frames):
    step = functools.partial(
      train_one, stats=stats, constants=constants, frames=frames
    )
    return several(step)(state, items)

  def predict_one(weights, item, stats, constants, frames):
    batch = batch_of(item, stats, constants, frames)
    return predict_step(weights, batch, task=stage.task)

  steps = experiment.config.steps_per_execution
  return Engine(
    layout=layout,
    source=source,
    constants=constants,
    train=Program(layout, train_one, trains=True, name="train step"),
    predict=Program(layout, predict_one, trains=False, name="predict step"),
    batch_size=experiment.config.batch_size,
    several=None
    if steps == 1
    else Program(
      *(layout, train_several),
      trains=True,
      name=f"{steps} train steps",
      stacked=True,
    ),
    steps=steps,
  )


def initial_state(
  experiment: Experiment,
  stage: Stage,
  group: Group,
  taken: Weights | None = None,
) -> TrainState:
  """First states of a group, on the host, with the run axis first.

  Args:
    experiment: what is run.
    stage: that begins.
    group: runs of one program.
    taken: groups of the stage before, in place of freshly drawn ones.

  Returns:
    The states; optimizers have not moved.
  """
  starting = _starter(stage)
  state = jax.device_get(starting(*_arguments(experiment, group), taken))
  settings = experiment.config.optimizer
  if not settings.learning_rates:
    return state
  rates = np.array([run.rate for run in group])
  return state.replace(
    opt_state=optimizers.at_rates(state.opt_state, rates, settings)
  )


@functools.lru_cache(maxsize=4)
def _starter(stage: Stage) -> Callable:
  """Initialisation, compiled once for all groups of a stage."""

  @jax.jit
  def start(seeds, batch, taken):
    state = _fresh(stage)(seeds, batch)
    if taken is None:
      return state
    params = state.params | taken.params
    restart = functools.partial(init_opt_state, phases=stage.task.phases)
    return state.replace(
      params=params,
      batch_stats=state.batch_stats | taken.batch_stats,
      # Some optimizers begin with a copy of what they move.
      opt_state=jax.vmap(restart)(params),
    )

  return start


def _fresh(stage: Stage) -> Callable:
  """What makes the first states of seeds, given a batch."""

  def first(seed, batch):
    return init_state(stage_seed(seed, stage.number), batch, stage.task)

  return jax.vmap(first, in_axes=(0, None))


def _arguments(
  experiment: Experiment, group: Group
) -> tuple[UInt32[Array, "runs"], Batch]:
  """A group's seeds, and a batch of the largest shapes."""
  seeds = jnp.array([run.seed for run in group], jnp.uint32)
  return seeds, example_batch(experiment.dataset.examples, 2)


def _taken(weights: Weights, names: tuple[str, ...]) -> Weights:
  """Parameter groups and their statistics, for the stage after."""
  params, stats = (
    {name: tree for name, tree in part.items() if name in names}
    for part in (weights.params, weights.batch_stats)
  )
  return Weights(params, stats)


def group_statistics(experiment: Experiment, group: Group) -> PyTree:
  """The statistics of a group's folds, stacked and placed."""
  stacked = jax.tree.map(
    lambda *leaves: np.stack(leaves),
    *[experiment.statistics[run.fold] for run in group],
  )
  return experiment.layout.place_runs(stacked)


def train_group(
  experiment: Experiment,
  engines: list[Engine],
  group: Group,
  log: workdirs.MetricsLog,
  should_stop: Callable[[], bool],
) -> tuple[str, ...]:
  """Trains a group through all stages, and saves its runs' predictions.

  Those of runs that diverged apart: a run without predictions is not finished.

  Returns:
    The names of runs that diverged.
  """
  layout, dataset = experiment.layout, experiment.dataset
  stats = group_statistics(experiment, group)
  best, diverged = None, [-1] * len(group)
  for stage, engine in zip(experiment.stages, engines, strict=True):
    taken = None
    if stage.takes:
      taken = _taken(layout.fetch_runs(best), stage.takes)
    fresh = initial_state(experiment, stage, group, taken)
    hooks = loop.Hooks(
      score=lambda run, scores: predictions.score(
        dataset, experiment.statistics[run.fold], run, scores
      ),
      log=lambda line: processes.on_primary(lambda: log.append(line)),
      rewind=lambda epoch, stage=stage.name: processes.on_primary(
        lambda: log.rewind(
          {(r.fold, r.seed, r.rate) for r in group}, stage, epoch
        )
      ),
      should_stop=should_stop,
    )
    with Checkpoints(_checkpoints(experiment, group, stage)) as checkpoints:
      best, last, books = loop.fit(
        *(engine, group, fresh, stats),
        *(_settings(experiment, stage), checkpoints, hooks, diverged),
      )
    diverged = books.diverged
  lost = _names(group, diverged)
  save_predictions(experiment, engines[-1], group, best, last, lost)
  return lost


def _names(group: Group, diverged: Sequence[int]) -> tuple[str, ...]:
  """The runs that the books say diverged."""
  return tuple(
    run.name for run, epoch in zip(group, diverged, strict=True) if epoch >= 0
  )


def _settings(experiment: Experiment, stage: Stage) -> Settings:
  config = experiment.config
  return Settings(
    stage=stage.name,
    number=stage.number,
    epochs=stage.epochs,
    steps=experiment.steps,
    metric=config.selection.metric,
    patience=config.selection.patience,
    checkpoint_epochs=config.checkpoint.every_epochs,
  )


def require_trained(experiment: Experiment, group: Group) -> None:
  """Refuses a group whose weights are not those it ends with.

  Raises:
    UserError: it has no checkpoint, or one from which training goes on.
  """
  stage = experiment.stages[-1]
  folder = _checkpoints(experiment, group, stage)
  progress = processes.on_primary(lambda: read_progress(folder))
  name = f"{group[0].name} of --workdir={experiment.workdir}"
  if progress is None:
    raise UserError(
      f"{name} has no checkpoint in {folder}: copy it there again, or train it "
      "with --mode=train."
    )
  books, settings = Books(**progress), _settings(experiment, stage)
  if not is_complete(books, settings):
    raise UserError(
      f"{name} is trained to epoch {books.epoch} of {settings.epochs}: wait "
      "until it is finished, or go on with --mode=train."
    )


def restore_group(
  experiment: Experiment, group: Group
) -> tuple[PyTree, PyTree, tuple[str, ...]]:
  """Best and last weights of a group's final stage, placed.

  And the names of its runs that diverged.
  """
  folder = _checkpoints(experiment, group, experiment.stages[-1])
  progress = processes.on_primary(lambda: read_progress(folder))
  found = _restore(experiment, group, "best", "last")
  best, last = map(experiment.layout.place_runs, found)
  return best, last, _names(group, progress["diverged"])


def restore_best(experiment: Experiment, group: Group) -> PyTree:
  """Best weights of a group's final stage on the host."""
  return _restore(experiment, group, "best")[0]


def _restore(
  experiment: Experiment, group: Group, *names: str
) -> tuple[Weights, ...]:
  """Weights of a group's final stage on the host, by their names there."""
  stage = experiment.stages[-1]
  state = jax.eval_shape(_fresh(stage), *_arguments(experiment, group))
  like, folder = state.weights, _checkpoints(experiment, group, stage)
  likes = dict.fromkeys(names, like)
  found = processes.read(lambda: read_arrays(folder, likes), likes)
  return tuple(found[name] for name in names)


def _checkpoints(
  experiment: Experiment, group: Group, stage: Stage
) -> pathlib.Path:
  return experiment.workdir / "checkpoints" / groups.name(group) / stage.name


def save_predictions(
  experiment: Experiment,
  engine: Engine,
  group: Group,
  best: PyTree,
  last: PyTree,
  left_out: Sequence[str] = (),
) -> None:
  """Predicts every run's test part, with the best and the last weights.

  Contours of the validation part, too: post-processing is chosen on them.

  Args:
    experiment: what is run.
    engine: of its last stage.
    group: runs of one program.
    best: their best weights, placed.
    last: their last weights, placed.
    left_out: names of runs that are not to be saved.
  """
  stats = group_statistics(experiment, group)
  weights = {predictions.PREDICTIONS: best, predictions.LAST: last}
  # The best weights last: their file says that the run is finished.
  for stem in reversed(predictions.stems(experiment.dataset)):
    side = "validation" if stem == predictions.VALIDATION else "test"
    parts = [getattr(run, side) for run in group]
    scores = predict(engine, weights.get(stem, best), stats, parts)
    for run, part, found in zip(group, parts, scores, strict=True):
      if run.name in left_out:
        continue
      fold = experiment.statistics[run.fold]
      path = predictions.file_of(experiment.workdir, run, stem)
      arrays = predictions.of_part(experiment.dataset, fold, run, part, found)
      processes.on_primary(functools.partial(atomic.write_arrays, path, arrays))
