"""A workdir -> its finished runs: config, recipe, weights."""

import contextlib
import dataclasses
import itertools
import json
import math
import pathlib
from collections.abc import Iterator, Sequence

import jax
import numpy as np
from jaxtyping import PyTree
from ml_collections import ConfigDict

from ser_jax import inference, predictions, runs
from ser_jax import workdir as workdirs
from ser_jax.data.examples import Examples
from ser_jax.data.protocols import Fold
from ser_jax.data.statistics import InputPlan, Statistics
from ser_jax.errors import UserError
from ser_jax.features.sets import require_unchanged
from ser_jax.inference import FoldArrays, Recipe
from ser_jax.system import KINDS, make_stages
from ser_jax.tasks.task import Stage, Task
from ser_jax.train import groups, loop
from ser_jax.train.compile import Layout
from ser_jax.train.devices import make_layout

NOBODY = np.zeros(0, np.int32)


@dataclasses.dataclass(frozen=True)
class _NoShards:
  """Shards of which the shapes alone are known."""

  metadata: dict


@dataclasses.dataclass(frozen=True)
class _Nothing:
  """A dataset without utterances."""

  examples: Examples


def read_config(workdir: pathlib.Path) -> ConfigDict:
  """The config that a workdir was trained with.

  Args:
    workdir: of an experiment.

  Returns:
    The config, its lists as tuples, as in a config file, with all seeds.

  Raises:
    UserError: there is none, or it is damaged.
  """
  path = workdir / "config.json"
  try:
    found = json.loads(path.read_text())
  except FileNotFoundError as error:
    raise UserError(
      f"--workdir={workdir} has no config.json: give a folder that "
      "--mode=train wrote."
    ) from error
  except (OSError, ValueError) as error:
    raise UserError(
      f"{path} is damaged ({error}): copy it again from where it was trained."
    ) from error
  config = ConfigDict(_tuples(found))
  config.seeds = tuple(itertools.chain(*workdirs.seeds(workdir, ())))
  return config


@contextlib.contextmanager
def of_this_version(workdir: pathlib.Path) -> Iterator[None]:
  """Tells of fields that a workdir's config lacks, while it is used.

  Raises:
    UserError: there is one.
  """
  try:
    yield
  except (AttributeError, KeyError) as error:
    raise UserError(
      f"{workdir / 'config.json'} is of another version, which wrote other "
      f"fields ({error}): use it with the version that trained it "
      "(environment.json has its commit)."
    ) from error


def _tuples(value):
  if isinstance(value, dict):
    return {name: _tuples(v) for name, v in value.items()}
  return tuple(map(_tuples, value)) if isinstance(value, list) else value


def read_recipe(workdir: pathlib.Path) -> tuple[Recipe, FoldArrays]:
  """What training wrote.

  Raises:
    UserError: it did not, or features are made otherwise by now.
  """
  if not (workdir / inference.FILE).exists():
    raise UserError(
      f"--workdir={workdir} has no {inference.FILE}, which --mode=train and "
      "--mode=evaluate write: repeat the training's command with either."
    )
  recipe, folds = inference.load(workdir)
  require_unchanged(recipe.features, recipe.made, source=f"--workdir={workdir}")
  return recipe, folds


def finished_runs(
  workdir: pathlib.Path, config: ConfigDict, recipe: Recipe
) -> list[loop.Run]:
  """The runs whose predictions are written."""
  listed = groups.listed(config, config.seeds, _folds(recipe))
  return [r for r in listed if predictions.file_of(workdir, r).exists()]


def _folds(recipe: Recipe) -> list[Fold]:
  """All folds, without utterances."""
  return [Fold(name, NOBODY, NOBODY, NOBODY) for name in recipe.folds]


@dataclasses.dataclass(frozen=True)
class Opened:
  """Finished runs with their weights.

  Attributes:
    config: of the workdir.
    recipe: what they were trained with.
    names: of the runs.
    layout: devices, one run a program.
    tasks: of the last stage, as each kind of devices computes it.
    weights: the best of each run, placed for a program of one run.
    statistics: likewise, of each run's fold.
  """

  config: ConfigDict
  recipe: Recipe
  names: tuple[str, ...]
  layout: Layout
  tasks: dict[str, Task]
  weights: list[PyTree]
  statistics: list[PyTree]


