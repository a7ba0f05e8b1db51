"""The one place that knows all: config -> runs -> stages -> predictions.

An experiment is a config; its runs are folds x seeds; a group of runs is
trained by one program. Whatever is finished is on disk and is not done again.
"""

import contextlib
import dataclasses
import difflib
import functools
import itertools
import logging
import pathlib
from collections.abc import Callable, Collection, Iterable, Sequence

from ser_jax import (
  assembly,
  atomic,
  checks,
  inference,
  inspection,
  predictions,
  reporting,
  runs,
)
from ser_jax import workdir as workdirs
from ser_jax.data import augment
from ser_jax.data.shards import identity
from ser_jax.errors import UserError
from ser_jax.features.sets import frame_rates
from ser_jax.models.table import MODELS
from ser_jax.system import make_model
from ser_jax.tasks.table import TASKS
from ser_jax.train import groups, loop, precision, processes
from ser_jax.train.engine import Engine
from ser_jax.train.optimizers import make_optimizer

LOG = logging.getLogger(__name__)


def train(
  config, workdir: pathlib.Path, *, should_stop: Callable[[], bool]
) -> dict:
  """Trains every run that is not finished, then writes the report.

  Args:
    config: a config as in `configs/`.
    workdir: made if absent; resumed if it holds the same experiment.
    should_stop: asked after each call of a program.

  Returns:
    The report.

  Raises:
    UserError: anything the user can mend.
    Stopped: `should_stop` said so; the same call resumes.
  """
  check(config)
  with _claim(workdir, config):
    parts = _open(config, workdir)
    processes.on_primary(
      lambda: workdirs.keep_config(workdir, config.to_dict())
    )
    log, diverged = workdirs.MetricsLog(workdir), []
    should_stop = processes.agreed(should_stop)
    for part in parts:
      _train_part(part, log, should_stop, diverged, _count(parts))
    return _conclude(parts, diverged)


def _train_part(
  experiment: runs.Experiment,
  log: workdirs.MetricsLog,
  should_stop: Callable[[], bool],
  diverged: list[str],
  count: int,
) -> None:
  """Trains what is not finished.

  Args:
    experiment: one part.
    log: see `runs.train_group`, as for the next.
    should_stop: see there.
    diverged: names of runs that have, which is added to.
    count: runs of all parts.
  """
  workdir, left = experiment.workdir, []

  def lose(group: groups.Group) -> None:
    diverged.extend(run.name for run in group)
    if len(diverged) < count:  # else that is the error
      LOG.error("%s", _lost(workdir, group))

  for number, group in enumerate(experiment.groups, start=1):
    done = processes.on_primary(functools.partial(_done, workdir, group))
    if len(done) == len(group):
      continue
    if _lost(workdir, group):
      lose(group)
    else:
      left.append((number, group, len(done)))
  if not left and not experiment.config.report.embeddings:
    return  # with nothing placed on devices
  engines = runs.make_engines(experiment)
  for number, group, done in left:
    LOG.info(
      "group %d of %d: %s%s",
      number,
      len(experiment.groups),
      ", ".join(run.name for run in group),
      f" ({done} of them have predictions)" * bool(done),
    )
    try:
      diverged += runs.train_group(experiment, engines, group, log, should_stop)
    except loop.Diverged as error:
      reason = str(error)
      processes.on_primary(functools.partial(_give_up, workdir, group, reason))
      lose(group)
  _look(experiment, engines[-1], diverged)


def _count(parts: Sequence[runs.Experiment]) -> int:
  return sum(len(group) for part in parts for group in part.groups)


def _look(
  experiment: runs.Experiment, engine: Engine, diverged: Collection[str]
) -> None:
  """Looks at the groups that have weights, if it is asked for."""
  if experiment.config.report.embeddings:
    kept = _with_weights(experiment.groups, diverged)
    inspection.look(
      dataclasses.replace(experiment, groups=kept), engine, diverged
    )


def _with_weights(
  of_runs: Iterable[groups.Group], diverged: Collection[str]
) -> tuple[groups.Group, ...]:
  """The groups of which not every run diverged."""
  return tuple(
    group for group in of_runs if any(run.name not in diverged for run in group)
  )


