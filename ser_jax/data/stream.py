"""tf.data: rows -> batches, padded -> prefetch, off the device.

For corpora that do not fit in device memory. The only module that names
TensorFlow, which is hidden from accelerators.
"""

from collections.abc import Callable, Iterable, Iterator

import jax
import numpy as np
import tensorflow as tf
from jaxtyping import PyTree

from ser_jax.batch import Batch
from ser_jax.data.examples import Examples, Frames, Row
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
    self._pipelines, self._begun = {}, iter(())
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
    runs, size = shape = self._share(first)[0].shape
    if shape not in self._pipelines:
      self._pipelines[shape] = self._pipeline(*shape)
    self._begun = map(self._row, rows)
    for row in self._pipelines[shape].as_numpy_iterator():
      index, weight, lengths, read, *values = row
      frames = tuple(zip(self._names, lengths.tolist(), strict=True))
      inputs = dict(zip(self._names, values, strict=True))
      if not read:  # raised here: TensorFlow would bury it in a traceback
        inputs = self._examples.load(index, weight, frames)
      batch = self._examples.batch(index, weight, inputs)
      yield (
        frames,
        jax.tree.map(lambda x: x.reshape(runs, size, *x.shape[1:]), batch),
      )

  def _row(self, row: Row) -> tuple[np.ndarray, ...]:
    """What this process reads of a row, and the lengths to pad it to."""
    lengths = [length for _, length in self._examples.frames(row)]
    return *self._share(row), np.array(lengths, np.int32)

  def _pipeline(self, runs: int, size: int) -> tf.data.Dataset:
    """Rows -> `(position, weight, lengths, read, *inputs)` of their examples.

    Kept, for making one takes as long as reading several batches: the rows are
    those begun last when it is first asked for a batch.
    """
    dtypes = [tf.as_dtype(self._examples.dtype(name)) for name in self._names]

    # A batch at a time, as calls from TensorFlow into Python are slow.
    def load(index, weight, lengths):
      index, weight = tf.reshape(index, [-1]), tf.reshape(weight, [-1])
      row = index, weight, lengths
      return *row, *tf.numpy_function(self._read, row, [tf.bool, *dtypes])

    data = tf.data.Dataset.from_generator(
      lambda: self._begun,
      output_signature=(
        tf.TensorSpec((runs, size), tf.int32),
        tf.TensorSpec((runs, size), tf.float32),
        tf.TensorSpec((len(self._names),), tf.int32),
      ),
    )
    data = data.map(load, num_parallel_calls=tf.data.AUTOTUNE)
    return data.prefetch(tf.data.AUTOTUNE)

  def _read(self, index, weight, lengths) -> list[np.ndarray]:
    """Whether a batch can be read, and its inputs."""
    frames = tuple(zip(self._names, lengths.tolist(), strict=True))
    try:
      inputs = self._examples.load(index, weight, frames)
      return [np.True_, *inputs.values()]
    except UserError:
      dtypes = map(self._examples.dtype, self._names)
      return [np.False_, *(np.zeros(0, dtype) for dtype in dtypes)]

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