def open_runs(
  workdir: pathlib.Path,
  names: Sequence[str] = (),
  *,
  devices: int | None = None,
) -> Opened:
  """Restores the best weights of finished runs.

  Args:
    workdir: of an experiment.
    names: of runs, such as `fold0-seed0`; empty for all that are finished.
    devices: that share a batch; None for all that divide it.

  Returns:
    The runs.

  Raises:
    UserError: no such run, or a workdir that cannot be predicted with.
  """
  config = read_config(workdir)
  with of_this_version(workdir):
    recipe, folds = read_recipe(workdir)
    chosen = _choose(finished_runs(workdir, config, recipe), names, workdir)
    devices = devices or math.gcd(config.batch_size, len(jax.devices()))
    experiment = _assemble(config, workdir, recipe, folds, devices)
    tasks = {
      kind: _stages(config, recipe, experiment.layout, kind)[-1].task
      for kind in KINDS
    }
  return Opened(
    config=config,
    recipe=recipe,
    names=tuple(run.name for run in chosen),
    layout=experiment.layout,
    tasks=tasks,
    weights=_restore(experiment, chosen),
    statistics=[runs.group_statistics(experiment, [run]) for run in chosen],
  )


def _choose(
  finished: list[loop.Run], names: Sequence[str], workdir: pathlib.Path
) -> list[loop.Run]:
  known = {run.name: run for run in finished}
  if not known:
    raise UserError(
      f"--workdir={workdir} has no finished run: train it with --mode=train."
    )
  for name in names:
    if name not in known:
      raise UserError(
        f"--run={name} is no finished run of --workdir={workdir}: choose from "
        f"{', '.join(known)}, or leave it out for the ensemble of all."
      )
  if not names and len(rates := {run.rate for run in finished}) > 1:
    raise UserError(
      f"--workdir={workdir} has runs of {len(rates)} learning rates, good and "
      f"bad: choose those to predict with by --run, from {', '.join(known)}."
    )
  return [known[name] for name in names] if names else finished


def _assemble(
  config: ConfigDict,
  workdir: pathlib.Path,
  recipe: Recipe,
  folds: FoldArrays,
  devices: int,
) -> runs.Experiment:
  """The experiment without its utterances."""
  statistics = {fold: _statistics(found) for fold, found in folds.items()}
  plans = {name: InputPlan(**plan) for name, plan in recipe.plans.items()}
  shards = _NoShards({"inputs": recipe.inputs})
  parts = groups.parted(config, workdirs.seeds(workdir, ()), _folds(recipe))
  one_run = {"backend": "jit", "runs": "loop", "run": 1, "data": devices}
  layout = make_layout(
    ConfigDict(one_run | {"optimizer_state": "replicated"}),
    runs=1,
    batch_size=config.batch_size,
  )
  return runs.Experiment(
    config=config,
    workdir=workdir,
    dataset=_Nothing(Examples(shards, plans, {}, NOBODY, NOBODY)),
    held=None,
    layout=layout,
    stages=_stages(config, recipe, layout),
    steps=1,
    groups=tuple(itertools.chain(*parts)),
    statistics=statistics,
  )


def _stages(
  config: ConfigDict,
  recipe: Recipe,
  layout: Layout,
  kind: str | None = None,
) -> tuple[Stage, ...]:
  """Stages that predict, on a kind of devices."""
  return make_stages(
    config,
    layout,
    classes=len(recipe.classes),
    speakers=recipe.speakers,
    steps=None,
    kind=kind,
  )


def _statistics(arrays: dict[str, np.ndarray]) -> Statistics:
  """A fold's statistics from its arrays."""
  kinds = {"median": {}, "mean": {}, "deviation": {}}
  for name, values in arrays.items():
    if name != "speaker_class":
      kind, of_input = name.split("/", 1)
      kinds[kind][of_input] = values
  return Statistics(speaker_class=arrays["speaker_class"], **kinds)


def _restore(
  experiment: runs.Experiment, chosen: list[loop.Run]
) -> list[PyTree]:
  """The best weights of each chosen run, placed for a program of one."""
  names = [run.name for run in chosen]
  found = {}
  for group in experiment.groups:
    if any(run.name in names for run in group):
      runs.require_trained(experiment, group)
      best = runs.restore_best(experiment, group)
      for number, run in enumerate(group):
        found[run.name] = experiment.layout.place_runs(
          jax.tree.map(lambda x, n=number: x[n : n + 1], best)
        )
  return [found[name] for name in names]
