"""Emotion classification against a speaker classifier: one phase, one loss.

The reversal is an op within the model, its strength a function of the progress.
"""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PyTree

from ser_jax import losses
from ser_jax.batch import Batch
from ser_jax.errors import UserError
from ser_jax.tasks import apply
from ser_jax.tasks.task import Outcome, Params, Phase, Stage, Task, Turn

NO_REVERSAL = -1.0


def stages(
  model: nn.Module,
  config,
  optimizer: Callable[[int], optax.GradientTransformationExtraArgs],
) -> tuple[Stage, ...]:
  """The single stage `train`.

  Args:
    model: see `domain_adversarial`.
    config: the whole config; `task.gamma`, `task.label_smoothing`,
      `task.legacy_thesis_loss` and `epochs` are read.
    optimizer: epochs of a stage to its optimizer.

  Returns:
    One stage.

  Raises:
    UserError: a model without a speaker head, or a reversal of no strength.
  """
  if not getattr(model, "adversary", False):
    raise UserError(
      "config.task.name='domain_adversarial' needs a speaker head: set "
      "config.model.adversary=True, or config.task.name to 'classify' for a "
      "model that has none."
    )
  if not config.task.gamma > 0:
    raise UserError(
      f"config.task.gamma={config.task.gamma} must be above 0: set config.task."
      "name to 'classify' to train without an adversary."
    )
  task = domain_adversarial(
    model,
    optimizer(config.epochs),
    gamma=config.task.gamma,
    label_smoothing=config.task.label_smoothing,
    legacy_thesis_loss=config.task.legacy_thesis_loss,
  )
  return (Stage("train", task, config.epochs),)


def annealed(
  progress: Float[Array, ""], gamma: float | Float[Array, ""]
) -> Float[Array, ""]:
  """The strength 2 / (1 + exp(-gamma p)) - 1, rising from 0.

  Args:
    progress: p, the share of the training that is done.
    gamma: how soon it rises; at 0 the strength stays 0.

  Returns:
    lambda_p (thesis, section 3.4).
  """
  return jnp.tanh(0.5 * gamma * progress)


def domain_adversarial(
  model: nn.Module,
  tx: optax.GradientTransformationExtraArgs,
  *,
  gamma: float,
  label_smoothing: float = 0.0,
  legacy_thesis_loss: bool = False,
) -> Task:
  """Domain-adversarial training over speakers (thesis, section 3.4).

  Args:
    model: returns `logits` over the emotions and `speaker` logits behind a
      gradient reversal of strength `reversal`.
    tx: the optimizer of every parameter.
    gamma: how soon the reversal gains strength.
    label_smoothing: of the emotions.
    legacy_thesis_loss: minimise `J_e - lambda J_s` for all parameters, with a
      softmax before the cross-entropy's own, as the thesis' code does: its
      speaker head *maximises* its own loss. That head has an output for every
      speaker of the corpus (see `Dataset.count_speakers`).

  Returns:
    A task with the single phase `adversarial`; its `scores` are probabilities
    of the emotions.
  """

  def loss_fn(
    params: Params, batch_stats: PyTree, batch: Batch, turn: Turn
  ) -> Outcome:
    strength = annealed(turn.progress, gamma)
    reversal = NO_REVERSAL if legacy_thesis_loss else strength
    outputs, stats = apply.in_training(
      model, params, batch_stats, batch, turn.rng, reversal=reversal
    )
    emotion, speaker = outputs["logits"], outputs["speaker"]
    if legacy_thesis_loss:
      emotion, speaker = jax.nn.softmax(emotion), jax.nn.softmax(speaker)
    labels = batch.targets["emotion"], batch.targets["speaker"]
    of_emotion, count = losses.cross_entropy(
      emotion, labels[0], batch.weight, label_smoothing=label_smoothing
    )
    of_speaker, _ = losses.cross_entropy(speaker, labels[1], batch.weight)
    sign = -strength if legacy_thesis_loss else 1.0
    totals = {
      "loss": (of_emotion, count),
      "wa": losses.accuracy(emotion, labels[0], batch.weight),
      "speaker_loss": (of_speaker, count),
      "speaker_accuracy": losses.accuracy(speaker, labels[1], batch.weight),
      "reversal": (strength * count, count),
    }
    return (of_emotion + sign * of_speaker, count), stats, totals

  return Task(
    apply.initializer(model),
    (Phase("adversarial", None, loss_fn, tx),),
    apply.predictor(model, shows=("embedding",)),
  )
