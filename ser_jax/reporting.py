"""Predictions of finished runs -> the report."""

import functools
import itertools
import pathlib
import shlex
import sys
from collections.abc import Collection

import jax
import jax.numpy as jnp
import numpy as np

from ser_jax import atomic, predictions, runs
from ser_jax.data.dataset import Dataset
from ser_jax.data.examples import example_batch
from ser_jax.evaluation import report, sweeps
from ser_jax.run_names import rate_suffix
from ser_jax.train.groups import Group
from ser_jax.train.state import init_state

_PREDICT_AGAIN = (
  "delete the folder that it is in and repeat the command with --mode=train, "
  "which predicts again from the checkpoint."
)


def finish(experiment: runs.Experiment, diverged: Collection[str]) -> dict:
  """Writes the report, or one of each learning rate.

  Args:
    experiment: what was run.
    diverged: names of runs that are not finished, and never will be.

  Returns:
    The report; of several rates, what to print alone.
  """
  workdir = experiment.workdir
  finished = [
    run
    for run in itertools.chain(*experiment.groups)
    if run.name not in diverged
  ]
  rates = experiment.config.optimizer.learning_rates
  if not rates:
    return _report(experiment, workdir, finished, diverged)
  reports = {}
  for rate in rates:
    folder = sweeps.rate_folder(workdir, rate)
    sweeps.copy_history(workdir, folder, rate)
    of_rate = [run for run in finished if run.rate == rate]
    lost = [name for name in diverged if name.endswith(rate_suffix(rate))]
    if of_rate:
      reports[rate] = _report(experiment, folder, of_rate, lost)
  metric = experiment.config.selection.metric
  text = sweeps.console(reports, workdir, metric, diverged)
  return {"text": text, "diverged": list(diverged)}


def _report(
  experiment: runs.Experiment,
  folder: pathlib.Path,
  finished: Group,
  diverged: Collection[str],
) -> dict:
  """Joins the predictions of runs and writes their report into a folder.

  Raises:
    UserError: predictions of a run cannot be read.
  """
  for stem in predictions.stems(experiment.dataset):
    parts = [
      atomic.read_arrays(
        predictions.file_of(experiment.workdir, run, stem), _PREDICT_AGAIN
      )
      for run in finished
    ]
    joined = {
      name: np.concatenate([part[name] for part in parts]) for name in parts[0]
    }
    joined["classes"] = np.array(experiment.dataset.classes)
    atomic.write_arrays(folder / f"{stem}.npz", joined)
  described = _describe(experiment) | {
    "rate": finished[0].rate,
    "diverged": list(diverged),
  }
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
      "folds": len(protocol.folds),
      "speaker_independent": protocol.speaker_independent,
      "notes": list(protocol.notes),
    },
    "transductive": any(
      plan.normalize == "speaker" for plan in dataset.examples.plans.values()
    ),
    "frame_rate": dataset.contours and dataset.contours.rate,
    "validation_classes": _validation_classes(dataset),
    "command": shlex.join(["python", "-m", program, *sys.argv[1:]]),
  }


def _validation_classes(dataset: Dataset) -> dict[str, list[int]]:
  """Validation utterances of each class by fold; none of contours."""
  if dataset.contours is not None:
    return {}
  classes = len(dataset.classes)
  return {
    fold.name: np.bincount(
      dataset.labels[fold.validation], minlength=classes
    ).tolist()
    for fold in dataset.protocol.to_run
  }


def _training_loss(config) -> list[str]:
  """In what the training loss differs from the one of validation."""
  found = {
    "smoothed labels": config.task.get("label_smoothing", 0.0),
    "a softmax more": config.task.get("legacy_thesis_loss", False),
    "dropout": any(
      share for name, share in config.model.items() if "dropout" in name
    ),
    "copies": config.data.get("speeds", ()),
    "augmentation": any(config.augment.values()),
  }
  return [name for name, differs in found.items() if differs]


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
    "training_loss": _training_loss(config),
  }
