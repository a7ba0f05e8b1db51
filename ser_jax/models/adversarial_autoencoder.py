"""The adversarial autoencoder (Parthasarathy et al. 2019, section 4 and 5).

    inputs -> encoder -> y (classes), z (style) -> decoder -> inputs
                         y, z -> discriminators: drawn from the prior or not?

Every box is a parameter group of its own, so that a phase can move some and
leave others. The inputs are functionals, or frames of a fixed length.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ser_jax.nn.dropout import Dropout
from ser_jax.nn.masking import valid_frames, zero_padding
from ser_jax.nn.normalization import BatchNorm
from ser_jax.nn.pooling import axis_max

KERNEL, POOL = 4, 4
BLOCKS = 4  # of convolution and pooling
REDUCTION = POOL**BLOCKS  # frames to one step of the last convolution

Inputs = Float[Array, "batch dim"] | Float[Array, "batch time dim"]
Vectors = Float[Array, "batch dim"]
Frames = Float[Array, "batch time dim"]
Lengths = Int[Array, "batch"]


class Layer(nn.Module):
  """Dense, a convolution or its transpose, then BatchNorm if asked for.

  Attributes:
    features: of the output.
    kind: `dense`, `conv` or `transposed`.
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
    elif self.kind == "conv":
      x = nn.Conv(self.features, (KERNEL,), name="conv")(x)
    else:
      x = nn.ConvTranspose(self.features, (KERNEL,), name="conv")(x)
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

  Unpooling repeats every step. The second dense layer is as wide as what the
  encoder flattens, and a last convolution gives the frames' features; the
  paper's table leaves both out.

  Attributes:
    channels: the encoder's.
    hidden: units of the first dense layer.
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
    for number, units in enumerate((self.hidden, frames // REDUCTION * last)):
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
