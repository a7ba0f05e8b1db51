"""DCaEN (Huang et al., section II-C): two embeddings, one for what one lacks.

    functionals -> features (Dense) ----------> embedding --+
                                                            +-> head -> logits
    waveform -> raw (convolutions, LSTM, attention, Dense) -+

Every name is a parameter group of its own, so that the feature network can be
trained first and frozen then. Both embeddings are linear: of rectified ones
the cosine could not fall below 0.
"""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ser_jax.nn.attention import Attention
from ser_jax.nn.dropout import Dropout
from ser_jax.nn.recurrent import LSTM
from ser_jax.nn.waveform import WaveformFrontEnd

WAVEFORM, FUNCTIONALS = "waveform", "functionals"
VARIANTS = ("features", "raw", "dual", "dual_raw", "dual_projected")

Inputs = dict[str, Float[Array, "batch ..."]]
Lengths = dict[str, Int[Array, "batch"]]
Outputs = dict[str, Float[Array, "batch ..."]]


class RawNetwork(nn.Module):
  """Waveform -> embedding.

  Attention weighs the steps of the first LSTM, whose sizes it keeps on
  average, and sums those of the second.

  Attributes:
    embedding: dimensions.
    hidden: units of either LSTM.
    filters: see `WaveformFrontEnd`, as for the next two.
    framed: see there.
    forms: see there.
    hoist: whether LSTMs project their inputs before the scan.
    unroll: see `LSTM`.
  """

  embedding: int
  hidden: int
  filters: tuple[int, int]
  framed: bool
  forms: tuple[str, str]
  hoist: bool
  unroll: int

  @nn.compact
  def __call__(
    self,
    x: Float[Array, "batch frames samples"],
    lengths: Int[Array, "batch"],
  ) -> Outputs:
    """Embeds utterances.

    Args:
      x: samples in frames.
      lengths: valid frames.

    Returns:
      `embedding`, and the weights of frames `attention_0` and `attention_1`.
    """
    x = WaveformFrontEnd(
      self.filters, framed=self.framed, forms=self.forms, name="front_end"
    )(x, lengths)
    outputs = {}
    for number in range(2):
      lstm = LSTM(self.hidden, self.hoist, self.unroll, name=f"lstm_{number}")
      x = lstm(x, lengths)
      weights = Attention(name=f"attention_{number}")(x, lengths)
      outputs[f"attention_{number}"] = weights
      x = x * weights[:, :, None].astype(x.dtype)
      if number == 0:
        x = x * lengths[:, None, None].astype(x.dtype)
    outputs["embedding"] = nn.Dense(self.embedding, name="embedding")(
      jnp.sum(x, axis=1)
    )
    return outputs


class Complementary(nn.Module):
  """The networks that a row of Table I has.

  Attributes:
    classes: emotions.
    variant: what is classified, and what the raw embedding is compared with:
      `features` (the feature network alone), `raw` (the raw network alone),
      `dual` (both embeddings), `dual_raw` (the raw one; compared with that of
      the feature network) or `dual_projected` (the raw one beside the
      functionals under a fixed random projection, which stands for the feature
      network).
    frozen: whether the feature network is done with training where there is a
      raw network too: its dropout is off.
    embedding: dimensions of both embeddings.
    hidden: units of either LSTM.
    dropout: the share of the feature network's embedding dropped.
    filters: of either convolution.
    framed: see `WaveformFrontEnd`.
    forms: of the convolutions, see `nn/conv1d.py`.
    hoist: whether LSTMs project their inputs before the scan.
    unroll: see `LSTM`.
    axis_name: a mapped axis that the batch is split over, if any.
  """

  classes: int
  variant: str = "dual"
  frozen: bool = True
  embedding: int = 64
  hidden: int = 256
  dropout: float = 0.5
  filters: tuple[int, int] = (40, 40)
  framed: bool = True
  forms: tuple[str, str] = ("direct", "direct")
  hoist: bool = True
  unroll: int = 1
  axis_name: str | None = None

  def __post_init__(self):
    """Checks the variant.

    Raises:
      ValueError: it does not exist, or has no feature network to train on.
    """
    if self.variant not in VARIANTS:
      raise ValueError(
        f"variant={self.variant!r} is none of {', '.join(VARIANTS)}"
      )
    if not (self.frozen or self.staged):
      raise ValueError(
        f"frozen=False needs a feature network beside the raw one, which "
        f"variant={self.variant!r} does not have"
      )
    super().__post_init__()

  @property
  def staged(self) -> bool:
    """Whether the feature network is to be trained first."""
    return self.variant in ("dual", "dual_raw")

  @property
  def compares(self) -> bool:
    """Whether there is an embedding to compare the raw one with."""
    return self.variant.startswith("dual")

  def setup(self):
    """Makes the parameter groups; those that no call needs are not drawn."""
    self.features = nn.Dense(self.embedding)
    self.features_dropout = Dropout(self.dropout, axis_name=self.axis_name)
    self.features_head = nn.Dense(self.classes)
    self.projection = nn.Dense(
      self.embedding,
      use_bias=False,
      kernel_init=nn.initializers.normal(self.embedding**-0.5),
    )
    self.raw = RawNetwork(
      self.embedding,
      self.hidden,
      self.filters,
      self.framed,
      self.forms,
      self.hoist,
      self.unroll,
    )
    self.head = nn.Dense(self.classes)

  def feature_network(
    self, inputs: Inputs, lengths: Lengths, *, train: bool
  ) -> Outputs:
    """Classifies functionals (stage 1).

    Args:
      inputs: `functionals` `[batch, dim]`.
      lengths: unused: there is one vector an utterance.
      train: dropout if true.

    Returns:
      `logits` `[batch, classes]` and `embedding_features`.
    """
    del lengths
    embedding = self.features(inputs[FUNCTIONALS])
    dropped = self.features_dropout(embedding, train=train)
    logits = self.features_head(dropped)
    return {"logits": logits, "embedding_features": embedding}

  def __call__(
    self, inputs: Inputs, lengths: Lengths, *, train: bool
  ) -> Outputs:
    """Classifies utterances.

    Args:
      inputs: `waveform` `[batch, frames, samples]` and `functionals`
        `[batch, dim]`, as the variant needs.
      lengths: valid frames.
      train: dropout if true.

    Returns:
      `logits` `[batch, classes]`; the embeddings that there are,
      `embedding_raw` and `embedding_features`; and `attention_0` and
      `attention_1` `[batch, frames]`.
    """
    if self.variant == "features":
      return self.feature_network(inputs, lengths, train=train)
    outputs = self.raw(inputs[WAVEFORM], lengths[WAVEFORM])
    raw = outputs.pop("embedding")
    outputs["embedding_raw"] = classified = raw
    if self.compares:
      other = self._other(inputs[FUNCTIONALS], train)
      outputs["embedding_features"] = other
      if self.variant != "dual_raw":
        classified = jnp.concatenate([raw, other], axis=-1)
    return outputs | {"logits": self.head(classified)}

  def _other(
    self, functionals: Float[Array, "batch dim"], train: bool
  ) -> Float[Array, "batch embedding"]:
    """What the raw embedding is compared with."""
    if self.variant == "dual_projected":
      return self.projection(functionals)
    return self.features_dropout(
      self.features(functionals), train=train and not self.frozen
    )
