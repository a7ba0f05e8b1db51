"""Targets in time: read from the shards at once, standardised by the fold.

Shards hold them as the input `contours`, one row a frame, named in the
metadata. They are small beside the samples, and are kept in memory whole.
"""

import dataclasses
import logging

import numpy as np
from jaxtyping import Float, Int

from ser_jax.data.moments import is_constant
from ser_jax.errors import UserError

LOG = logging.getLogger(__name__)
CONTOURS = "contours"


@dataclasses.dataclass(frozen=True)
class Contours:
  """The targets of a corpus.

  Attributes:
    names: of the targets, in order.
    rate: frames a second.
    values: zero past each utterance.
    frames: valid frames of each utterance.
  """

  names: tuple[str, ...]
  rate: float
  values: Float[np.ndarray, "all frames targets"]
  frames: Int[np.ndarray, "all"]

  def valid(
    self, part: Int[np.ndarray, "n"]
  ) -> Float[np.ndarray, "valid targets"]:
    """All valid frames of some utterances, one after another."""
    inside = np.arange(self.values.shape[1]) < self.frames[part][:, None]
    return self.values[part][inside]

  def moments(
    self, part: Int[np.ndarray, "n"]
  ) -> tuple[Float[np.ndarray, "targets"], Float[np.ndarray, "targets"]]:
    """Mean and deviation of each target over some utterances; 1 if constant."""
    values = self.valid(part).astype(np.float64)
    mean, deviation = values.mean(axis=0), values.std(axis=0)
    constant = is_constant(mean, deviation)
    for name in np.array(self.names)[constant]:
      LOG.warning("%s is constant in training: there is nothing to learn", name)
    divisor = np.where(constant, 1.0, deviation)
    return mean.astype(np.float32), divisor.astype(np.float32)


def read_contours(
  shards, names: tuple[str, ...], inputs: list[str], max_frames: int
) -> Contours:
  """Reads the targets of every utterance.

  Args:
    shards: of a feature set with contours.
    names: of the targets that are wanted.
    inputs: what the model reads: as many frames as the contours have.
    max_frames: where utterances are cut; 0 for never.

  Returns:
    The targets.

  Raises:
    UserError: no contours, an unknown target, values that are not finite, or
      inputs of another length.
  """
  spec = shards.metadata["inputs"].get(CONTOURS)
  if spec is None:
    raise UserError(
      f"config.data.target='contours': the shards at {shards.path} have none "
      f"(they have {', '.join(shards.metadata['inputs'])}): choose a feature "
      "set with contours, such as adieu_prosody."
    )
  known = tuple(spec["names"])
  unknown = [name for name in names if name not in known]
  if unknown or not names:
    raise UserError(
      f"config.data.classes={tuple(names)} must name contours of the shards: "
      f"choose from {', '.join(known)}."
    )
  lengths = shards.table.frames[CONTOURS]
  for name in inputs:
    wrong = np.flatnonzero(shards.table.frames[name] != lengths)
    if len(wrong):
      index = wrong[0]
      raise UserError(
        f"{shards.table.ids[index]} has {shards.table.frames[name][index]} "
        f"frames of {name} and {lengths[index]} of contours: they must be "
        "equal. Build the shards again."
      )
  frames = np.minimum(lengths, max_frames or lengths.max()).astype(np.int32)
  columns = [known.index(name) for name in names]
  values = np.zeros((len(frames), frames.max(), len(names)), np.float32)
  for index, length in enumerate(frames):
    found = shards.read(index)[CONTOURS][:length, columns]
    if not np.isfinite(found).all():
      raise UserError(
        f"{shards.table.ids[index]} has contours that are not finite: mend "
        "the labels and build the shards again."
      )
    values[index, : len(found)] = found
  return Contours(tuple(names), spec["frame_rate"], values, frames)
