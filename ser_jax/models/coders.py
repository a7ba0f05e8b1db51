"""Encoders and decoders of the adversarial autoencoder (Table 2).

Of functionals by dense layers, of frames by convolutions before them.
"""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ser_jax.batch import valid_frames
from ser_jax.nn.direct import convolution
from ser_jax.nn.dropout import Dropout
from ser_jax.nn.masking import zero_padding
from ser_jax.nn.normalization import BatchNorm
from ser_jax.nn.pooling import axis_max

KERNEL, POOL = 4, 4
# The same length out; of stride 1, the transpose is padded the other way round.
PADDINGS = {"conv": ((1, 2),), "transposed": ((2, 1),)}
BLOCKS = 4  # of convolution and pooling
REDUCTION = POOL**BLOCKS  # frames to one step of the last convolution

Vectors = Float[Array, "batch dim"]
Frames = Float[Array, "batch time dim"]
Lengths = Int[Array, "batch"]


class Layer(nn.Module):
  """Dense, a convolution or its transpose, then BatchNorm if asked for.

  Attributes:
    features: of the output.
    kind: `dense`, or one of `PADDINGS`.
    batch_norm: whether to normalise.
    axis_name: a mapped axis that the batch is split over, if any.
  """

  features: int
  kind: str = "dense"
  batch_norm: bool = False
  axis_name: str | None = None

  @nn.compact
  def __call__(
    self,
    x: Float[Array, "batch *time dim"],
    mask: Bool[Array, "batch *time"],
    *,
    train: bool,
  ) -> Float[Array, "batch *time features"]:
    """Applies the layer, without an activation.

    Args:
      x: the input.
      mask: what counts in BatchNorm.
      train: batch statistics if true.

    Returns:
      The output, as long in time as the input.
    """
    if self.kind == "dense":
      x = nn.Dense(self.features, name="dense")(x)
    else:
      x = nn.Conv(
        self.features,
        (KERNEL,),
        padding=PADDINGS[self.kind],
        conv_general_dilated=convolution,
        name="conv",
      )(x)
    if self.batch_norm:
      x = BatchNorm(self.axis_name, name="bn")(x, mask, train=train)
    return x


class UtteranceEncoder(nn.Module):
  """Two dense layers with ReLU, dropout between them.

  Attributes:
    hidden: units of either layer.
    dropout: the share of units dropped.
    batch_norm: see `Layer`.
    axis_name: a mapped axis that the batch is split over, if any.
  """

  hidden: int
  dropout: float
  batch_norm: bool
  axis_name: str | None

  @nn.compact
  def __call__(
    self, x: Vectors, lengths: Lengths, *, train: bool
  ) -> Float[Array, "batch hidden"]:
    """Embeds vectors; those of length 0 count for nothing."""
    for number in range(2):
      if number:
        x = Dropout(self.dropout, axis_name=self.axis_name)(x, train=train)
      x = Layer(
        self.hidden,
        batch_norm=self.batch_norm,
        axis_name=self.axis_name,
        name=f"dense_{number}",
      )(x, lengths > 0, train=train)
      x = nn.relu(x)
    return x


class FrameEncoder(nn.Module):
  """Convolutions and max-pooling in time, then an `UtteranceEncoder`.

  Attributes:
    channels: of the pooled convolutions; the last is as wide as the last of
      these.
    hidden: units of the dense layers.
    dropout: the share of units dropped between them.
    batch_norm: see `Layer`.
    axis_name: a mapped axis that the batch is split over, if any.
  """

  channels: tuple[int, ...]
  hidden: int
  dropout: float
  batch_norm: bool
  axis_name: str | None

  @nn.compact
  def __call__(
    self, x: Frames, lengths: Lengths, *, train: bool
  ) -> Float[Array, "batch hidden"]:
    """Embeds utterances (Table 2); frames past their length stay zero."""
    shared = {
      "kind": "conv",
      "batch_norm": self.batch_norm,
      "axis_name": self.axis_name,
    }
    steps = lengths
    for number, units in enumerate((*self.channels, self.channels[-1])):
      mask = valid_frames(steps, x.shape[1])
      x = Layer(units, **shared, name=f"conv_{number}")(x, mask, train=train)
      # Zero is the least that a ReLU gives: padding never wins the maximum.
      x = zero_padding(nn.relu(x), steps)
      if number < BLOCKS:
        x = axis_max(x.reshape(len(x), -1, POOL, units), 2, False)
        steps = -(-steps // POOL)
    return UtteranceEncoder(
      self.hidden, self.dropout, self.batch_norm, self.axis_name, name="dense"
    )(x.reshape(len(x), -1), lengths, train=train)


class UtteranceDecoder(nn.Module):
  """Two dense layers with ReLU, then a linear one.

  Attributes:
    hidden: units of the first two.
    batch_norm: see `Layer`; of the last one, too.
    axis_name: a mapped axis that the batch is split over, if any.
  """

  hidden: int
  batch_norm: bool
  axis_name: str | None

  @nn.compact
  def __call__(
    self,
    latent: Float[Array, "batch latent"],
    lengths: Lengths,
    shape: tuple[int, ...],
    *,
    train: bool,
  ) -> Vectors:
    """Decodes latent vectors to the shape `(dim,)`."""
    x = latent
    for number, units in enumerate((self.hidden, self.hidden, *shape)):
      if number:
        x = nn.relu(x)
      x = Layer(
        units,
        batch_norm=self.batch_norm,
        axis_name=self.axis_name,
        name=f"dense_{number}",
      )(x, lengths > 0, train=train)
    return x


class FrameDecoder(nn.Module):
  """The frame encoder's mirror: dense layers, transposed convolutions.

  Unpooling repeats every step. Table 2 leaves out a third dense layer, as wide
  as what the encoder flattens, and the last convolution, which gives the
  frames' features.

  Attributes:
    channels: the encoder's.
    hidden: units of the first two dense layers.
    batch_norm: see `Layer`; of the last convolution, too.
    axis_name: a mapped axis that the batch is split over, if any.
  """

  channels: tuple[int, ...]
  hidden: int
  batch_norm: bool
  axis_name: str | None

  @nn.compact
  def __call__(
    self,
    latent: Float[Array, "batch latent"],
    lengths: Lengths,
    shape: tuple[int, int],
    *,
    train: bool,
  ) -> Frames:
    """Decodes latent vectors to the shape `(frames, dim)`."""
    shared = {"batch_norm": self.batch_norm, "axis_name": self.axis_name}
    x, (frames, dim), last = latent, shape, self.channels[-1]
    widths = (self.hidden, self.hidden, frames // REDUCTION * last)
    for number, units in enumerate(widths):
      x = nn.relu(
        Layer(units, **shared, name=f"dense_{number}")(
          x, lengths > 0, train=train
        )
      )
    x = x.reshape(len(x), -1, last)
    for number, units in enumerate((last, *reversed(self.channels))):
      steps = -(-lengths // (frames // x.shape[1]))
      mask = valid_frames(steps, x.shape[1])
      x = Layer(units, "transposed", **shared, name=f"conv_{number}")(
        x, mask, train=train
      )
      x = zero_padding(nn.relu(x), steps)
      if number:
        x = jnp.repeat(x, POOL, axis=1)
    mask = valid_frames(lengths, frames)
    return Layer(dim, "conv", **shared, name="frames")(x, mask, train=train)
