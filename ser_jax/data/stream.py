"""tf.data: index -> record -> pad -> batch -> prefetch, off the device.

For corpora that do not fit in device memory. The only module that names
TensorFlow, which is hidden from accelerators.
"""

import functools
from collections.abc import Callable, Iterable, Iterator

import jax
import numpy as np
import tensorflow as tf
from jaxtyping import PyTree

from ser_jax.batch import Batch
from ser_jax.data.examples import Examples, Frames, Row, blank
from ser_jax.errors import UserError

tf.config.set_visible_devices([], "GPU")
tf.config.set_visible_devices([], "TPU")


class Stream:
  """A source that reads records as they are needed.

  Attributes:
    constants: nothing; every batch travels whole.
  """

  def __init__(self, examples: Examples, share: Callable[[Row], Row]):
    """Opens the pipeline; nothing is read yet.

    Args:
      examples: the utterances in use.
      share: a row of a step to what this process reads of it.
    """
    self._examples, self._share = examples, share
    self._names = tuple(examples.plans)
    self.constants = {}

  def items(self, rows: Iterable[Row]) -> Iterator[tuple[Frames, Batch]]:
    """Yields the padded lengths, and the batches of all runs, of each row.

    Args:
      rows: positions and weights, `[runs, batch]`; read ahead of use.

    Yields:
      The shape key, and a batch whose arrays have axes `[runs, batch, ...]`.

    Raises:
      UserError: a record is damaged.
    """
    first, rows = _peek(rows)
    if first is None:
      return
    runs, size = self._share(first)[0].shape
    # Raised here: TensorFlow would bury it in a traceback of its own.
    failed = []
    data = self._pipeline(map(self._row, rows), runs, size, failed)
    for index, weight, lengths, *values in data.as_numpy_iterator():
      if failed:
        raise failed[0]
      frames = tuple(zip(self._names, lengths[0].tolist(), strict=True))
      inputs = dict(zip(self._names, values, strict=True))
      batch = self._batch(index, weight, inputs)
      yield (
        frames,
        jax.tree.map(lambda x: x.reshape(runs, size, *x.shape[1:]), batch),
      )

  def _row(self, row: Row) -> tuple[np.ndarray, ...]:
    """What this process reads of a row, and the lengths to pad it to."""
    lengths = [length for _, length in self._examples.frames(row)]
    return *self._share(row), np.array(lengths, np.int32)

  def _pipeline(
    self, rows: Iterator, runs: int, size: int, failed: list[UserError]
  ) -> tf.data.Dataset:
    """Rows -> `(position, weight, lengths, *inputs)` of a step's examples."""
    dtypes = [tf.as_dtype(self._examples.dtype(name)) for name in self._names]
    read = functools.partial(self._read, failed)

    def flatten(index, weight, lengths):
      index, weight = tf.reshape(index, [-1]), tf.reshape(weight, [-1])
      lengths = tf.repeat(lengths[None], tf.shape(index)[0], axis=0)
      return tf.data.Dataset.from_tensor_slices((index, weight, lengths))

    def load(index, weight, lengths):
      values = tf.numpy_function(read, (index, weight, lengths), dtypes)
      return index, weight, lengths, *values

    data = tf.data.Dataset.from_generator(
      lambda: rows,
      output_signature=(
        tf.TensorSpec((runs, size), tf.int32),
        tf.TensorSpec((runs, size), tf.float32),
        tf.TensorSpec((len(self._names),), tf.int32),
      ),
    )
    data = data.flat_map(flatten)
    data = data.map(load, num_parallel_calls=tf.data.AUTOTUNE)
    # All examples of a batch are padded to the same bucket by now.
    data = data.batch(runs * size)
    return data.prefetch(tf.data.AUTOTUNE)

  def _read(
    self, failed: list[UserError], index, weight, lengths
  ) -> list[np.ndarray]:
    """The inputs of an example, zeros for filler or if it cannot be read."""
    frames = tuple(zip(self._names, lengths.tolist(), strict=True))
    record = {
      name: np.zeros(self._examples.shape(name, length))
      for name, length in frames
    }
    if weight > 0:
      try:
        record = self._examples.read(int(index), frames)
      except UserError as error:
        failed.append(error)
    return [
      record[name].astype(self._examples.dtype(name)) for name in self._names
    ]

  def _batch(self, index, weight, inputs) -> Batch:
    examples = self._examples
    return Batch(
      inputs=inputs,
      lengths={
        name: blank(examples.lengths(name)[index], weight).astype(np.int32)
        for name in inputs
      },
      targets={name: v[index] for name, v in examples.targets.items()},
      weight=weight,
      speaker=examples.speakers[index],
      index=index,
    )

  @staticmethod
  def gather(constants: PyTree, item: Batch, frames: Frames) -> Batch:
    """The batch is the item."""
    del constants, frames
    return item


def _peek(rows: Iterable[Row]):
  """The first row, and all rows including it."""
  rows = iter(rows)
  first = next(rows, None)

  def again():
    yield first
    yield from rows

  return first, again()
