"""Utterance-level emotion classification: one phase, one optimizer."""

from collections.abc import Callable

import flax.linen as nn
import jax
import optax
from jaxtyping import Array, PyTree

from ser_jax import losses
from ser_jax.batch import Batch
from ser_jax.tasks import apply
from ser_jax.tasks.task import Params, Phase, Stage, Task, Totals


def stages(
  model: nn.Module,
  config,
  optimizer: Callable[[int], optax.GradientTransformationExtraArgs],
  axis_name: str | None,
) -> tuple[Stage, ...]:
  """The single stage `train`.

  Args:
    model: see `classify`.
    config: the whole config; `task.label_smoothing`, `task.legacy_thesis_loss`
      if it is there, and `epochs` are read.
    optimizer: epochs of a stage to its optimizer.
    axis_name: the mapped axis that a batch is split over, if any.

  Returns:
    One stage.
  """
  task = classify(
    model,
    optimizer(config.epochs),
    label_smoothing=config.task.label_smoothing,
    double_softmax=config.task.get("legacy_thesis_loss", False),
    axis_name=axis_name,
  )
  return (Stage("train", task, config.epochs),)


def classify(
  model: nn.Module,
  tx: optax.GradientTransformationExtraArgs,
  *,
  label_smoothing: float = 0.0,
  double_softmax: bool = False,
  axis_name: str | None = None,
) -> Task:
  """Cross-entropy over the emotions, of the model's heads by their shares.

  Args:
    model: returns `logits` and `heads` (name to logits), all
      `[batch, classes]`, and `shares` of the heads unless they count alike.
    tx: the optimizer of every parameter.
    label_smoothing: the share of probability spread evenly over the classes.
    double_softmax: put a softmax before the cross-entropy's own, as the code of
      the thesis on speaker-invariance does without an adversary, too.
    axis_name: the mapped axis that a batch is split over, if any.

  Returns:
    A task with the single phase `classify`; its `scores` are probabilities.
  """

  def loss_fn(
    params: Params, batch_stats: PyTree, batch: Batch, rng: Array, progress
  ) -> tuple[Array, tuple[PyTree, Totals]]:
    del progress
    outputs, stats = apply.in_training(model, params, batch_stats, batch, rng)
    labels = batch.targets["emotion"]
    heads, total = outputs["heads"], 0.0
    shares = outputs.get("shares", dict.fromkeys(heads, 1 / len(heads)))
    for name, logits in heads.items():
      logits = jax.nn.softmax(logits) if double_softmax else logits
      part, count = losses.cross_entropy(
        logits, labels, batch.weight, label_smoothing=label_smoothing
      )
      total += shares[name] * part
    totals = {
      "loss": (total, count),
      "wa": losses.accuracy(outputs["logits"], labels, batch.weight),
    }
    return losses.mean(total, count, axis_name), (stats, totals)

  phase = Phase("classify", None, loss_fn, tx)
  predict = apply.predictor(model, shows=("embedding",))
  return Task(apply.initializer(model), (phase,), predict)
