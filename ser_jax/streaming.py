"""The unidirectional raw-waveform model on live audio, chunk by chunk.

Each call takes new frames and returns the contours of those that it is by then
certain of: convolutions look to both sides, so the output is `context` frames
late, which is one (40 ms) for kernels of 5 ms. Recurrent states are carried;
of the samples only as many are kept as the convolutions still look back on. All
together equals the pass over the whole recording.

Samples are expected as the model was trained: at zero mean and unit variance of
the recording, which a stream must know beforehand, of the speaker or the room.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from ser_jax.errors import UserError
from ser_jax.train import precision as precisions

Frames = Float[Array | np.ndarray, "batch frames samples"]


@dataclasses.dataclass(frozen=True)
class State:
  """What a stream carries from call to call.

  Attributes:
    cells: of the recurrent layers.
    heard: the last frames, up to twice the context; None at the start.
    settled: how many of these have been told of.
  """

  cells: PyTree
  heard: Frames | None
  settled: int


class Stream:
  """A model whose recording goes on.

  Attributes:
    context: frames on either side that the convolutions see.
  """

  def __init__(
    self, model, params: PyTree, *, samples: int, precision: str = "float32"
  ):
    """Compiles nothing yet.

    Args:
      model: a unidirectional `RawWaveform`.
      params: its parameters.
      samples: in a frame.
      precision: `config.precision`, see `ser_jax/train/precision.py`.

    Raises:
      UserError: a model that reads backwards, too, or an unknown precision.
    """
    precisions.check(precision)
    if model.bidirectional:
      raise UserError(
        "config.model.bidirectional=True reads from a recording's end, which a "
        "stream does not have: train the preset uni256 or tzirakis2017."
      )
    self._model, self._params = model, params
    reach = model.taps[0] // 2 + model.pool_time * (model.taps[1] // 2 + 1)
    self.context = 0 if model.framed else -(-reach // samples)
    self._step = jax.jit(
      precisions.computed(self._run, precision),
      static_argnames=("skip", "take"),
    )

  def start(self, batch: int = 1) -> State:
    """Before anything was heard."""
    return State(self._model.carry(batch), None, 0)

  def push(
    self, state: State, frames: Frames, *, last: bool = False
  ) -> tuple[State, Float[Array, "batch told targets"]]:
    """Hears some frames.

    Args:
      state: as the call before returned it.
      frames: the next ones, any number.
      last: whether the recording ends with them.

    Returns:
      The next state, and contours of the frames that no later sample changes:
      at the end all that are left.
    """
    heard, settled = frames, state.settled
    if state.heard is not None:
      heard = jnp.concatenate([state.heard, frames], axis=1)
    certain = heard.shape[1] - (0 if last else self.context)
    told = certain - settled
    if told <= 0:
      empty = jnp.zeros((len(frames), 0, self._model.targets))
      return dataclasses.replace(state, heard=heard), empty
    contours, cells = self._step(
      self._params, heard, state.cells, skip=settled, take=told
    )
    first = max(certain - self.context, 0)
    return State(cells, heard[:, first:], certain - first), contours

  def _run(self, params, heard, cells, *, skip: int, take: int):
    """Convolves what is held, and goes on with what is certain and new."""
    apply = functools.partial(self._model.apply, {"params": params})
    lengths = jnp.full(len(heard), heard.shape[1], jnp.int32)
    features = apply(heard, lengths, method="features")
    return apply(features[:, skip : skip + take], cells, method="resume")
