"""The corpus in device memory; a step is fed positions and gathers itself."""

from collections.abc import Callable, Iterable, Iterator

import numpy as np
from jaxtyping import Array, Float, Int, PyTree
from tqdm import tqdm

from ser_jax.batch import Batch
from ser_jax.data.examples import Examples, Frames, Row, blank, whole

Item = tuple[Int[Array, "batch"], Float[Array, "batch"]]


class Resident:
  """A source whose batches are gathered on the device by index.

  Attributes:
    constants: every utterance in use, padded to the longest.
  """

  def __init__(self, examples: Examples, share: Callable[[Row], Row] = whole):
    """Reads the whole corpus into host memory.

    Args:
      examples: the utterances in use.
      share: a row of a step to what this process feeds of it.
    """
    self._examples, self._share = examples, share
    keep = examples.keep
    # Position within the shards -> position within the arrays below.
    self._position = np.zeros(len(examples.shards), np.int32)
    self._position[keep] = np.arange(len(keep))
    longest = tuple((name, p.stored) for name, p in examples.plans.items())
    inputs = {
      name: np.zeros(
        (len(keep), *examples.shape(name, frames)), examples.dtype(name)
      )
      for name, frames in longest
    }
    for row, index in enumerate(tqdm(keep, "loading", disable=None)):
      for name, values in examples.read(int(index), longest).items():
        inputs[name][row] = values
    self.constants = {
      "inputs": inputs,
      "lengths": {name: examples.lengths(name)[keep] for name in inputs},
      "targets": {name: v[keep] for name, v in examples.targets.items()},
      "speaker": examples.speakers[keep],
      "index": keep.astype(np.int32),
    }

  def items(self, rows: Iterable[Row]) -> Iterator[tuple[Frames, Item]]:
    """Yields the padded lengths, and `(position, weight)`, of each row."""
    for index, weight in rows:
      frames = self._examples.frames((index, weight))
      yield frames, self._share((self._position[index], weight))

  @staticmethod
  def gather(constants: PyTree, item: Item, frames: Frames) -> Batch:
    """Makes one run's batch from the resident arrays.

    Args:
      constants: the arrays of this source.
      item: positions and weights.
      frames: the length to cut each input to; no utterance is longer.

    Returns:
      The batch, not yet prepared.
    """
    position, weight = item
    inputs = {}
    for name, length in frames:
      values = constants["inputs"][name]
      if values.ndim == 3:
        values = values[:, :length]
      inputs[name] = values[position]
    return Batch(
      inputs=inputs,
      lengths={
        name: blank(constants["lengths"][name][position], weight)
        for name in inputs
      },
      targets={n: v[position] for n, v in constants["targets"].items()},
      weight=weight,
      speaker=constants["speaker"][position],
      index=constants["index"][position],
    )
