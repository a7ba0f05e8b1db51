"""The one place that knows all: config -> runs -> stages -> predictions.

An experiment is a config; its runs are folds x seeds; a group of runs is
trained by one program. Whatever is finished is on disk and is not done again.
"""

import contextlib
import difflib
import functools
import itertools
import logging
import pathlib
import shlex
import subprocess
import sys
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from ser_jax import atomic, inference, inspection, runs
from ser_jax import workdir as workdirs
from ser_jax.data import augment, order
from ser_jax.data.contours import CONTOURS
from ser_jax.data.dataset import (
  Dataset,
  fold_statistics,
  load_dataset,
  make_source,
  shard_folder,
)
from ser_jax.data.examples import Examples, example_batch
from ser_jax.errors import UserError
from ser_jax.evaluation import report, sweeps
from ser_jax.models.table import MODELS
from ser_jax.system import make_model, make_stages
from ser_jax.tasks.table import TASKS
from ser_jax.train import loop, precision, processes
from ser_jax.train.compile import make_layout
from ser_jax.train.engine import Engine
from ser_jax.train.optimizers import make_optimizer
from ser_jax.train.state import init_state

LOG = logging.getLogger(__name__)


def train(
  config, workdir: pathlib.Path, *, should_stop: Callable[[], bool]
) -> dict:
  """Trains every run that is not finished, then writes the report.

  Args:
    config: a config as in `configs/`.
    workdir: made if absent; resumed if it holds the same experiment.
    should_stop: asked after each step.

  Returns:
    The report.

  Raises:
    UserError: anything the user can mend.
    Stopped: `should_stop` said so; the same call resumes.
  """
  check(config)
  with _claim(workdir, config):
    processes.in_turn(lambda: ensure_shards(config))
    experiment = make_experiment(config, workdir)
    _save_recipe(experiment)
    log = workdirs.MetricsLog(workdir)
    engines = runs.make_engines(experiment)
    should_stop = processes.agreed(should_stop)
    for number, group in enumerate(experiment.groups):
      if not processes.on_primary(functools.partial(_done, workdir, group)):
        LOG.info(
          "group %d of %d: %s",
          number + 1,
          len(experiment.groups),
          ", ".join(run.name for run in group),
        )
        runs.train_group(experiment, engines, group, log, should_stop)
    _look(experiment, engines[-1])
    return processes.on_primary(lambda: finish(experiment))


def evaluate(config, workdir: pathlib.Path) -> dict:
  """Predicts again from the checkpoints, and rewrites the report.

  Args:
    config: the config of the workdir.
    workdir: a finished experiment.

  Returns:
    The report.

  Raises:
    UserError: a run has no checkpoint.
  """
  check(config)
  with _claim(workdir, config):
    processes.in_turn(lambda: ensure_shards(config))
    experiment = make_experiment(config, workdir)
    _save_recipe(experiment)
    engines = runs.make_engines(experiment)
    for group in experiment.groups:
      weights = runs.restore_group(experiment, group)
      runs.save_predictions(experiment, engines[-1], group, *weights)
    _look(experiment, engines[-1])
    return processes.on_primary(lambda: finish(experiment))


def _claim(workdir: pathlib.Path, config):
  """Makes a workdir ours, on process 0 for all of them."""
  lock = []
  processes.on_primary(
    lambda: lock.append(workdirs.claim(workdir, config.to_dict()))
  )
  return lock[0] if lock else contextlib.nullcontext()


def _save_recipe(experiment: runs.Experiment) -> None:
  """Keeps what a prediction needs, should the shards be gone then."""
  processes.on_primary(
    lambda: inference.save(
      experiment.workdir,
      experiment.config,
      experiment.dataset,
      experiment.statistics,
    )
  )


def _done(workdir: pathlib.Path, group: runs.Group) -> bool:
  """Whether every run of a group has its predictions."""
  return all(runs.predictions_file(workdir, run).exists() for run in group)


