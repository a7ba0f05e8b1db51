"""The unidirectional raw-waveform model on live audio, chunk by chunk.

Each call takes new frames and returns the contours of those that it is by then
certain of: convolutions look to both sides, so the output is `context` frames
late, which is one (40 ms) for kernels of 5 ms. Recurrent states are carried;
of the samples only as many are kept as the convolutions still look back on. All
together equals the pass over the whole recording.

    stream = from_workdir("runs/DIR")
    state = stream.start(moments=(mean, deviation))
    for frames in live:  # [1, any number, stream.samples], in [-1, 1)
      state, contours = stream.push(state, frames)

Where the model was trained on recordings at zero mean and unit variance, as by
`configs/adieu.py`, those of a stream must be known beforehand, of the speaker
or the room.
"""

import dataclasses
import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int16, PyTree

from ser_jax import system, trained
from ser_jax.data.contours import CONTOURS
from ser_jax.data.recordings import as_float
from ser_jax.errors import UserError
from ser_jax.models.raw_waveform import WAVEFORM
from ser_jax.train import precision as precisions

# Far above samples in [-1, 1), even standardised noise; far below 16-bit ones.
LOUDEST = 8.0
Frames = Float[Array | np.ndarray, "batch frames samples"]
Recorded = Frames | Int16[Array | np.ndarray, "batch frames samples"]
# Mean and deviation: of all values, or of each along the last axis.
Moments = tuple[float | np.ndarray, float | np.ndarray]


@dataclasses.dataclass(frozen=True)
class State:
  """What a stream carries from call to call.

  Attributes:
    cells: of the recurrent layers.
    heard: the last frames, up to twice the context; None at the start.
    settled: how many of these have been told of.
    moments: what the recording's samples are standardised by.
    ended: whether the recording has.
  """

  cells: PyTree
  heard: Frames | None
  settled: int
  moments: Moments
  ended: bool = False


