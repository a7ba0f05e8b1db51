"""Encoders, emotion and speaker heads of the speaker-invariant systems.

The thesis' 2D-CNN-biGRU and the two networks that it compares with; with a
speaker head behind a gradient reversal, or without.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ser_jax.batch import valid_frames
from ser_jax.nn.conv import ConvBlock, check_forms, conv_lengths
from ser_jax.nn.direct import convolution
from ser_jax.nn.dropout import Dropout
from ser_jax.nn.gradient_reversal import reverse_gradient
from ser_jax.nn.masking import zero_padding
from ser_jax.nn.normalization import BatchNorm
from ser_jax.nn.pooling import statistics_pooling
from ser_jax.nn.recurrent import GRU, LSTM, Bidirectional

ENCODERS = ("cnn_bigru", "tdnn_bilstm", "cnn_gru")
# Frames that each TDNN layer sees around its own, in steps of a dilation.
CONTEXTS = ((2, 1), (1, 2), (1, 3))
# Channels and kernels of the one-dimensional CNN; its stride is 2.
FILTERS = ((64, 10), (128, 5), (128, 5))

Frames = Float[Array, "batch time dim"]
Lengths = Int[Array, "batch"]


class Head(nn.Module):
  """Two layers of Dense, BatchNorm, dropout and ReLU, then logits.

  Attributes:
    classes: of the logits.
    hidden: units of either layer.
    dropout: the share of units dropped.
    axis_name: a mapped axis that the batch is split over, if any.
  """

  classes: int
  hidden: int = 128
  dropout: float = 0.5
  axis_name: str | None = None

  @nn.compact
  def __call__(
    self,
    x: Float[Array, "batch dim"],
    present: Lengths,
    *,
    train: bool,
  ) -> Float[Array, "batch classes"]:
    """Classifies embeddings.

    Args:
      x: embeddings.
      present: 0 for filler examples, which BatchNorm leaves out.
      train: batch statistics and dropout if true.

    Returns:
      Logits.
    """
    for layer in range(2):
      x = nn.Dense(self.hidden, name=f"dense_{layer}")(x)
      x = BatchNorm(self.axis_name, name=f"bn_{layer}")(
        x, present > 0, train=train
      )
      x = Dropout(self.dropout, axis_name=self.axis_name)(x, train=train)
      x = nn.relu(x)
    return nn.Dense(self.classes, name="logits")(x)


class CNNBiGRU(nn.Module):
  """2D convolutions, a bidirectional GRU, Dense, statistics pooling.

  Attributes:
    depth: convolution blocks, 1 to 4 in the thesis.
    channels: filters of each.
    kernel: their extent in time and frequency.
    stride: of the convolutions.
    hidden: units of the GRU in each direction.
    dropout: the share of whole channels dropped.
    forms: of the first and of later convolutions, see `nn/conv.py`; those with
      a stride other than 1 are direct, whatever this says.
    hoist: whether the GRU projects its input before the scan.
    unroll: see `GRU`.
    axis_name: a mapped axis that the batch is split over, if any.
  """

  depth: int
  channels: int
  kernel: int
  stride: int
  hidden: int
  dropout: float
  forms: tuple[str, str]
  hoist: bool
  unroll: int
  axis_name: str | None

  @nn.compact
  def __call__(
    self, x: Frames, lengths: Lengths, *, train: bool
  ) -> Float[Array, "batch embedding"]:
    """Embeds utterances (thesis, section 3.3.1)."""
    x = zero_padding(x, lengths)[..., None]
    forms = self.forms if self.stride == 1 else ("direct", "direct")
    for layer in range(self.depth):
      x, lengths = ConvBlock(
        self.channels,
        (self.kernel, self.kernel),
        padding=(1, 1),
        stride=self.stride,
        activation=nn.elu,
        dropout=self.dropout,
        form=forms[min(layer, 1)],
        axis_name=self.axis_name,
        name=f"block_{layer}",
      )(x, lengths, train=train)
    x = x.reshape(*x.shape[:2], -1)
    x = Bidirectional(
      GRU(self.hidden, self.hoist, self.unroll, name="gru_forward"),
      GRU(self.hidden, self.hoist, self.unroll, name="gru_backward"),
    )(x, lengths)
    x = nn.Dense(2 * self.hidden, name="dense")(x)
    return statistics_pooling(x, lengths)


class TDNNBiLSTM(nn.Module):
  """Time-delay layers, a bidirectional LSTM, statistics pooling.

  After Tu et al. 2019; the sizes are not published, these are ours.

  Attributes:
    channels: units of each time-delay layer.
    hidden: units of the LSTM in each direction.
    hoist: whether the LSTM projects its input before the scan.
    unroll: see `LSTM`.
    axis_name: a mapped axis that the batch is split over, if any.
  """

  channels: int
  hidden: int
  hoist: bool
  unroll: int
  axis_name: str | None

  @nn.compact
  def __call__(
    self, x: Frames, lengths: Lengths, *, train: bool
  ) -> Float[Array, "batch embedding"]:
    """Embeds utterances."""
    x = zero_padding(x, lengths)
    for layer, (around, dilation) in enumerate(CONTEXTS):
      x = nn.Conv(
        self.channels,
        (2 * around + 1,),
        kernel_dilation=(dilation,),
        padding="SAME",
        conv_general_dilated=convolution,
        name=f"tdnn_{layer}",
      )(x)
      x = BatchNorm(self.axis_name, name=f"bn_{layer}")(
        nn.relu(x), valid_frames(lengths, x.shape[1]), train=train
      )
      x = zero_padding(x, lengths)
    x = Bidirectional(
      LSTM(self.hidden, self.hoist, self.unroll, name="lstm_forward"),
      LSTM(self.hidden, self.hoist, self.unroll, name="lstm_backward"),
    )(x, lengths)
    return statistics_pooling(x, lengths)


class CNNGRU(nn.Module):
  """1D convolutions of stride 2, a GRU, statistics pooling.

  After Li et al. 2020; the sizes are not published, these are ours.

  Attributes:
    hidden: units of the GRU.
    hoist: whether the GRU projects its input before the scan.
    unroll: see `GRU`.
    axis_name: a mapped axis that the batch is split over, if any.
  """

  hidden: int
  hoist: bool
  unroll: int
  axis_name: str | None

  @nn.compact
  def __call__(
    self, x: Frames, lengths: Lengths, *, train: bool
  ) -> Float[Array, "batch embedding"]:
    """Embeds utterances."""
    x = zero_padding(x, lengths)
    for layer, (channels, kernel) in enumerate(FILTERS):
      around = (kernel // 2, kernel // 2)
      x = nn.Conv(
        channels,
        (kernel,),
        strides=(2,),
        padding=(around,),
        conv_general_dilated=convolution,
        name=f"conv_{layer}",
      )(x)
      lengths = conv_lengths(lengths, kernel, kernel // 2, 2)
      x = BatchNorm(self.axis_name, name=f"bn_{layer}")(
        x, valid_frames(lengths, x.shape[1]), train=train
      )
      x = zero_padding(nn.relu(x), lengths)
    x = GRU(self.hidden, self.hoist, self.unroll, name="gru")(x, lengths)
    return statistics_pooling(x, lengths)


class SpeakerInvariant(nn.Module):
  """An encoder with an emotion head and, if asked for, a speaker head.

  Attributes:
    classes: emotions.
    speakers: training speakers.
    adversary: whether there is a speaker head.
    encoder: one of `ENCODERS`.
    depth: see `CNNBiGRU`, as for the fields down to `forms`.
    channels: filters of a convolution, or units of a time-delay layer.
    kernel: of the 2D convolutions.
    stride: of the 2D convolutions.
    hidden: units of the recurrent layer in each direction.
    conv_dropout: the share of 2D channels dropped.
    forms: of the first and of later 2D convolutions.
    hoist: whether recurrent layers project their inputs before the scan.
    unroll: see `LSTM`.
    head: units of the heads' layers.
    head_dropout: the share of them dropped.
    axis_name: a mapped axis that the batch is split over, if any.
  """

  classes: int
  speakers: int = 1
  adversary: bool = False
  encoder: str = "cnn_bigru"
  depth: int = 1
  channels: int = 64
  kernel: int = 2
  stride: int = 1
  hidden: int = 256
  conv_dropout: float = 0.1
  forms: tuple[str, str] = ("direct", "direct")
  hoist: bool = True
  unroll: int = 1
  head: int = 128
  head_dropout: float = 0.5
  axis_name: str | None = None

  def __post_init__(self):
    """Checks the encoder and the forms.

    Raises:
      ValueError: one that does not exist, or no layers.
    """
    if self.encoder not in ENCODERS:
      raise ValueError(
        f"encoder={self.encoder!r} is none of {', '.join(ENCODERS)}"
      )
    if self.depth < 1:
      raise ValueError(f"depth={self.depth} must be at least 1")
    check_forms(self.forms)
    super().__post_init__()

  @nn.compact
  def __call__(
    self,
    inputs: dict[str, Frames],
    lengths: dict[str, Lengths],
    *,
    train: bool,
    reversal: Float[Array, ""] | float = 0.0,
  ) -> dict[str, jax.Array | dict[str, jax.Array]]:
    """Classifies utterances.

    Args:
      inputs: `features`, frames of any feature set with one input.
      lengths: valid frames.
      train: batch statistics and dropout if true.
      reversal: how strongly the speaker head's gradient is reversed.

    Returns:
      `logits` `[batch, classes]`, `heads` with the same, `embedding`
      `[batch, dim]`, and `speaker` `[batch, speakers]` with an adversary.
    """
    (name,) = inputs
    present = lengths[name]
    embedding = self._encoder()(inputs[name], present, train=train)
    outputs = {"embedding": embedding}
    outputs["logits"] = self._head(self.classes, "emotion_head")(
      embedding, present, train=train
    )
    outputs["heads"] = {"emotion": outputs["logits"]}
    if self.adversary:
      reversed_ = reverse_gradient(
        embedding, jnp.asarray(reversal, jnp.float32)
      )
      outputs["speaker"] = self._head(self.speakers, "speaker_head")(
        reversed_, present, train=train
      )
    return outputs

  def _encoder(self) -> nn.Module:
    shared = {"hidden": self.hidden, "hoist": self.hoist, "name": "encoder"}
    shared |= {"unroll": self.unroll, "axis_name": self.axis_name}
    if self.encoder == "tdnn_bilstm":
      return TDNNBiLSTM(channels=self.channels, **shared)
    if self.encoder == "cnn_gru":
      return CNNGRU(**shared)
    return CNNBiGRU(
      depth=self.depth,
      channels=self.channels,
      kernel=self.kernel,
      stride=self.stride,
      dropout=self.conv_dropout,
      forms=self.forms,
      **shared,
    )

  def _head(self, classes: int, name: str) -> nn.Module:
    return Head(
      classes, self.head, self.head_dropout, self.axis_name, name=name
    )