def check(config) -> None:
  """Looks every name of a config up, before anything is computed.

  Raises:
    UserError: a name that does not exist, or a number out of range.
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
  for field in ("epochs", "batch_size", "accumulate"):
    if config[field] < 1:
      raise UserError(f"config.{field}={config[field]} must be at least 1.")
  if not config.seeds:
    raise UserError("config.seeds is empty: give at least one, such as (0,).")
  metric, in_time = config.selection.metric, config.data.target == CONTOURS
  if metric not in (("ccc",) if in_time else ("uar", "wa")):
    raise UserError(
      f"config.selection.metric={metric!r} is "
      + ("not ccc." if in_time else "neither uar nor wa.")
    )
  if in_time != (config.task.name == "regress"):
    raise UserError(
      f"config.task.name={config.task.name!r} does not go with config.data."
      f"target={config.data.target!r}: regress predicts contours, other tasks "
      "predict classes."
    )
  augment.check(config)
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
      raise UserError(
        f"no shards at {folder}: set config.data.raw to the folder of the "
        f"{config.data.corpus} corpus to build them now, or run python -m "
        f"data_prep.build --corpus={config.data.corpus} "
        f"--features={config.data.features} --raw=DIR --out={folder}."
      )
    raw = "raw/synthetic"
  # A process of its own: training never imports audio libraries.
  built = subprocess.run(
    [
      *(sys.executable, "-m", "data_prep.build"),
      f"--corpus={config.data.corpus}",
      f"--features={config.data.features}",
      f"--raw={raw}",
      f"--out={folder}",
    ]
  )
  if built.returncode:
    raise UserError(
      f"building the shards {folder} failed; the message above says why."
    )


def make_experiment(config, workdir: pathlib.Path) -> runs.Experiment:
  """Opens data and devices, and lists the runs.

  Raises:
    UserError: see `load_dataset` and `make_layout`.
  """
  dataset = load_dataset(config)
  return assemble(config, workdir, dataset, dataset.examples)


def assemble(
  config, workdir: pathlib.Path, dataset: Dataset, held: Examples
) -> runs.Experiment:
  """Lists the runs over a dataset that is open.

  Args:
    config: the whole config.
    workdir: where a training would write.
    dataset: utterances, labels, folds.
    held: the examples that the source reads, usually the dataset's.

  Returns:
    The experiment.

  Raises:
    UserError: see `make_layout`.
  """
  listed = [
    loop.Run(fold.name, int(seed), fold.train, fold.validation, fold.test, rate)
    for fold, seed, rate in itertools.product(
      dataset.protocol.folds,
      config.seeds,
      config.optimizer.learning_rates or (None,),
    )
  ]
  layout = make_layout(
    config.parallel,
    runs=len(listed),
    batch_size=config.batch_size,
    accumulate=config.accumulate,
  )
  steps = order.steps_per_epoch(
    max(len(run.train) for run in listed), config.batch_size
  )
  of_folds = {
    fold.name: fold_statistics(dataset, fold) for fold in dataset.protocol.folds
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
      statistics=of_folds,
      steps=steps,
    ),
    steps=steps,
    groups=tuple(
      tuple(listed[first : first + layout.size])
      for first in range(0, len(listed), layout.size)
    ),
    statistics=of_folds,
  )


def _look(experiment: runs.Experiment, engine: Engine) -> None:
  """Saves embeddings for the report, if it is to have them."""
  if experiment.config.report.embeddings:
    inspection.look(experiment, engine)


def finish(experiment: runs.Experiment) -> dict:
  """Writes the report, or one of each learning rate."""
  workdir = experiment.workdir
  finished = [run for group in experiment.groups for run in group]
  rates = experiment.config.optimizer.learning_rates
  if not rates:
    return _report(experiment, workdir, finished)
  reports = {}
  for rate in rates:
    folder = sweeps.rate_folder(workdir, rate)
    sweeps.copy_history(workdir, folder, rate)
    reports[rate] = _report(
      experiment, folder, [run for run in finished if run.rate == rate]
    )
  metric = experiment.config.selection.metric
  return {"text": sweeps.console(reports, workdir, metric)}


def _report(
  experiment: runs.Experiment, folder: pathlib.Path, finished: runs.Group
) -> dict:
  """Joins the predictions of runs and writes their report into a folder."""
  for stem in runs.stems(experiment):
    parts = [
      dict(
        np.load(
          runs.predictions_file(experiment.workdir, run).with_name(
            f"{stem}.npz"
          )
        )
      )
      for run in finished
    ]
    joined = {
      name: np.concatenate([part[name] for part in parts]) for name in parts[0]
    }
    joined["classes"] = np.array(experiment.dataset.classes)
    atomic.write_arrays(folder / f"{stem}.npz", joined)
  described = _describe(experiment) | {"rate": finished[0].rate}
  return report.write_report(folder, described)


def describe_data(config, dataset: Dataset) -> dict:
  """What a report must know of the data."""
  protocol = dataset.protocol
  program = getattr(sys.modules["__main__"].__spec__, "name", "ser_jax.main")
  return {
    "corpus": config.data.corpus,
    "classes": list(dataset.classes),
    "protocol": {
      "name": protocol.name,
      "folds": protocol.count,
      "speaker_independent": protocol.speaker_independent,
      "notes": list(protocol.notes),
    },
    "transductive": any(
      plan.normalize == "speaker" for plan in dataset.examples.plans.values()
    ),
    "frame_rate": dataset.contours and dataset.contours.rate,
    "command": shlex.join(["python", "-m", program, *sys.argv[1:]]),
  }


def _describe(experiment: runs.Experiment) -> dict:
  """What the report must know beside the predictions."""
  config = experiment.config
  shapes = jax.eval_shape(
    functools.partial(init_state, task=experiment.stages[-1].task),
    jnp.uint32(0),
    example_batch(experiment.dataset.examples, 2),
  )
  return describe_data(config, experiment.dataset) | {
    "system": config.system,
    "variant": config.variant,
    "parameters": sum(x.size for x in jax.tree.leaves(shapes.params)),
    "paper": config.paper.to_dict(),
    "epochs": sum(stage.epochs for stage in experiment.stages),
    "threshold": config.task.get("threshold"),
  }
