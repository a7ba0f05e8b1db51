"""The one place that knows all: config -> runs -> stages -> predictions.

An experiment is a config; its runs are folds x seeds; a group of runs is
trained by one program. Whatever is finished is on disk and is not done again.
"""

import contextlib
import dataclasses
import difflib
import functools
import logging
import pathlib
import subprocess
import sys
from collections.abc import Callable, Collection, Sequence

import jax

from ser_jax import (
  atomic,
  checks,
  inference,
  inspection,
  predictions,
  reporting,
  runs,
)
from ser_jax import workdir as workdirs
from ser_jax.data import augment, order
from ser_jax.data.dataset import (
  Dataset,
  fold_statistics,
  load_dataset,
  make_source,
  shard_folder,
)
from ser_jax.data.examples import Examples
from ser_jax.data.shards import identity, unfinished
from ser_jax.errors import UserError
from ser_jax.features.sets import inputs_in_time, require_unchanged
from ser_jax.models.table import MODELS
from ser_jax.system import make_model, make_stages
from ser_jax.tasks.table import TASKS
from ser_jax.train import groups, loop, precision, processes
from ser_jax.train.devices import make_layout
from ser_jax.train.engine import Engine, check_execution
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
    config = _with_seeds_there(config, workdir)
    processes.in_turn(lambda: ensure_shards(config))
    experiment = make_experiment(config, workdir)
    _save_recipe(experiment)
    processes.on_primary(
      lambda: workdirs.keep_config(workdir, config.to_dict())
    )
    log = workdirs.MetricsLog(workdir)
    engines = runs.make_engines(experiment)
    should_stop = processes.agreed(should_stop)
    diverged, count = [], sum(map(len, experiment.groups))
    for number, group in enumerate(experiment.groups):
      done = processes.on_primary(functools.partial(_done, workdir, group))
      if len(done) == len(group):
        continue
      LOG.info(
        "group %d of %d: %s%s",
        number + 1,
        len(experiment.groups),
        ", ".join(run.name for run in group),
        f" ({len(done)} of them have predictions)" * bool(done),
      )
      try:
        if not _lost(workdir, group):
          diverged += runs.train_group(
            experiment, engines, group, log, should_stop
          )
          continue
      except loop.Diverged as error:
        reason = str(error)
        processes.on_primary(
          functools.partial(_give_up, workdir, group, reason)
        )
      diverged += [run.name for run in group]
      if len(diverged) < count:  # else that is the error
        LOG.error("%s", _lost(workdir, group))
    return _conclude(experiment, engines[-1], diverged)


def _conclude(
  experiment: runs.Experiment, engine: Engine, diverged: Collection[str]
) -> dict:
  """Looks at the groups that have weights, and writes the report.

  Raises:
    Diverged: there is none.
  """
  if len(diverged) == sum(map(len, experiment.groups)):
    raise loop.Diverged(_lost(experiment.workdir, experiment.groups[-1]))
  groups = tuple(
    group
    for group in experiment.groups
    if any(run.name not in diverged for run in group)
  )
  experiment = dataclasses.replace(experiment, groups=groups)
  if experiment.config.report.embeddings:
    inspection.look(experiment, engine, diverged)
  return processes.on_primary(lambda: reporting.finish(experiment, diverged))


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
    config = _with_seeds_there(config, workdir)
    processes.in_turn(lambda: ensure_shards(config))
    experiment = make_experiment(config, workdir)
    _save_recipe(experiment)
    trained, diverged = [], []
    for group in experiment.groups:
      if _lost(workdir, group):
        diverged += [run.name for run in group]
      else:
        runs.require_trained(experiment, group)
        trained.append(group)
    engines = runs.make_engines(experiment)
    for group in trained:
      *weights, lost = runs.restore_group(experiment, group)
      runs.save_predictions(experiment, engines[-1], group, *weights, lost)
      diverged += lost
    return _conclude(experiment, engines[-1], diverged)


def _claim(workdir: pathlib.Path, config):
  """Makes a workdir ours, on process 0 for all of them."""
  lock = []
  processes.on_primary(
    lambda: lock.append(workdirs.claim(workdir, config.to_dict()))
  )
  return lock[0] if lock else contextlib.nullcontext()


def _with_seeds_there(config, workdir: pathlib.Path):
  """The config with all seeds that its workdir has, which reports join."""
  seeds = processes.on_primary(lambda: workdirs.seeds(workdir, config.seeds))
  config = config.copy_and_resolve_references()
  config.seeds = tuple(seeds)
  return config


