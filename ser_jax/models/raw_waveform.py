"""Contours of emotion from samples (Trigeorgis et al. 2016, section 2.1).

    samples -> front_end (convolutions) -> lstm_0 -> lstm_1 -> head -> contours

One frame of 40 ms in, one value of each target out. Dropout lies on the front
end's features and on what the head reads, outside of the recurrence. Without a
backward direction the model also runs on a stream, see `ser_jax/streaming.py`.
"""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ser_jax.nn.dropout import Dropout
from ser_jax.nn.recurrent import LSTM, Bidirectional, Carry
from ser_jax.nn.waveform import WaveformFrontEnd

WAVEFORM = "waveform"

Frames = Float[Array, "batch frames samples"]
Features = Float[Array, "batch frames dim"]


class RawWaveform(nn.Module):
  """Convolutions and recurrent layers over raw samples.

  Attributes:
    targets: contours to predict.
    filters: see `WaveformFrontEnd`, as for the next seven.
    taps: see there.
    pool_time: see there.
    pool_channels: see there.
    framed: see there.
    depthwise: see there.
    rectify: see there.
    forms: see there.
    hidden: units of a recurrent layer, in each direction.
    layers: recurrent layers.
    bidirectional: whether layers read backwards, too.
    dropout: the share of features dropped, before and after the recurrence.
    hoist: whether LSTMs project their inputs before the scan.
    unroll: see `LSTM`.
    axis_name: a mapped axis that the batch is split over, if any.
  """

  targets: int
  filters: tuple[int, int] = (40, 40)
  taps: tuple[int, int] = (80, 40)
  pool_time: int = 2
  pool_channels: int = 20
  framed: bool = False
  depthwise: bool = False
  rectify: tuple[bool, bool] = (True, False)
  forms: tuple[str, str] = ("direct", "direct")
  hidden: int = 128
  layers: int = 2
  bidirectional: bool = True
  dropout: float = 0.5
  hoist: bool = True
  unroll: int = 1
  axis_name: str | None = None

  def __post_init__(self):
    """Checks the sizes.

    Raises:
      ValueError: no layer, a share that is none, or a front end that cannot be.
    """
    if self.layers < 1 or self.hidden < 1:
      raise ValueError(
        f"layers={self.layers} and hidden={self.hidden} must be at least 1"
      )
    if not 0 <= self.dropout < 1:
      raise ValueError(f"dropout={self.dropout} must lie in [0, 1)")
    self._front_end(parent=None)  # its own checks, before anything is set up
    super().__post_init__()

  def setup(self):
    """Makes the parameter groups."""
    self.front_end = self._front_end()
    self.lstm = [self._layer() for _ in range(self.layers)]
    self.before, self.after = (
      Dropout(self.dropout, axis_name=self.axis_name) for _ in range(2)
    )
    self.head = nn.Dense(self.targets)

  def _front_end(self, **options) -> WaveformFrontEnd:
    return WaveformFrontEnd(
      self.filters,
      self.taps,
      self.pool_time,
      self.pool_channels,
      self.framed,
      self.depthwise,
      self.rectify,
      self.forms,
      **options,
    )

  def _layer(self) -> nn.Module:
    """One recurrent layer, in either direction."""
    if not self.bidirectional:
      return LSTM(self.hidden, self.hoist, self.unroll)
    both = (
      LSTM(self.hidden, self.hoist, self.unroll, parent=None) for _ in range(2)
    )
    return Bidirectional(*both)

  def __call__(
    self,
    inputs: dict[str, Float[Array, "batch ..."]],
    lengths: dict[str, Int[Array, "batch"]],
    *,
    train: bool,
  ) -> dict[str, Float[Array, "..."]]:
    """Predicts contours.

    Args:
      inputs: `waveform` `[batch, frames, samples]`.
      lengths: valid frames.
      train: dropout if true.

    Returns:
      `contours` `[batch, frames, targets]`, and `cells`, the outputs of all
      recurrent cells `[batch, frames, layers x units]`, layer by layer.
    """
    length = lengths[WAVEFORM]
    x = self.before(self.features(inputs[WAVEFORM], length), train=train)
    cells = []
    for layer in self.lstm:
      x = layer(x, length)
      cells.append(x)
    contours = self.head(self.after(x, train=train))
    return {"contours": contours, "cells": jnp.concatenate(cells, axis=-1)}

  def features(self, x: Frames, lengths: Int[Array, "batch"]) -> Features:
    """What the convolutions make of samples, without dropout."""
    return self.front_end(x, lengths)

  def carry(self, batch: int) -> tuple[Carry, ...]:
    """The states of all layers before anything was heard.

    Raises:
      ValueError: layers that read backwards have none.
    """
    if self.bidirectional:
      raise ValueError("bidirectional=True: the end must be known at the start")
    zero = jnp.zeros((batch, self.hidden))
    return tuple((zero, zero) for _ in range(self.layers))

  def resume(
    self, features: Features, carry: tuple[Carry, ...]
  ) -> tuple[Float[Array, "batch frames targets"], tuple[Carry, ...]]:
    """Goes on from states, over features of further frames.

    Args:
      features: as `features` makes them; all frames count.
      carry: states of all layers.

    Returns:
      Contours, and the states after the last frame.
    """
    x, states = features, []
    lengths = jnp.full(len(x), x.shape[1], jnp.int32)
    for layer, (h, c) in zip(self.lstm, carry, strict=True):
      x, state = layer(x, lengths, (h.astype(x.dtype), c))
      states.append(state)
    return self.head(x), tuple(states)