class Stream:
  """A model whose recording goes on.

  Attributes:
    samples: in a frame.
    context: frames on either side that the convolutions see.
  """

  def __init__(
    self,
    model,
    params: PyTree,
    *,
    samples: int,
    precision: str = "float32",
    moments: Moments | None = (0.0, 1.0),
    units: Moments = (0.0, 1.0),
  ):
    """Compiles nothing yet.

    Args:
      model: a unidirectional `RawWaveform`.
      params: its parameters.
      samples: in a frame.
      precision: `config.precision`, see `ser_jax/train/precision.py`.
      moments: what samples are standardised by; None where every recording has
        its own, which `start` is then told.
      units: moments of each target, whose contours the model standardises.

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
    self._moments, self._units = moments, units
    self.samples = samples
    reach = model.taps[0] // 2 + model.pool_time * (model.taps[1] // 2 + 1)
    self.context = 0 if model.framed else -(-reach // samples)
    self._step = jax.jit(
      precisions.computed(self._run, precision),
      static_argnames=("skip", "take"),
    )

  def start(self, batch: int = 1, moments: Moments | None = None) -> State:
    """Before anything was heard.

    Args:
      batch: recordings at once.
      moments: mean and deviation of their samples in [-1, 1), from what was
        heard of the speaker or the room before; None for the model's own.

    Raises:
      UserError: the model has none of its own; or moments that none can have.
    """
    moments = self._moments if moments is None else moments
    if moments is None:
      raise UserError(
        "the model hears recordings at zero mean and unit variance (config."
        "data.inputs.waveform.normalize), which a stream cannot know: give "
        "Stream.start(moments=(mean, deviation)), of samples in [-1, 1) that "
        "the speaker or the room had before."
      )
    mean, deviation = _by_last_axis(moments)
    known = all(
      np.isfinite(x).all() and x.size in (1, self.samples)
      for x in (mean, deviation)
    )
    if not known or (deviation <= 0).any():
      raise UserError(
        f"moments={moments} of a stream must be a mean and a deviation above "
        "0, both finite: of a silent recording take those of another."
      )
    return State(self._model.carry(batch), None, 0, moments)

  def push(
    self, state: State, frames: Recorded, *, last: bool = False
  ) -> tuple[State, Float[Array, "batch told targets"]]:
    """Hears some frames.

    Args:
      state: as the call before returned it.
      frames: the next ones, any number; samples in [-1, 1) or of 16 bits.
      last: whether the recording ends with them.

    Returns:
      The next state, and contours of the frames that no later sample changes:
      at the end all that are left.

    Raises:
      UserError: the recording has ended, or what is no frames of samples.
    """
    self._check(state, frames)
    mean, deviation = _by_last_axis(state.moments)
    heard, settled = (as_float(frames) - mean) / deviation, state.settled
    if state.heard is not None:
      heard = jnp.concatenate([state.heard, heard], axis=1)
    certain = heard.shape[1] - (0 if last else self.context)
    told = certain - settled
    if told <= 0:
      empty = jnp.zeros((len(frames), 0, self._model.targets))
      return dataclasses.replace(state, heard=heard, ended=last), empty
    contours, cells = self._step(
      self._params, heard, state.cells, skip=settled, take=told
    )
    first = max(certain - self.context, 0)
    heard, settled = heard[:, first:], certain - first
    state = State(cells, heard, settled, state.moments, last)
    mean, deviation = _by_last_axis(self._units)
    return state, contours * deviation + mean

  def _check(self, state: State, frames: Recorded) -> None:
    """Refuses frames that would be heard as something else."""
    if state.ended:
      raise UserError(
        "Stream.push was told last=True of this recording: Stream.start begins "
        "another."
      )
    wanted = len(jax.tree.leaves(state.cells)[0]), self.samples
    if frames.ndim != 3 or (len(frames), frames.shape[2]) != wanted:
      raise UserError(
        f"Stream.push was given an array of {frames.shape}: a stream's frames "
        f"are [{wanted[0]}, any number, {wanted[1]}]."
      )
    if frames.dtype != np.int16 and not (np.abs(frames) <= LOUDEST).all():
      raise UserError(
        "Stream.push was given samples that are not finite, or far beyond "
        "[-1, 1): divide them by their format's full scale, or give those of "
        "16 bits as int16."
      )

  def _run(self, params, heard, cells, *, skip: int, take: int):
    """Convolves what is held, and goes on with what is certain and new."""
    apply = functools.partial(self._model.apply, {"params": params})
    lengths = jnp.full(len(heard), heard.shape[1], jnp.int32)
    features = apply(heard, lengths, method="features")
    return apply(features[:, skip : skip + take], cells, method="resume")


def _by_last_axis(moments: Moments) -> tuple[np.ndarray, np.ndarray]:
  """Mean and deviation that go with a batch of frames."""
  mean, deviation = (np.float32(x).reshape(1, 1, -1) for x in moments)
  return mean, deviation


def from_workdir(workdir: str | pathlib.Path, run: str | None = None) -> Stream:
  """The stream of a trained run.

  Args:
    workdir: of a training of `configs/adieu.py` by a unidirectional preset.
    run: its name, such as `fold0-seed0`; None for the first that is finished.

  Returns:
    The stream: frames of `samples` samples at the rate of training (16 kHz) to
    a contour of each of `config.data.classes`, in the units of its saved
    predictions, a frame of 40 ms each.

  Raises:
    UserError: no such run, or one whose model cannot run on a stream.
  """
  folder = pathlib.Path(workdir)
  name = trained.read_config(folder).model.name
  if name != "raw_waveform":
    raise UserError(
      f"--workdir={folder} holds config.model.name={name!r}, which hears no "
      "samples: give a training of configs/adieu.py:uni256 or tzirakis2017."
    )
  opened = trained.open_runs(folder, [run] if run else [], devices=1)
  config, recipe = opened.config, opened.recipe
  mean, deviation = (
    {name: np.asarray(values) for name, values in moments.items()}
    for moments in (opened.statistics[0].mean, opened.statistics[0].deviation)
  )
  plan, moments = recipe.plans[WAVEFORM], None
  if not plan["standardize"]:
    moments = 0.0, 1.0
  elif plan["normalize"] == "train":
    moments = mean[WAVEFORM], deviation[WAVEFORM]
  return Stream(
    system.make_model(config, classes=len(recipe.classes)),
    opened.weights[0].params,
    samples=recipe.inputs[WAVEFORM]["dim"],
    precision=config.precision,
    moments=moments,
    units=(mean[CONTOURS], deviation[CONTOURS]),
  )
