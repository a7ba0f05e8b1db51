"""What a trained run shows beside scores: embeddings, and what it decodes.

    checkpoints -> embeddings.npz, generated.npz in the runs' folders

The runs are every fold of the first seed, with the best weights. Reports draw
from these files; see `ser_jax/evaluation/embeddings.py`.
"""

import dataclasses
import functools
from collections.abc import Collection

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from ser_jax import atomic, predictions, runs
from ser_jax.batch import Batch
from ser_jax.data.prepare import prepare
from ser_jax.data.statistics import InputPlan, Statistics
from ser_jax.train import loop, processes
from ser_jax.train.engine import Engine, outputs
from ser_jax.train.step import decode_step

SIDES = ("train", "validation", "test")
DECODED = 32  # test utterances to reconstruct, and samples of each class
STEPS = np.linspace(-3.0, 3.0, 9)  # of the traversal, in deviations of z
# Of the module, so that all folds share what is compiled.
_decode = jax.jit(decode_step, static_argnames="task")


@functools.partial(jax.jit, static_argnames="plans")
def _prepare(
  batch: Batch, statistics: Statistics, plans: tuple[tuple[str, InputPlan], ...]
) -> Batch:
  return prepare(batch, statistics, dict(plans))


def look(
  experiment: runs.Experiment, engine: Engine, left_out: Collection[str]
) -> None:
  """Writes what there is to look at.

  Args:
    experiment: whose runs are finished.
    engine: of its last stage.
    left_out: names of runs that are not, beside others in their program.

  Raises:
    UserError: a run has no checkpoint.
  """
  seed = int(experiment.config.seeds[0])
  for group in experiment.groups:
    if seed not in {run.seed for run in group}:
      continue
    weights = runs.restore_best(experiment, group)
    best = experiment.layout.place_runs(weights)
    parts = [np.concatenate(sides(experiment, run)) for run in group]
    statistics = runs.group_statistics(experiment, group)
    found = outputs(engine, best, statistics, parts)
    for number, run in enumerate(group):
      if run.seed == seed and run.name not in left_out:
        shown = {name: arrays[number] for name, arrays in found.items()}
        _write(experiment, run, "embeddings", describe(experiment, run) | shown)
        own = jax.tree.map(lambda x, number=number: x[number], weights)
        _write(
          experiment, run, "generated", generate(experiment, run, own, shown)
        )


def sides(
  experiment: runs.Experiment, run: loop.Run
) -> list[Int[np.ndarray, "part"]]:
  """Training, validation and test part, without copies at other speeds."""
  speeds = experiment.dataset.shards.table.speeds
  parts = [getattr(run, side) for side in SIDES]
  return [part[speeds[part] == 1] for part in parts]


def _write(
  experiment: runs.Experiment, run: loop.Run, stem: str, arrays: dict
) -> None:
  """Writes a run's file, if there is something to write."""
  path = predictions.file_of(experiment.workdir, run, stem)
  if arrays:
    processes.on_primary(lambda: atomic.write_arrays(path, arrays))


def describe(
  experiment: runs.Experiment, run: loop.Run
) -> dict[str, np.ndarray]:
  """Who says what, and on which side of the fold.

  Args:
    experiment: that the run is of.
    run: a fold and a seed.

  Returns:
    `utterance`, `speaker`, `emotion`, `split` and `target`, for training,
    validation and test part, in this order.
  """
  table, labels = experiment.dataset.shards.table, experiment.dataset.labels
  parts = sides(experiment, run)
  where = np.concatenate(parts)
  return {
    "utterance": table.ids[where].astype(str),
    "speaker": table.speakers[where].astype(str),
    "emotion": table.emotions[where].astype(str),
    "split": np.repeat(SIDES, [len(part) for part in parts]),
    "target": labels[where],
  }


def prepared(
  experiment: runs.Experiment, run: loop.Run, index: Int[np.ndarray, "batch"]
) -> Batch:
  """A batch as the run's model sees it, made outside of any program.

  Args:
    experiment: that the run is of.
    run: by whose training part inputs are standardised.
    index: positions within the shards.

  Returns:
    The batch.
  """
  examples = experiment.dataset.examples
  weight = np.ones(len(index), np.float32)
  frames = examples.frames((index, weight))
  inputs = examples.load(index, weight, frames)
  batch = examples.batch(index, weight, inputs)
  plans = tuple(examples.plans.items())
  return _prepare(batch, experiment.statistics[run.fold], plans)


def generate(
  experiment: runs.Experiment,
  run: loop.Run,
  weights,
  shown: dict[str, Float[np.ndarray, "utterances ..."]],
) -> dict[str, np.ndarray]:
  """What a decoder makes of latent variables; nothing without a decoder.

  Args:
    experiment: that the run is of.
    run: of which test utterances are reconstructed.
    weights: of the run.
    shown: `scores` and `z` of its training, validation and test part.

  Returns:
    `input` and `reconstruction` of test utterances; `samples` and
    `sample_class`: decoded from draws of the prior; `traversal`
    `[classes, steps, ...]`: decoded along the direction in which z varies most,
    `steps` deviations from its mean.
  """
  task = experiment.stages[-1].task
  if task.decode is None:
    return {}

  def decoded(y, z, batch):
    return np.asarray(_decode(weights, y, z, batch, task=task))

  batch = prepared(experiment, run, run.test[:DECODED])
  y, z = shown["scores"], shown["z"]
  first = len(y) - len(run.test)
  mine = slice(first, first + len(batch.index))
  classes, rng = y.shape[1], np.random.default_rng(0)
  one_hot = np.eye(classes, dtype=np.float32)
  drawn = np.repeat(np.arange(classes), DECODED)
  along = _main_direction(z)
  inputs = np.asarray(next(iter(batch.inputs.values())))
  return {
    "input": inputs,
    "reconstruction": decoded(y[mine], z[mine], batch),
    "sample_class": drawn,
    "samples": decoded(
      one_hot[drawn],
      rng.standard_normal((len(drawn), z.shape[1]), np.float32),
      _like(batch, len(drawn)),
    ),
    "steps": STEPS,
    "traversal": decoded(
      np.repeat(one_hot, len(STEPS), axis=0),
      np.tile(along, (classes, 1)),
      _like(batch, classes * len(STEPS)),
    ).reshape(classes, len(STEPS), *inputs.shape[1:]),
  }


def _main_direction(
  z: Float[np.ndarray, "utterances latent"],
) -> Float[np.ndarray, "steps latent"]:
  """Points along the first principal axis, through the mean."""
  centred = z - z.mean(axis=0)
  _, sizes, axes = np.linalg.svd(centred, full_matrices=False)
  deviation = sizes[0] / np.sqrt(len(z))
  offsets = STEPS[:, None] * deviation * axes[:1]
  return (z.mean(axis=0) + offsets).astype(np.float32)


def _like(batch: Batch, size: int) -> Batch:
  """A batch of as many examples as asked for, as long as its longest."""

  def widen(x):
    return jnp.broadcast_to(x[:1], (size, *x.shape[1:]))

  wide = jax.tree.map(widen, batch)
  lengths = {name: jnp.full(size, x.max()) for name, x in batch.lengths.items()}
  return dataclasses.replace(wide, lengths=lengths)
