"""A corpus as training sees it: records of static shape, labels, speakers.

Both data sources read through here, so that they cannot differ.
"""

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Protocol as Interface

import numpy as np
from jaxtyping import Array, Float, Int, PyTree, Shaped

from ser_jax.batch import Batch
from ser_jax.data.statistics import InputPlan

Frames = tuple[tuple[str, int], ...]  # the padded length of each input
Row = tuple[Int[np.ndarray, "runs batch"], Float[np.ndarray, "runs batch"]]


class Source(Interface):
  """Where batches come from: `Resident` or `Stream`.

  Attributes:
    constants: arrays that stay on the device.
  """

  constants: PyTree

  def items(self, rows: Iterable[Row]) -> Iterator[tuple[Frames, PyTree]]:
    """What each step is fed, and the shape that it will have."""
    ...

  @staticmethod
  def gather(constants: PyTree, item: PyTree, frames: Frames) -> Batch:
    """One run's batch, made inside the compiled step."""
    ...


@dataclasses.dataclass(frozen=True)
class Examples:
  """The utterances in use.

  Attributes:
    shards: where the records are.
    plans: the static shape of each input.
    targets: labels of every utterance of the shards, by target name.
    speakers: speaker index of every utterance of the shards.
    keep: positions of the utterances that have a label.
  """

  shards: object
  plans: dict[str, InputPlan]
  targets: dict[str, Shaped[np.ndarray, "all ..."]]
  speakers: Int[np.ndarray, "all"]
  keep: Int[np.ndarray, "kept"]

  def lengths(self, name: str) -> Int[np.ndarray, "all"]:
    """Frames of every utterance, cut at the plan's length."""
    frames = self.shards.table.frames[name]
    return np.minimum(frames, self.plans[name].stored).astype(np.int32)

  def frames(self, row: Row) -> Frames:
    """The bucket of each input that holds a whole row of utterances."""
    index = row[0][row[1] > 0]
    return tuple(
      (name, plan.bucket(int(self.lengths(name)[index].max(initial=1))))
      for name, plan in self.plans.items()
    )

  def read(self, index: int) -> dict[str, Shaped[np.ndarray, "..."]]:
    """One record; frames beyond the plan's length are cut off."""
    record = self.shards.read(index)
    return {
      name: record[name][: plan.stored] if self.in_time(name) else record[name]
      for name, plan in self.plans.items()
    }

  def load(
    self,
    index: Int[np.ndarray, "batch"],
    weight: Float[np.ndarray, "batch"],
    frames: Frames,
  ) -> dict[str, Shaped[np.ndarray, "batch ..."]]:
    """Records, padded with zeros to `frames`; filler is zeros."""
    inputs = {
      name: np.zeros((len(index), *self.shape(name, length)), self.dtype(name))
      for name, length in frames
    }
    for row in np.flatnonzero(weight):
      for name, values in self.read(int(index[row])).items():
        inputs[name][row, : len(values)] = values
    return inputs

  def batch(
    self,
    index: Int[np.ndarray, "batch"],
    weight: Float[np.ndarray, "batch"],
    inputs: dict[str, Shaped[np.ndarray, "batch ..."]],
  ) -> Batch:
    """What was loaded, with all else that is known of it."""
    return Batch(
      inputs=inputs,
      lengths={
        name: blank(self.lengths(name)[index], weight).astype(np.int32)
        for name in inputs
      },
      targets={name: values[index] for name, values in self.targets.items()},
      weight=weight,
      speaker=self.speakers[index],
      index=index.astype(np.int32),
    )

  def in_time(self, name: str) -> bool:
    """Whether an input has frames; functionals have none."""
    return self.shards.metadata["inputs"][name]["frame_rate"] is not None

  def shape(self, name: str, length: int) -> tuple[int, ...]:
    """The shape of a padded input: `[time, dim]`, or `[dim]` functionals."""
    spec = self.shards.metadata["inputs"][name]
    return (length, spec["dim"]) if self.in_time(name) else (spec["dim"],)

  def dtype(self, name: str) -> np.dtype:
    """The type that an input is kept in until it is on the device."""
    spec = self.shards.metadata["inputs"][name]
    return np.dtype(spec.get("dtype", "float32"))


def example_batch(examples: Examples, size: int) -> Batch:
  """A batch of zeros with the largest shapes that a model will see."""
  return Batch(
    inputs={
      name: np.zeros((size, *examples.shape(name, plan.frames)), np.float32)
      for name, plan in examples.plans.items()
    },
    lengths={
      name: np.full(size, plan.frames, np.int32)
      for name, plan in examples.plans.items()
    },
    targets={
      name: np.zeros((size, *values.shape[1:]), values.dtype)
      for name, values in examples.targets.items()
    },
    weight=np.ones(size, np.float32),
    speaker=np.zeros(size, np.int32),
    index=np.zeros(size, np.int32),
  )


def blank(lengths: Int[Array, "batch"], weight: Float[Array, "batch"]):
  """Lengths with filler examples set to 0."""
  return lengths * (weight > 0)
