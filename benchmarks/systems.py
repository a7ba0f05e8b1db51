"""Every system over utterances of noise: what trains, without a corpus.

Configs, sources and programs are those of `ser_jax.experiment`; records are
drawn at random in the shapes that the papers' corpora have.
"""

import dataclasses
import functools
import itertools
import pathlib
from collections.abc import Callable, Iterator

import numpy as np
from jaxtyping import PyTree
from ml_collections import ConfigDict

from configs import aae, adieu, dat, dcaen, ds_lstm
from ser_jax import assembly, runs
from ser_jax import experiment as experiments
from ser_jax.analysis.compiled import epoch_rows
from ser_jax.analysis.shapes import Blank, blank_shards
from ser_jax.data.dataset import load_dataset
from ser_jax.data.examples import Frames
from ser_jax.tasks.task import Stage
from ser_jax.train.engine import Engine

# Config, and frames of its inputs (functionals have none).
SYSTEMS: dict[str, tuple[Callable[[], ConfigDict], str]] = {
  "ds_lstm": (
    lambda: ds_lstm.get_config("dual,emodb"),
    "mfcc=384,s1=459,s2=230",
  ),
  "dat": (
    lambda: dat.get_config("mfcc,depth1,gamma3.33,emodb"),
    "features=281",
  ),
  "aae": (lambda: aae.get_config("utt_aae,emotion,emodb"), ""),
  "dcaen": (lambda: dcaen.get_config("dcaen,emodb"), "waveform=150"),
  "adieu": (
    lambda: adieu.get_config("bi128,ccc,emodb"),
    "waveform=150,contours=150",
  ),
}


def _classifier() -> ConfigDict:
  """The autoencoder's classifying part alone: one phase, one optimizer."""
  config = aae.get_config("utt_base,emotion,emodb")
  config.model.batch_norm = True
  return config


# What benchmarks take by name alone; some have no peer.
OWN = {
  "aae_classifier": (_classifier, ""),
  "own": (lambda: dat.get_config("best,emodb"), ""),
  "aae_frames": (
    lambda: aae.get_config("fr_base,emotion,emodb"),
    "descriptors=893",
  ),
}


POOL = 64  # records that are drawn; reading them again costs nothing


class Noise(Blank):
  """Shards whose records are noise: full length, the same at every reading."""

  def read(self, index: int) -> dict[str, np.ndarray]:
    """Gives a record."""
    return self._draw(index % POOL)

  @functools.cache  # noqa: B019 (as long as the benchmark)
  def _draw(self, index: int) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(index)
    found = {}
    for name, blank in super().read(index).items():
      shape = blank.shape
      if blank.ndim == 2:
        shape = (int(self.table.frames[name][index]), shape[1])
      values = generator.normal(size=shape)
      # Samples are kept in 16 bits.
      if blank.dtype == np.int16:
        values *= 3000
      found[name] = values.astype(blank.dtype)
    return found


def make_config(name: str, **changes) -> ConfigDict:
  """A system's config, for utterances that are not on any disk.

  Args:
    name: a key of `SYSTEMS` or `OWN`.
    **changes: fields by path, dots as `__`: `parallel__runs="vmap"`.

  Returns:
    The config.
  """
  make, frames = (SYSTEMS | OWN)[name]
  config = make()
  config.data.shards = "none"
  config.analysis.frames = frames
  config.update_from_flattened_dict(
    {path.replace("__", "."): value for path, value in changes.items()}
  )
  return config


def as_on_accelerators(config: ConfigDict) -> ConfigDict:
  """A config whose model is computed on a CPU as it is on accelerators."""
  if "on_accelerator" in config.model:
    config.model.on_cpu.update(config.model.on_accelerator)
  return config


def make_experiment(config: ConfigDict, held: int) -> runs.Experiment:
  """An experiment over noise.

  Args:
    config: as `make_config` makes.
    held: utterances that the source holds.

  Returns:
    The experiment; nothing of it is written anywhere.
  """
  experiments.check(config)
  blank = blank_shards(config)
  noise = Noise(blank.path, blank.metadata, blank.table)
  dataset = load_dataset(config, noise)
  examples = dataset.examples
  kept = dataclasses.replace(examples, keep=examples.keep[:held])
  workdir = pathlib.Path("none")
  seeds = [config.seeds]
  (found,) = assembly.assemble(config, workdir, dataset, kept, seeds)
  return found


class Bench:
  """The steps of an experiment's last stage, one call at a time."""

  def __init__(self, experiment: runs.Experiment):
    """Draws parameters; programs compile at their first step."""
    self.experiment = experiment
    self.layout = experiment.layout
    self.stage: Stage = experiment.stages[-1]
    self.engine: Engine = runs.make_engines(experiment)[-1]
    group = experiment.groups[0]
    self.state = self.layout.place_runs(
      runs.initial_state(experiment, self.stage, group)
    )
    self.statistics = runs.group_statistics(experiment, group)
    self._weights = self.state.weights

  def items(self) -> Iterator[tuple[Frames, PyTree]]:
    """What steps are fed, an epoch over and over; read as a training's are."""
    rows = epoch_rows(self.experiment)
    return self.engine.source.items(itertools.cycle(rows))

  def train(self, frames: Frames, item: PyTree) -> PyTree:
    """One training step."""
    self.state, totals = self.engine.train(
      *(self.state, self.layout.place_item(item)),
      *(self.statistics, self.engine.constants, frames),
    )
    # Once a training, not once a prediction: as after an epoch.
    self._weights = self.state.weights
    return totals

  def predict(self, frames: Frames, item: PyTree) -> PyTree:
    """One prediction step."""
    return self.engine.predict(
      *(self._weights, self.layout.place_item(item)),
      *(self.statistics, self.engine.constants, frames),
    )
