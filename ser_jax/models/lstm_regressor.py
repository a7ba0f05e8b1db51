"""Contours of emotion from designed features: the BLSTM-DRNN of the paper.

Trigeorgis et al. 2016, section 3, after Ringeval et al., Pattern Recognition
Letters 66, 2015: recurrent layers of 64 units over functionals of 3 s, with
noise on the inputs. Whether 64 are the units of a direction or of both is not
told; here they are of each.
"""

import flax.linen as nn
from jaxtyping import Array, Float, Int

from ser_jax.nn.dropout import GaussianNoise
from ser_jax.nn.recurrent import LSTM, Bidirectional

WINDOWS = "windows"


class LSTMRegressor(nn.Module):
  """Bidirectional LSTM layers and a linear head.

  Attributes:
    targets: contours to predict.
    hidden: units of a layer, in each direction.
    layers: recurrent layers.
    noise: deviation of the noise on inputs, which are standardised.
    hoist: whether LSTMs project their inputs before the scan.
    unroll: see `LSTM`.
    axis_name: a mapped axis that the batch is split over, if any.
  """

  targets: int
  hidden: int = 64
  layers: int = 3
  noise: float = 0.1
  hoist: bool = True
  unroll: int = 1
  axis_name: str | None = None

  def __post_init__(self):
    """Checks the sizes.

    Raises:
      ValueError: no layer, or noise that is none.
    """
    if self.layers < 1 or self.hidden < 1:
      raise ValueError(
        f"layers={self.layers} and hidden={self.hidden} must be at least 1"
      )
    if self.noise < 0:
      raise ValueError(f"noise={self.noise} must not be negative")
    super().__post_init__()

  @nn.compact
  def __call__(
    self,
    inputs: dict[str, Float[Array, "batch ..."]],
    lengths: dict[str, Int[Array, "batch"]],
    *,
    train: bool,
  ) -> dict[str, Float[Array, "..."]]:
    """Predicts contours.

    Args:
      inputs: `windows` `[batch, frames, functionals]`.
      lengths: valid frames.
      train: noise if true.

    Returns:
      `contours` `[batch, frames, targets]`.
    """
    length = lengths[WINDOWS]
    noise = GaussianNoise(self.noise, axis_name=self.axis_name)
    x = noise(inputs[WINDOWS], train=train)
    for number in range(self.layers):
      both = (
        LSTM(self.hidden, self.hoist, self.unroll, parent=None)
        for _ in range(2)
      )
      x = Bidirectional(*both, name=f"lstm_{number}")(x, length)
    return {"contours": nn.Dense(self.targets, name="head")(x)}
