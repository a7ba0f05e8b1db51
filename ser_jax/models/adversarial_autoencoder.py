"""The adversarial autoencoder (Parthasarathy et al. 2019, section 4 and 5).

    inputs -> encoder -> y (classes), z (style) -> decoder -> inputs
                         y, z -> discriminators: drawn from the prior or not?

Every box is a parameter group of its own, so that a phase can move some and
leave others. The inputs are functionals, or frames of a fixed length.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ser_jax.models.coders import (
  BLOCKS,
  REDUCTION,
  FrameDecoder,
  FrameEncoder,
  Layer,
  UtteranceDecoder,
  UtteranceEncoder,
)
from ser_jax.nn.dropout import Dropout

Inputs = Float[Array, "batch dim"] | Float[Array, "batch time dim"]
Lengths = Int[Array, "batch"]


class Discriminator(nn.Module):
  """Two dense layers with ReLU, then the log-odds of being real.

  Attributes:
    hidden: units of either layer.
    dropout: the share of either that is dropped.
    axis_name: a mapped axis that the batch is split over, if any.
  """

  hidden: int
  dropout: float
  axis_name: str | None

  @nn.compact
  def __call__(
    self, x: Float[Array, "batch *pair dim"], *, train: bool
  ) -> Float[Array, "batch *pair"]:
    """Judges latent vectors."""
    for number in range(2):
      x = nn.relu(nn.Dense(self.hidden, name=f"dense_{number}")(x))
      x = Dropout(self.dropout, axis_name=self.axis_name)(x, train=train)
    return nn.Dense(1, name="logit")(x)[..., 0]


class AdversarialAutoencoder(nn.Module):
  """Classifier, autoencoder and discriminators over one input.

  Attributes:
    classes: of y.
    autoencoder: whether there is more than the classifier.
    frames: length that frames are padded to with zeros, a multiple of
      `REDUCTION`; 0 for functionals.
    channels: of the `BLOCKS` convolutions over frames.
    latent: dimensions of z.
    hidden: units of dense layers.
    dropout: in the encoder.
    discriminator_dropout: in the discriminators.
    batch_norm: BatchNorm in encoder, latent layers and decoder.
    axis_name: a mapped axis that the batch is split over, if any.
  """

  classes: int
  autoencoder: bool = True
  frames: int = 0
  channels: tuple[int, ...] = (128, 128, 256, 256)
  latent: int = 100
  hidden: int = 256
  dropout: float = 0.5
  discriminator_dropout: float = 0.5
  batch_norm: bool = True
  axis_name: str | None = None

  def __post_init__(self):
    """Checks length and channels.

    Raises:
      ValueError: frames that do not divide by the pooling, or blocks amiss.
    """
    if self.frames % REDUCTION or self.frames < 0:
      raise ValueError(
        f"frames={self.frames} must be a multiple of {REDUCTION}, or 0 for "
        "functionals"
      )
    if len(self.channels) != BLOCKS:
      raise ValueError(f"channels={self.channels} must be of {BLOCKS} blocks")
    super().__post_init__()

  def setup(self):
    """Makes the parameter groups."""
    norm = {"batch_norm": self.batch_norm, "axis_name": self.axis_name}
    coder = norm | {"hidden": self.hidden}
    encoder, decoder = UtteranceEncoder, UtteranceDecoder
    if self.frames:
      encoder, decoder = FrameEncoder, FrameDecoder
      coder["channels"] = self.channels
    self.encoder = encoder(dropout=self.dropout, **coder)
    self.y = Layer(self.classes, **norm)
    if self.autoencoder:
      self.z = Layer(self.latent, **norm)
      self.decoder = decoder(**coder)
      judge = self.hidden, self.discriminator_dropout, self.axis_name
      self.discriminator_y = Discriminator(*judge)
      self.discriminator_z = Discriminator(*judge)

  def encode(
    self, inputs: dict[str, Inputs], lengths: dict[str, Lengths], *, train: bool
  ) -> dict[str, jax.Array]:
    """Infers the latent variables.

    Args:
      inputs: one input, functionals or at most `frames` frames.
      lengths: valid frames; 1 for functionals, 0 for filler.
      train: batch statistics and dropout if true.

    Returns:
      `logits` `[batch, classes]`, their softmax `y`, `hidden` `[batch, units]`
      that they are made of, and with an autoencoder `z` `[batch, latent]`.
    """
    (name,) = inputs
    length = lengths[name]
    hidden = self.encoder(self.fixed_length(inputs[name]), length, train=train)
    logits = self.y(hidden, length > 0, train=train)
    outputs = {"logits": logits, "y": jax.nn.softmax(logits), "hidden": hidden}
    if self.autoencoder:
      outputs["z"] = self.z(hidden, length > 0, train=train)
    return outputs

  def fixed_length(self, x: Inputs) -> Float[Array, "batch *fixed dim"]:
    """Frames padded with zeros to `frames`; functionals as they are."""
    if not self.frames:
      return x
    return jnp.pad(x, ((0, 0), (0, self.frames - x.shape[1]), (0, 0)))

  def judge(
    self,
    y: Float[Array, "batch *pair classes"],
    z: Float[Array, "batch *pair latent"],
    *,
    train: bool,
  ) -> dict[str, Float[Array, "batch *pair"]]:
    """Log-odds that latent variables come from their priors.

    Args:
      y: probabilities, or one-hot.
      z: style.
      train: dropout if true.

    Returns:
      One for each discriminator: `y` and `z`.
    """
    return {
      "y": self.discriminator_y(y, train=train),
      "z": self.discriminator_z(z, train=train),
    }

  def __call__(
    self, inputs: dict[str, Inputs], lengths: dict[str, Lengths], *, train: bool
  ) -> dict[str, jax.Array | dict[str, jax.Array]]:
    """Encodes, and with an autoencoder decodes and judges.

    Args:
      inputs: see `encode`.
      lengths: see `encode`.
      train: see `encode`.

    Returns:
      What `encode` gives, and `reconstruction` in the shape of the input at
      its fixed length, and `judged`, what `judge` gives.
    """
    outputs = self.encode(inputs, lengths, train=train)
    if self.autoencoder:
      (name,) = inputs
      y, z = outputs["y"], outputs["z"]
      shape = self.fixed_length(inputs[name]).shape[1:]
      outputs["reconstruction"] = self.decoder(
        jnp.concatenate([y, z], axis=-1), lengths[name], shape, train=train
      )
      outputs["judged"] = self.judge(y, z, train=train)
    return outputs
