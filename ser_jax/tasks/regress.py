"""Contours in time: one phase, 1 - CCC or the mean squared error.

Targets are standardised by the training part (`data/prepare.py`), and so are
the scores; who saves them brings them back into the targets' units.
"""

from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PyTree

from ser_jax import losses
from ser_jax.batch import Batch
from ser_jax.errors import UserError
from ser_jax.tasks import apply
from ser_jax.tasks.task import Outcome, Params, Phase, Stage, Task, Turn

OBJECTIVES = ("ccc", "mse")


def stages(
  model: nn.Module,
  config,
  optimizer: Callable[[int], optax.GradientTransformationExtraArgs],
) -> tuple[Stage, ...]:
  """The single stage `train`.

  Args:
    model: see `regress`.
    config: the whole config; `task.objective`, `task.per_sequence` and
      `epochs` are read.
    optimizer: epochs of a stage to its optimizer.

  Returns:
    One stage.

  Raises:
    UserError: an objective that does not exist, or that has no sequences.
  """
  objective, each = config.task.objective, config.task.per_sequence
  if objective not in OBJECTIVES or (each and objective != "ccc"):
    raise UserError(
      f"config.task.objective={objective!r} must be one of "
      f"{', '.join(OBJECTIVES)}; config.task.per_sequence goes with ccc alone."
    )
  task = regress(
    model,
    optimizer(config.epochs),
    objective=objective,
    per_sequence=each,
  )
  return (Stage("train", task, config.epochs),)


def regress(
  model: nn.Module,
  tx: optax.GradientTransformationExtraArgs,
  *,
  objective: str = "ccc",
  per_sequence: bool = False,
) -> Task:
  """Regression of every frame's targets (Trigeorgis et al. 2016, 2.2).

  Args:
    model: returns `contours` `[batch, frames, targets]`.
    tx: the optimizer of every parameter.
    objective: `ccc` for 1 - CCC, `mse` for the mean squared error.
    per_sequence: the CCC of each utterance; else of the batch as a whole.

  Returns:
    A task with the single phase `regress`; its `scores` are contours, and its
    metrics tell `ccc_loss` and `mse` whatever is minimised.
  """

  def loss_fn(
    params: Params, batch_stats: PyTree, batch: Batch, turn: Turn
  ) -> Outcome:
    outputs, stats = apply.in_training(
      model, params, batch_stats, batch, turn.rng
    )
    found, wanted = outputs["contours"], batch.targets["contours"]
    weight = apply.frame_weight(batch, batch.targets["frames"], wanted.shape[1])
    concordance = losses.concordance(
      found,
      wanted,
      weight,
      per_sequence=per_sequence,
      axis_name=turn.axis_name,
    )
    mse = losses.squared_error(found, wanted, weight)
    chosen = concordance if objective == "ccc" else mse
    totals = {"loss": chosen, "ccc_loss": concordance, "mse": mse}
    return chosen, stats, totals

  def predict(
    params: Params, batch_stats: PyTree, batch: Batch
  ) -> dict[str, Float[Array, "..."]]:
    outputs = apply.in_prediction(model, params, batch_stats, batch)
    return {"scores": outputs["contours"].astype(jnp.float32)}

  additive = objective == "mse" or per_sequence
  phase = Phase("regress", None, loss_fn, tx, additive)
  return Task(apply.initializer(model), (phase,), predict)
