"""Utterance-level emotion classification: one phase, one optimizer."""

from collections.abc import Callable

import flax.linen as nn
import jax
import optax
from jaxtyping import PyTree

from ser_jax import losses
from ser_jax.batch import Batch
from ser_jax.tasks import apply
from ser_jax.tasks.task import Outcome, Params, Phase, Stage, Task, Turn


def stages(
  model: nn.Module,
  config,
  optimizer: Callable[[int], optax.GradientTransformationExtraArgs],
) -> tuple[Stage, ...]:
  """The single stage `train`.

  Args:
    model: see `classify`.
    config: the whole config; `task.label_smoothing`, `task.legacy_thesis_loss`
      if it is there, and `epochs` are read.
    optimizer: epochs of a stage to its optimizer.

  Returns:
    One stage.
  """
  task = classify(
    model,
    optimizer(config.epochs),
    label_smoothing=config.task.label_smoothing,
    double_softmax=config.task.get("legacy_thesis_loss", False),
  )
  return (Stage("train", task, config.epochs),)


def classify(
  model: nn.Module,
  tx: optax.GradientTransformationExtraArgs,
  *,
  label_smoothing: float = 0.0,
  double_softmax: bool = False,
) -> Task:
  """Cross-entropy over the emotions, of the model's heads by their shares.

  Args:
    model: returns `logits` and `heads` (name to logits), all
      `[batch, classes]`, and `shares` of the heads unless they count alike.
    tx: the optimizer of every parameter.
    label_smoothing: the share of probability spread evenly over the classes.
    double_softmax: put a softmax before the cross-entropy's own, as the code of
      the thesis on speaker-invariance does without an adversary, too.

  Returns:
    A task with the single phase `classify`; its `scores` are probabilities.
  """

  def loss_fn(
    params: Params, batch_stats: PyTree, batch: Batch, turn: Turn
  ) -> Outcome:
    outputs, stats = apply.in_training(
      model, params, batch_stats, batch, turn.rng
    )
    labels = batch.targets["emotion"]
    heads, total = outputs["heads"], 0.0
    shares = outputs.get("shares", dict.fromkeys(heads, 1 / len(heads)))
    for name, logits in heads.items():
      logits = jax.nn.softmax(logits) if double_softmax else logits
      part, count = losses.cross_entropy(
        logits, labels, batch.weight, label_smoothing=label_smoothing
      )
      total += shares[name] * part
    loss = total, count
    totals = {
      "loss": loss,
      "wa": losses.accuracy(outputs["logits"], labels, batch.weight),
    }
    return loss, stats, totals

  phase = Phase("classify", None, loss_fn, tx)
  predict = apply.predictor(model, shows=("embedding",))
  return Task(apply.initializer(model), (phase,), predict)
