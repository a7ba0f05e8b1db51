"""A network on vectors of an utterance, for small corpora.

This project's own: what linear machines do with functionals, and a little more.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ser_jax.nn.dropout import Dropout

# Of weights that meet inputs of unit norm.
DEVIATION = 0.08


class Functionals(nn.Module):
  """One hidden layer over all inputs side by side, or all but one.

  Attributes:
    classes: emotions.
    hidden: units.
    dropout: the share of them dropped.
    beside: an input with a hidden layer and logits of its own; empty for none.
    share: of its log-probabilities in the logits.
    axis_name: a mapped axis that the batch is split over, if any.
  """

  classes: int
  hidden: int = 256
  dropout: float = 0.5
  beside: str = ""
  share: float = 0.0
  axis_name: str | None = None

  def __post_init__(self):
    """Checks the share.

    Raises:
      ValueError: one that is none, or nothing that it is of.
    """
    if not 0 <= self.share < 1 or bool(self.share) != bool(self.beside):
      raise ValueError(
        f"share={self.share} of beside={self.beside!r} must lie between 0 and "
        "1, and be 0 where there is nothing beside"
      )
    super().__post_init__()

  @nn.compact
  def __call__(
    self,
    inputs: dict[str, Float[Array, "batch dim"]],
    lengths: dict[str, Int[Array, "batch"]],
    *,
    train: bool,
  ) -> dict[str, Array | dict[str, Array]]:
    """Classifies utterances by standardised functionals.

    Args:
      inputs: vectors, under any names.
      lengths: not needed; every model is told.
      train: dropout if true.

    Returns:
      `logits` `[batch, classes]`; `heads` with the same or, where an input is
      beside, with what either part says by itself, which learns as if it were
      alone; `embedding` `[batch, hidden]`, of both parts one after the other.
    """
    del lengths
    main = [inputs[name] for name in sorted(inputs) if name != self.beside]
    embedding, logits = self._part("", main, train)
    if not self.beside:
      return {
        "logits": logits,
        "heads": {"emotion": logits},
        "embedding": embedding,
      }
    beside, other = self._part(f"{self.beside}_", [inputs[self.beside]], train)
    mixed = (1 - self.share) * jax.nn.log_softmax(logits)
    mixed += self.share * jax.nn.log_softmax(other)
    heads = {"functionals": logits, self.beside: other}
    return {
      "logits": mixed,
      "heads": heads,
      "shares": dict.fromkeys(heads, 1.0),
      "embedding": jnp.concatenate([embedding, beside], axis=-1),
    }

  def _part(
    self, prefix: str, inputs: list[Float[Array, "batch _"]], train: bool
  ) -> tuple[Float[Array, "batch hidden"], Float[Array, "batch classes"]]:
    """The hidden layer over some inputs, and its logits.

    Inputs are scaled to unit expected norm: with thousands of them, a step of
    gradient descent would otherwise move logits thousands of times its rate.
    """
    x = jnp.concatenate(inputs, axis=-1)
    x = x / jnp.sqrt(float(x.shape[-1])).astype(x.dtype)
    x = nn.Dense(
      self.hidden,
      kernel_init=nn.initializers.normal(DEVIATION),
      name=f"{prefix}dense",
    )(x)
    embedding = nn.relu(x)
    x = Dropout(self.dropout, axis_name=self.axis_name)(embedding, train=train)
    return embedding, nn.Dense(self.classes, name=f"{prefix}logits")(x)