def _conclude(
  parts: Sequence[runs.Experiment], diverged: Collection[str]
) -> dict:
  """Writes the report of all parts.

  Raises:
    Diverged: no run has weights.
  """
  every = [group for part in parts for group in part.groups]
  if len(diverged) == _count(parts):
    raise loop.Diverged(_lost(parts[0].workdir, every[-1]))
  kept = _with_weights(every, diverged)
  found = dataclasses.replace(parts[0], groups=kept)
  return processes.on_primary(lambda: reporting.finish(found, diverged))


def evaluate(config, workdir: pathlib.Path) -> dict:
  """Predicts again from the checkpoints, and rewrites the report.

  Args:
    config: the config of the workdir.
    workdir: a finished experiment.

  Returns:
    The report.

  Raises:
    UserError: a run is not trained to its end.
  """
  check(config)
  processes.on_primary(lambda: workdirs.require(workdir))
  with _claim(workdir, config):
    parts, diverged = _open(config, workdir), []
    for part in parts:
      for group in part.groups:
        if _lost(workdir, group):
          diverged += [run.name for run in group]
        else:
          runs.require_trained(part, group)
    for part in parts:
      _evaluate_part(part, diverged)
    return _conclude(parts, diverged)


def _evaluate_part(experiment: runs.Experiment, diverged: list[str]) -> None:
  """Predicts with what has weights; adds to `diverged` what of it has none."""
  engine = runs.make_engines(experiment)[-1]
  for group in _with_weights(experiment.groups, diverged):
    *weights, lost = runs.restore_group(experiment, group)
    runs.save_predictions(experiment, engine, group, *weights, lost)
    diverged += lost
  _look(experiment, engine, diverged)


def _claim(workdir: pathlib.Path, config):
  """Makes a workdir ours, on process 0 for all of them."""
  lock = []
  processes.on_primary(
    lambda: lock.append(workdirs.claim(workdir, config.to_dict()))
  )
  return lock[0] if lock else contextlib.nullcontext()


def _open(config, workdir: pathlib.Path) -> list[runs.Experiment]:
  """The parts of an experiment, its workdir's seeds joined; shards are there.

  Keeps what a prediction needs, should the shards be gone then.

  Raises:
    UserError: the workdir's results are of other shards; see also
      `assembly.make_experiments`.
  """
  seeds = processes.on_primary(lambda: workdirs.seeds(workdir, config.seeds))
  config = config.copy_and_resolve_references()
  config.seeds = tuple(itertools.chain(*seeds))
  processes.in_turn(lambda: assembly.ensure_shards(config))
  parts = assembly.make_experiments(config, workdir, seeds)
  dataset, folds = parts[0].dataset, parts[0].statistics

  def save():
    workdirs.keep_data(workdir, identity(dataset.shards))
    inference.save(workdir, config, dataset, folds)

  processes.on_primary(save)
  return parts


def _done(workdir: pathlib.Path, group: groups.Group) -> list[str]:
  """The runs of a group that have their predictions."""
  return [
    run.name for run in group if predictions.file_of(workdir, run).exists()
  ]


def _lost(workdir: pathlib.Path, group: groups.Group) -> str:
  """Why a group has no weights that could be used; empty if it has."""
  path = _verdict(workdir, group)
  return processes.on_primary(lambda: path.read_text() if path.exists() else "")


def _give_up(workdir: pathlib.Path, group: groups.Group, why: str) -> None:
  """Keeps what a group diverged with: another attempt would end as it did."""
  path = _verdict(workdir, group)
  path.parent.mkdir(parents=True, exist_ok=True)
  atomic.write_text(path, f"{why} (Delete {path} to train it again.)")


def _verdict(workdir: pathlib.Path, group: groups.Group) -> pathlib.Path:
  return workdir / "diverged" / f"{groups.name(group)}.txt"


def check(config) -> None:
  """Looks names and values of a config up, before anything is computed.

  Raises:
    UserError: a name that does not exist, or a value that cannot be.
  """
  for field, table in (("model", MODELS), ("task", TASKS)):
    name = config[field].name
    if name not in table:
      near = difflib.get_close_matches(name, table, n=3) or sorted(table)
      raise UserError(
        f"config.{field}.name={name!r} is unknown: did you mean "
        f"{', '.join(near)}?"
      )
  precision.check(config.precision)
  checks.check_values(config)
  rates = frame_rates(config.data.features)
  checks.check_cut(config.data, rates)
  augment.check(config, rates)
  make_optimizer(config.optimizer, epochs=config.epochs, steps_per_epoch=1)
  make_model(config, classes=len(config.data.classes))
