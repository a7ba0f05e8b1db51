"""A config -> the experiment that it asks for: shards, data, devices, runs."""

import logging
import pathlib
import subprocess
import sys
from collections.abc import Sequence

import jax

from ser_jax import runs
from ser_jax.data import order
from ser_jax.data.dataset import (
  Dataset,
  fold_statistics,
  load_dataset,
  shard_folder,
)
from ser_jax.data.examples import Examples
from ser_jax.data.protocols import Fold
from ser_jax.data.shards import unfinished
from ser_jax.errors import UserError
from ser_jax.features.sets import require_unchanged
from ser_jax.system import make_stages
from ser_jax.train import groups, precision
from ser_jax.train.devices import make_layout
from ser_jax.train.engine import check_execution

LOG = logging.getLogger(__name__)


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
  """The same of seeds that come together, as in a new workdir."""
  return make_experiments(config, workdir, [config.seeds])[0]


def make_experiments(
  config, workdir: pathlib.Path, seeds: Sequence[Sequence[int]]
) -> list[runs.Experiment]:
  """Opens data and devices, and lists the runs.

  Args:
    config: the whole config.
    workdir: where a training would write.
    seeds: all of the config's, by those that came together.

  Returns:
    The experiment, in parts whose groups are of one size.

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
  return assemble(config, workdir, dataset, dataset.examples, seeds)


def assemble(
  config,
  workdir: pathlib.Path,
  dataset: Dataset,
  held: Examples,
  seeds: Sequence[Sequence[int]],
  described: Sequence[jax.Device] | None = None,
) -> list[runs.Experiment]:
  """Lists the runs over a dataset that is open.

  Args:
    config: the whole config.
    workdir: where a training would write.
    dataset: utterances, labels, folds.
    held: the examples that the source reads, usually the dataset's.
    seeds: see `make_experiments`.
    described: devices of elsewhere, see `make_layout`.

  Returns:
    The experiment, in parts whose groups are of one size.

  Raises:
    UserError: see `make_layout`, and `_steps_per_epoch`.
  """
  folds = dataset.protocol.to_run
  steps = _steps_per_epoch(config.batch_size, dataset.protocol.folds)
  parts = []
  for of_runs in groups.parted(config, seeds, folds):
    layout = make_layout(
      config.parallel,
      runs=len(of_runs[0]),
      batch_size=config.batch_size,
      accumulate=config.accumulate,
      described=described,
    )
    stages = make_stages(
      config,
      layout,
      classes=len(dataset.classes),
      speakers=dataset.count_speakers(config),
      steps=steps,
    )
    parts.append((of_runs, layout, stages))
  precision.warn_of_slow(config.precision, layout.platform)
  check_execution(config, steps)
  of_folds = {fold.name: fold_statistics(dataset, fold) for fold in folds}
  return [
    runs.Experiment(
      config=config,
      workdir=workdir,
      dataset=dataset,
      held=held,
      layout=layout,
      stages=stages,
      steps=steps,
      groups=of_runs,
      statistics=of_folds,
    )
    for of_runs, layout, stages in parts
  ]


def _steps_per_epoch(batch_size: int, folds: Sequence[Fold]) -> int:
  """Steps of an epoch, the same for every fold.

  Raises:
    UserError: more than a fold has utterances to train on.
  """
  smallest, largest = (
    pick(folds, key=lambda fold: len(fold.train)) for pick in (min, max)
  )
  few, most = len(smallest.train), len(largest.train)
  if batch_size > most:
    LOG.warning(
      "config.batch_size=%d is more than the %d utterances of the largest "
      "training part: the rest is filler, and an epoch a single step",
      batch_size,
      most,
    )
  steps = order.steps_per_epoch(most, batch_size)
  if steps > few:
    raise UserError(
      f"config.batch_size={batch_size} makes {steps} steps an epoch of the "
      f"{most} utterances that {largest.name} trains on, and {smallest.name} "
      f"trains on {few}: folds have the same steps, and none may be empty. Use "
      f"a batch size of at least {-(-most // few)}."
    )
  return steps
