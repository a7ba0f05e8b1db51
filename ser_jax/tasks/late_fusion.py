"""Emotion classification by several heads, each with an optimizer of its own.

A network on frames and one on functionals want other step sizes; in one step
they share a batch and nothing else.
"""

from collections.abc import Callable

import flax.linen as nn
import optax
from jaxtyping import Array, PyTree

from ser_jax import losses
from ser_jax.batch import Batch
from ser_jax.tasks import classify
from ser_jax.tasks.task import Params, Phase, Stage, Task, Totals


def stages(
  model: nn.Module,
  config,
  optimizer: Callable[..., optax.GradientTransformationExtraArgs],
  axis_name: str | None,
) -> tuple[Stage, ...]:
  """The single stage `train`.

  Args:
    model: see `late_fusion`.
    config: the whole config; `task.label_smoothing`, `task.optimizers` (head
      to the fields of `optimizer` that differ) and `epochs` are read.
    optimizer: epochs of a stage, and settings, to an optimizer.
    axis_name: the mapped axis that a batch is split over, if any.

  Returns:
    One stage.
  """
  transformations = {}
  for head, fields in config.task.optimizers.items():
    settings = config.optimizer.copy_and_resolve_references()
    settings.update(fields)
    transformations[head] = optimizer(config.epochs, settings=settings)
  task = late_fusion(
    model,
    transformations,
    label_smoothing=config.task.label_smoothing,
    axis_name=axis_name,
  )
  return (Stage("train", task, config.epochs),)


def late_fusion(
  model: nn.Module,
  optimizers: dict[str, optax.GradientTransformationExtraArgs],
  *,
  label_smoothing: float = 0.0,
  axis_name: str | None = None,
) -> Task:
  """Cross-entropy over the emotions, head by head.

  Args:
    model: returns `logits` and `heads`; each head's parameters are the
      top-level group of its name.
    optimizers: of each head.
    label_smoothing: the share of probability spread evenly over the classes.
    axis_name: the mapped axis that a batch is split over, if any.

  Returns:
    A task with a phase for each head; its `scores` are probabilities of the
    fused logits.
  """
  plain = classify.classify(model, next(iter(optimizers.values())))

  def loss_of(head: str):
    def loss_fn(
      params: Params, batch_stats: PyTree, batch: Batch, rng: Array, progress
    ) -> tuple[Array, tuple[PyTree, Totals]]:
      del progress
      outputs, changed = model.apply(
        {"params": params, "batch_stats": batch_stats},
        batch.inputs,
        batch.lengths,
        train=True,
        mutable=["batch_stats"],
        rngs={"dropout": rng},
      )
      logits, labels = outputs["heads"][head], batch.targets["emotion"]
      total, count = losses.cross_entropy(
        logits, labels, batch.weight, label_smoothing=label_smoothing
      )
      # The other heads' statistics are their own phases' to move.
      moved = changed.get("batch_stats", {})
      stats = {
        name: (moved if name == head else batch_stats)[name]
        for name in batch_stats
      }
      totals = {f"{head}_loss": (total, count)}
      if head == next(iter(optimizers)):
        fused = outputs["logits"]
        totals["loss"] = losses.cross_entropy(fused, labels, batch.weight)
        totals["wa"] = losses.accuracy(fused, labels, batch.weight)
      return losses.mean(total, count, axis_name), (stats, totals)

    return loss_fn

  phases = tuple(
    Phase(head, (head,), loss_of(head), tx) for head, tx in optimizers.items()
  )
  return Task(plain.init, phases, plain.predict)
