"""The corpus in device memory; a step is fed positions and gathers itself."""

import logging
from collections.abc import Callable, Iterable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree, Shaped

from ser_jax.batch import Batch, valid_frames
from ser_jax.data.examples import Examples, Frames, Row, blank
from ser_jax.progress import progress

LOG = logging.getLogger(__name__)
Item = tuple[Int[Array, "batch"], Float[Array, "batch"]]


class Resident:
  """A source whose batches are gathered on the device by index.

  Utterances lie one behind another, as long as they are: padded to the longest,
  a corpus is several times as large.

  Attributes:
    constants: the frames of every utterance in use, and where each begins.
  """

  def __init__(self, examples: Examples, share: Callable[[Row], Row]):
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
    lengths = {name: examples.lengths(name)[keep] for name in examples.plans}
    ends = {name: np.cumsum(found) for name, found in lengths.items()}
    inputs = {
      name: np.zeros(shape, examples.dtype(name))
      for name, shape in input_shapes(examples).items()
    }
    for row, index in enumerate(progress(keep, "loading", "utterance")):
      for name, values in examples.read(int(index)).items():
        if examples.in_time(name):
          end = ends[name][row]
          inputs[name][end - len(values) : end] = values
        else:
          inputs[name][row] = values
    size = sum(values.nbytes for values in inputs.values())
    LOG.info("resident: %.0f MB of features on every device", size / 1e6)
    self.constants = {
      "inputs": inputs,
      "starts": {
        name: (ends[name] - found).astype(np.int32)
        for name, found in lengths.items()
        if examples.in_time(name)
      },
      "lengths": lengths,
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
    lengths = {
      name: blank(constants["lengths"][name][position], weight)
      for name, _ in frames
    }
    inputs = {}
    for name, length in frames:
      values = constants["inputs"][name]
      if name in constants["starts"]:
        start = constants["starts"][name][position]
        inputs[name] = _cut(values, start, lengths[name], length)
      else:
        inputs[name] = values[position]
    return Batch(
      inputs=inputs,
      lengths=lengths,
      targets={n: v[position] for n, v in constants["targets"].items()},
      weight=weight,
      speaker=constants["speaker"][position],
      index=constants["index"][position],
    )


def input_shapes(examples: Examples) -> dict[str, tuple[int, ...]]:
  """The shapes of the arrays that hold every utterance in use, by input.

  Frames of all, and behind the last as many as a batch may be long: who reads
  so far from any start stays within. Functionals are one row an utterance.
  """
  found = {}
  for name, plan in examples.plans.items():
    if examples.in_time(name):
      frames = int(examples.lengths(name)[examples.keep].sum())
      found[name] = examples.shape(name, frames + plan.stored)
    else:
      found[name] = (len(examples.keep), *examples.shape(name, 0))
  return found


def _cut(
  values: Shaped[Array, "all dim"],
  start: Int[Array, "batch"],
  valid: Int[Array, "batch"],
  length: int,
) -> Shaped[Array, "batch {length} dim"]:
  """As many frames from each start on, zero past those that are valid."""
  found = jax.vmap(
    lambda first: jax.lax.dynamic_slice_in_dim(values, first, length)
  )(start)
  mask = valid_frames(valid, length)
  return jnp.where(mask[..., None], found, 0)