def _save_recipe(experiment: runs.Experiment) -> None:
  """Keeps what a prediction needs, should the shards be gone then.

  Raises:
    UserError: the workdir's results are of other shards.
  """
  workdir, dataset = experiment.workdir, experiment.dataset

  def save():
    workdirs.keep_data(workdir, identity(dataset.shards))
    inference.save(workdir, experiment.config, dataset, experiment.statistics)

  processes.on_primary(save)


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
  augment.check(config, inputs_in_time(config.data.features))
  make_optimizer(config.optimizer, epochs=config.epochs, steps_per_epoch=1)
  make_model(config, classes=len(config.data.classes))


def ensure_shards(config) -> None:
  """Builds missing shards if it is known what from.

  Raises:
    UserError: there are no shards and no raw corpus, or the build failed.
  """
  folder = shard_folder(config.data)
  raw = config.data.raw
  if folder.exists():
    return
  if not raw:
    if config.data.corpus != "synthetic":
      found = "only unfinished" if unfinished(folder) else "no"
      raise UserError(
        f"{found} shards at {folder}: set config.data.raw to the folder of the "
        f"{config.data.corpus} corpus to build them now, or run python -m "
        f"{' '.join(_build_command(config, folder))}."
      )
    raw = "raw/synthetic"
  # A process of its own: training never imports audio libraries.
  built = subprocess.run(
    [*(sys.executable, "-m"), *_build_command(config, folder, raw)]
  )
  if built.returncode:
    raise UserError(
      f"building the shards {folder} failed; the message above says why."
    )


def _build_command(config, folder: pathlib.Path, raw: str = "DIR") -> list[str]:
  """What builds the shards of a config, after `python -m`."""
  data = config.data
  speeds = ",".join(f"{speed:g}" for speed in data.speeds)
  return [
    "data_prep.build",
    f"--corpus={data.corpus}",
    f"--features={data.features}",
    *([f"--speeds={speeds}"] if speeds else []),
    f"--raw={raw}",
    f"--out={folder}",
  ]


def make_experiment(config, workdir: pathlib.Path) -> runs.Experiment:
  """Opens data and devices, and lists the runs.

  Raises:
    UserError: shards that this version would make otherwise; see also
      `load_dataset` and `make_layout`.
  """
  dataset = load_dataset(config)
  require_unchanged(
    config.data.features,
    dataset.shards.metadata["recipe"],
    source=f"the folder of shards {dataset.shards.path}",
    remedy="build it again, python -m "
    f"{' '.join(_build_command(config, dataset.shards.path))} --overwrite",
  )
  return assemble(config, workdir, dataset, dataset.examples)


def assemble(
  config,
  workdir: pathlib.Path,
  dataset: Dataset,
  held: Examples,
  described: Sequence[jax.Device] | None = None,
) -> runs.Experiment:
  """Lists the runs over a dataset that is open.

  Args:
    config: the whole config.
    workdir: where a training would write.
    dataset: utterances, labels, folds.
    held: the examples that the source reads, usually the dataset's.
    described: devices of elsewhere, see `make_layout`.

  Returns:
    The experiment.

  Raises:
    UserError: see `make_layout`.
  """
  of_runs = groups.grouped(
    config.parallel, groups.listed(config, dataset.protocol.to_run)
  )
  layout = make_layout(
    config.parallel,
    runs=len(of_runs[0]),
    batch_size=config.batch_size,
    accumulate=config.accumulate,
    described=described,
  )
  precision.warn_of_slow(config.precision, layout.platform)
  largest = max(len(fold.train) for fold in dataset.protocol.folds)
  if config.batch_size > largest:
    LOG.warning(
      "config.batch_size=%d is more than the %d utterances of the largest "
      "training part: the rest is filler, and an epoch a single step",
      config.batch_size,
      largest,
    )
  steps = order.steps_per_epoch(largest, config.batch_size)
  check_execution(config, steps)
  of_folds = {
    fold.name: fold_statistics(dataset, fold)
    for fold in dataset.protocol.to_run
  }
  return runs.Experiment(
    config=config,
    workdir=workdir,
    dataset=dataset,
    source=make_source(
      config.data.source,
      held,
      layout.share,
    ),
    layout=layout,
    stages=make_stages(
      config,
      layout,
      classes=len(dataset.classes),
      speakers=dataset.count_speakers(config),
      steps=steps,
    ),
    steps=steps,
    groups=of_runs,
    statistics=of_folds,
  )
