"""Frames beside functionals: two classifiers, log-probabilities averaged.

This project's system, in no paper: what functionals know of a small corpus, a
network on frames does not, and the other way round.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ser_jax.models.speaker_invariant import SpeakerInvariant
from ser_jax.nn.dropout import Dropout

FRAMES = "log_mel"


class Functionals(nn.Module):
  """One hidden layer over the functionals of an utterance.

  Attributes:
    classes: of the logits.
    hidden: its units.
    dropout: the share of them dropped.
    axis_name: a mapped axis that the batch is split over, if any.
  """

  classes: int
  hidden: int
  dropout: float
  axis_name: str | None

  @nn.compact
  def __call__(
    self, x: Float[Array, "batch dim"], *, train: bool
  ) -> Float[Array, "batch classes"]:
    """Classifies standardised functionals.

    They are scaled to unit expected norm: with thousands of them, a step of
    gradient descent would otherwise move the logits by as many times its rate.
    """
    x = x / jnp.sqrt(float(x.shape[-1]))
    x = nn.Dense(
      self.hidden, kernel_init=nn.initializers.normal(0.08), name="dense"
    )(x)
    x = Dropout(self.dropout, axis_name=self.axis_name)(nn.relu(x), train=train)
    return nn.Dense(self.classes, name="logits")(x)


class LateFusion(nn.Module):
  """A network on frames and one on functionals, each with its own loss.

  Attributes:
    classes: emotions.
    encoder: of the frames, see `SpeakerInvariant`, as for the fields down to
      `forms`.
    channels: see there.
    kernel: see there.
    depth: see there.
    hidden: see there.
    hoist: see there.
    forms: see there.
    head_dropout: see there.
    functionals: units of the hidden layer over functionals.
    functionals_dropout: the share of them dropped.
    axis_name: a mapped axis that the batch is split over, if any.
  """

  classes: int
  encoder: str = "cnn_gru"
  channels: int = 64
  kernel: int = 2
  depth: int = 1
  hidden: int = 128
  hoist: bool = True
  forms: tuple[str, str] = ("direct", "direct")
  head_dropout: float = 0.5
  functionals: int = 256
  functionals_dropout: float = 0.5
  axis_name: str | None = None

  @nn.compact
  def __call__(
    self,
    inputs: dict[str, Float[Array, "batch ..."]],
    lengths: dict[str, Int[Array, "batch"]],
    *,
    train: bool,
  ) -> dict[str, Array | dict[str, Array]]:
    """Classifies utterances.

    Args:
      inputs: `log_mel` frames, and functionals under any other names.
      lengths: valid frames; of functionals, 0 for filler.
      train: batch statistics and dropout if true.

    Returns:
      `logits` `[batch, classes]`, the mean log-probability of both; `heads`,
      the logits of each, `frames` and `functionals`; `embedding`, of the
      frames.
    """
    frames = SpeakerInvariant(
      classes=self.classes,
      encoder=self.encoder,
      depth=self.depth,
      channels=self.channels,
      kernel=self.kernel,
      hidden=self.hidden,
      hoist=self.hoist,
      forms=self.forms,
      head_dropout=self.head_dropout,
      axis_name=self.axis_name,
      name="frames",
    )({FRAMES: inputs[FRAMES]}, {FRAMES: lengths[FRAMES]}, train=train)
    known = [inputs[name] for name in sorted(inputs) if name != FRAMES]
    functionals = Functionals(
      self.classes,
      self.functionals,
      self.functionals_dropout,
      self.axis_name,
      name="functionals",
    )(jnp.concatenate(known, axis=-1), train=train)
    heads = {"frames": frames["logits"], "functionals": functionals}
    each = [jax.nn.log_softmax(logits) for logits in heads.values()]
    return {
      "logits": sum(each) / len(each),
      "heads": heads,
      "embedding": frames["embedding"],
    }
