"""Complementary embeddings in two stages (Huang et al., section II-C).

    features   the feature network alone, cross-entropy
    joint      the raw network and the head: L = w cos + (1 - w) CE

The joint stage takes the feature network over; where it is frozen, no phase has
it in its scope. The paper prints a minus before the cross-entropy in equations
3 and 4, which would maximise it: an erratum.
"""

from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp
import optax
from jaxtyping import PyTree

from ser_jax import losses
from ser_jax.batch import Batch
from ser_jax.errors import UserError
from ser_jax.tasks import apply
from ser_jax.tasks.task import LossFn, Outcome, Params, Phase, Stage, Task, Turn

FEATURES = ("features", "features_head")
JOINT = ("raw", "head")


def stages(
  model: nn.Module,
  config,
  optimizer: Callable[[int], optax.GradientTransformationExtraArgs],
) -> tuple[Stage, ...]:
  """The stage `train`, or `features` and `joint`.

  Args:
    model: as `models/complementary.py`.
    config: the whole config; `task.weight`, `task.threshold`,
      `task.label_smoothing`, `task.feature_epochs` and `epochs` are read.
    optimizer: epochs of a stage to its optimizer.

  Returns:
    Two stages where the model has both networks, else one.

  Raises:
    UserError: a weight, threshold or number of epochs out of range, or that
      the model has no use for.
  """
  _check(model, config.task)
  smoothing = config.task.label_smoothing
  if model.variant == "features":
    task = feature_task(
      model, optimizer(config.epochs), label_smoothing=smoothing
    )
    return (Stage("train", task, config.epochs),)
  task = joint_task(
    model,
    optimizer(config.epochs),
    weight=config.task.weight,
    threshold=config.task.threshold,
    label_smoothing=smoothing,
  )
  if not model.staged:
    return (Stage("train", task, config.epochs),)
  epochs = config.task.feature_epochs
  first = feature_task(model, optimizer(epochs), label_smoothing=smoothing)
  return (
    Stage("features", first, epochs),
    Stage("joint", task, config.epochs, takes=("features",), number=1),
  )


def _check(model: nn.Module, config) -> None:
  """Refuses what no loss could be made of."""
  if not 0 <= config.weight <= 1 or (config.weight and not model.compares):
    raise UserError(
      f"config.task.weight={config.weight} weighs the cosine: it must lie in "
      "[0, 1], and be 0 where config.model.variant has nothing to compare with "
      f"(it is {model.variant!r})."
    )
  if config.threshold is not None and not (
    -1 <= config.threshold <= 1 and config.weight
  ):
    raise UserError(
      f"config.task.threshold={config.threshold} is a cosine: it must lie in "
      "[-1, 1], with a config.task.weight above 0."
    )
  if (config.feature_epochs > 0) != model.staged:
    raise UserError(
      f"config.task.feature_epochs={config.feature_epochs} must be at least 1 "
      f"where there are two networks, else 0 (config.model.variant is "
      f"{model.variant!r})."
    )


def feature_task(
  model: nn.Module,
  tx: optax.GradientTransformationExtraArgs,
  *,
  label_smoothing: float = 0.0,
) -> Task:
  """Cross-entropy of the feature network.

  Args:
    model: see `stages`.
    tx: its optimizer.
    label_smoothing: the share of probability spread evenly over the classes.

  Returns:
    A task with the phase `features`; its `scores` are probabilities.
  """
  loss_fn = _loss(
    model,
    "feature_network",
    weight=0.0,
    threshold=None,
    label_smoothing=label_smoothing,
  )
  return _task(
    model, Phase("features", FEATURES, loss_fn, tx), "feature_network"
  )


def joint_task(
  model: nn.Module,
  tx: optax.GradientTransformationExtraArgs,
  *,
  weight: float,
  threshold: float | None = None,
  label_smoothing: float = 0.0,
) -> Task:
  """Cross-entropy of the head, and the cosine of the embeddings.

  Args:
    model: see `stages`.
    tx: the optimizer of the raw network, of the head, and of the feature
      network unless it is frozen.
    weight: w, the cosine's share of the loss.
    threshold: see `losses.complementary`.
    label_smoothing: the share of probability spread evenly over the classes.

  Returns:
    A task with the phase `joint`; its `scores` are probabilities.
  """
  scope = JOINT if model.frozen else (*JOINT, "features")
  loss_fn = _loss(
    model,
    "__call__",
    weight=weight,
    threshold=threshold,
    label_smoothing=label_smoothing,
  )
  return _task(model, Phase("joint", scope, loss_fn, tx))


def _task(model: nn.Module, phase: Phase, method: str = "__call__") -> Task:
  """The phase over the outputs of a method, of whose groups it is made."""
  init = apply.initializer(model, method)
  return Task(init, (phase,), apply.predictor(model, method))


def _loss(
  model: nn.Module,
  method: str,
  *,
  weight: float,
  threshold: float | None,
  label_smoothing: float,
) -> LossFn:
  """The joint loss; the cosine is told of whatever its weight."""

  def loss_fn(
    params: Params, batch_stats: PyTree, batch: Batch, turn: Turn
  ) -> Outcome:
    outputs, stats = apply.in_training(
      model, params, batch_stats, batch, turn.rng, method
    )
    logits, labels = outputs["logits"], batch.targets["emotion"]
    total, count = losses.cross_entropy(
      logits, labels, batch.weight, label_smoothing=label_smoothing
    )
    totals = {
      "loss": (total, count),
      "wa": losses.accuracy(logits, labels, batch.weight),
    }
    total *= 1.0 - weight
    if "embedding_raw" in outputs and "embedding_features" in outputs:
      cosine = losses.cosine_similarity(
        outputs["embedding_raw"], outputs["embedding_features"]
      )
      totals["cosine"] = (jnp.sum(cosine * batch.weight), count)
      apart, _ = losses.complementary(cosine, batch.weight, threshold=threshold)
      total += weight * apart
    return (total, count), stats, totals

  return loss_fn
