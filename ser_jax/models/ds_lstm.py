"""DS-LSTM and its baselines (Wang et al. 2020): the eight rows of Table 1."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ser_jax.nn.conv import ConvBlock, check_forms
from ser_jax.nn.masking import zero_padding
from ser_jax.nn.pooling import masked_mean
from ser_jax.nn.recurrent import DSLSTM, LSTM

Inputs = dict[str, Float[Array, "batch time dim"]]
Lengths = dict[str, Int[Array, "batch"]]
VARIANTS = (
  *("base1", "base2", "base3", "base4", "base5", "base6"),
  *("ds_lstm", "dual"),
)


@dataclasses.dataclass(frozen=True)
class Preset:
  """Where the paper and its authors' code differ.

  Attributes:
    kernels: of the convolutions on S1 and on S2, in time and frequency.
    padding: zeros on either side of their inputs, likewise.
    window: adjacent steps averaged to align T1 with T2; the stride is 2.
    biases: of each LSTM gate and convolution: PyTorch's 2, or 1.
    joint_head: whether the two LSTMs of Base 4 share one classification layer.
  """

  kernels: dict[str, tuple[int, int]]
  padding: dict[str, tuple[int, int]]
  window: int
  biases: int
  joint_head: bool


PRESETS = {
  "paper": Preset(
    kernels={"s1": (4, 4), "s2": (4, 4)},
    padding={"s1": (0, 0), "s2": (0, 0)},
    window=2,
    biases=1,
    joint_head=False,
  ),
  # The longer axis of a kernel is padded, by less than it would take.
  "code": Preset(
    kernels={"s1": (2, 4), "s2": (4, 2)},
    padding={"s1": (0, 1), "s2": (1, 0)},
    window=3,
    biases=2,
    joint_head=True,
  ),
}


def align(
  x: Float[Array, "batch time dim"], lengths: Int[Array, "batch"], window: int
) -> tuple[Float[Array, "batch aligned dim"], Int[Array, "batch"]]:
  """Averages adjacent steps, with stride 2 (section 2.3.3).

  Args:
    x: the longer sequence.
    lengths: its valid steps.
    window: steps averaged: 2 in the paper, 3 in its authors' code.

  Returns:
    The shorter sequence and its valid steps.
  """
  steps = max((x.shape[1] - window) // 2 + 1, 0)
  total = sum(x[:, i : i + 2 * steps : 2][:, :steps] for i in range(window))
  lengths = jnp.maximum((lengths - window) // 2 + 1, 0)
  return total / window, lengths


class SpectrogramCNN(nn.Module):
  """Two convolution blocks; channels x frequency flattened for each step.

  Attributes:
    kernel: see `ConvBlock`, as for padding and bias.
    padding: zeros on either side.
    bias: whether there is one.
    channels: of the two convolutions.
    forms: of the two, see `nn/conv.py`.
    axis_name: a mapped axis that the batch is split over, if any.
  """

  kernel: tuple[int, int]
  padding: tuple[int, int]
  bias: bool
  channels: tuple[int, int]
  forms: tuple[str, str]
  axis_name: str | None = None

  @nn.compact
  def __call__(
    self,
    x: Float[Array, "batch time mel"],
    lengths: Int[Array, "batch"],
    *,
    train: bool,
  ) -> tuple[Float[Array, "batch steps dim"], Int[Array, "batch"]]:
    """Maps a log-mel spectrogram to a shorter sequence and its lengths."""
    maps = zero_padding(x, lengths)[..., None]
    for channels, form in zip(self.channels, self.forms, strict=True):
      maps, lengths = ConvBlock(
        channels,
        self.kernel,
        padding=self.padding,
        form=form,
        bias=self.bias,
        axis_name=self.axis_name,
      )(maps, lengths, train=train)
    return maps.reshape(*maps.shape[:2], -1), lengths


class DSLSTMModel(nn.Module):
  """One row of Table 1.

  Attributes:
    classes: emotions.
    variant: `base1` ... `base6`, `ds_lstm` or `dual`.
    preset: `paper` or `code`; see `PRESETS`.
    rbn: see `DSLSTM`.
    output_bn: see `DSLSTM`.
    hidden: units of every recurrent layer.
    channels: of the two convolutions.
    forms: of the two convolutions, see `nn/conv.py`.
    hoist: whether recurrent layers project their inputs before the scan.
    unroll: see `LSTM`.
    axis_name: a mapped axis that the batch is split over, if any.
  """

  classes: int
  variant: str = "dual"
  preset: str = "paper"
  rbn: str = "post"
  output_bn: str = "per_step"
  hidden: int = 200
  channels: tuple[int, int] = (64, 16)
  forms: tuple[str, str] = ("direct", "direct")
  hoist: bool = True
  unroll: int = 1
  axis_name: str | None = None

  def __post_init__(self):
    """Checks every choice.

    Raises:
      ValueError: an option that is none of its choices.
    """
    for field, choices in (
      ("variant", VARIANTS),
      ("preset", tuple(PRESETS)),
      ("rbn", ("post", "pre", "none")),
      ("output_bn", ("per_step", "shared", "none")),
    ):
      if getattr(self, field) not in choices:
        raise ValueError(
          f"{field}={getattr(self, field)!r} is none of {', '.join(choices)}"
        )
    check_forms(self.forms)
    super().__post_init__()

  @nn.compact
  def __call__(
    self, inputs: Inputs, lengths: Lengths, *, train: bool
  ) -> dict[str, jax.Array | dict[str, jax.Array]]:
    """Classifies utterances.

    Args:
      inputs: those that the row reads of `mfcc` `[batch, time, 39]` and the
        log-mel spectrograms `s1` and `s2`.
      lengths: valid frames of each.
      train: batch statistics if true, else the running ones.

    Returns:
      `logits` `[batch, classes]`, `heads` of which they are the average, and
      `shares`, each head's part of it: levels count alike, and so do the heads
      of one.
    """
    parts = []
    if self.variant in ("base1", "base5", "base6", "dual"):
      parts.append(("mfcc", self._lstm("mfcc", inputs, lengths)))
    if self.variant in ("ds_lstm", "dual"):
      parts.append(("ds_lstm", self._ds_lstm(inputs, lengths, train)))
    spectrograms = {
      "base2": ("s1",),
      "base3": ("s2",),
      "base4": ("s1", "s2"),
      "base5": ("s1", "s2"),
      "base6": ("s1",),
    }.get(self.variant, ())
    separate = [
      (name, self._cnn_lstm(name, inputs, lengths, train))
      for name in spectrograms
    ]
    if len(separate) == 2 and PRESETS[self.preset].joint_head:
      both = jnp.concatenate([features for _, features in separate], axis=-1)
      separate = [("s1_s2", both)]
    levels = [*([part] for part in parts), *([separate] if separate else [])]
    heads, shares = {}, {}
    for level in levels:
      for name, features in level:
        heads[name] = nn.Dense(self.classes, name=f"head_{name}")(features)
        shares[name] = 1 / len(levels) / len(level)
    logits = sum(shares[name] * head for name, head in heads.items())
    return {"logits": logits, "heads": heads, "shares": shares}

  def _layers(self, name, x, lengths):
    """Two LSTM layers, then the mean over valid steps."""
    for layer in range(2):
      x = LSTM(
        self.hidden,
        hoist=self.hoist,
        unroll=self.unroll,
        biases=PRESETS[self.preset].biases,
        name=f"lstm_{name}_{layer}",
      )(x, lengths)
    return masked_mean(x, lengths)

  def _lstm(self, name, inputs, lengths):
    """M_LSTM: the MFCC through two LSTM layers."""
    return self._layers(name, inputs[name], lengths[name])

  def _cnn(self, name, inputs, lengths, train):
    preset = PRESETS[self.preset]
    return SpectrogramCNN(
      preset.kernels[name],
      preset.padding[name],
      preset.biases == 2,
      self.channels,
      self.forms,
      self.axis_name,
      name=f"cnn_{name}",
    )(inputs[name], lengths[name], train=train)

  def _cnn_lstm(self, name, inputs, lengths, train):
    """CNN + LSTM on one spectrogram."""
    return self._layers(name, *self._cnn(name, inputs, lengths, train))

  def _ds_lstm(self, inputs, lengths, train):
    """M_DS-LSTM: both spectrograms in two DS-LSTM layers, Y in both."""
    x, length_x = self._cnn("s1", inputs, lengths, train)
    y, length_y = self._cnn("s2", inputs, lengths, train)
    x, length_x = align(x, length_x, PRESETS[self.preset].window)
    steps = min(x.shape[1], y.shape[1])
    length = jnp.minimum(length_x, length_y)
    x, y = x[:, :steps], y[:, :steps]
    for layer in range(2):
      x = DSLSTM(
        self.hidden,
        rbn=self.rbn,
        output_bn=self.output_bn,
        hoist=self.hoist,
        unroll=self.unroll,
        axis_name=self.axis_name,
        name=f"ds_lstm_{layer}",
      )(x, y, length, train=train)
    return masked_mean(x, length)
