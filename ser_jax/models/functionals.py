"""A network on the functionals of an utterance, for small corpora.

This project's own: what linear machines do with functionals, and a little more.
"""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ser_jax.nn.dropout import Dropout

# Of weights that meet inputs of unit norm.
DEVIATION = 0.08


class Functionals(nn.Module):
  """One hidden layer over all inputs side by side.

  Attributes:
    classes: emotions.
    hidden: units.
    dropout: the share of them dropped.
    axis_name: a mapped axis that the batch is split over, if any.
  """

  classes: int
  hidden: int = 256
  dropout: float = 0.5
  axis_name: str | None = None

  @nn.compact
  def __call__(
    self,
    inputs: dict[str, Float[Array, "batch dim"]],
    lengths: dict[str, Int[Array, "batch"]],
    *,
    train: bool,
  ) -> dict[str, Array | dict[str, Array]]:
    """Classifies utterances by standardised functionals.

    They are scaled to unit expected norm: with thousands of them, a step of
    gradient descent would otherwise move logits thousands of times its rate.

    Args:
      inputs: functionals, under any names.
      lengths: not needed; every model is told.
      train: dropout if true.

    Returns:
      `logits` `[batch, classes]`, `heads` with the same, and `embedding`
      `[batch, hidden]`.
    """
    del lengths
    x = jnp.concatenate([inputs[name] for name in sorted(inputs)], axis=-1)
    x = x / jnp.sqrt(float(x.shape[-1])).astype(x.dtype)
    x = nn.Dense(
      self.hidden, kernel_init=nn.initializers.normal(DEVIATION), name="dense"
    )(x)
    embedding = nn.relu(x)
    x = Dropout(self.dropout, axis_name=self.axis_name)(embedding, train=train)
    logits = nn.Dense(self.classes, name="logits")(x)
    return {
      "logits": logits,
      "heads": {"emotion": logits},
      "embedding": embedding,
    }
