"""The adversarial autoencoder's phases (Parthasarathy et al. 2019, section 4).

    reconstruction   encoder and decoder, squared error
    discriminators   both, latent variables against draws from the priors
    generator        the encoder, to pass both discriminators
    classification   the encoder's y path, cross-entropy over labelled examples

All in one step, in this order, each with an optimizer of its own. A classifier
alone is the last phase alone.
"""

import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from ser_jax import losses
from ser_jax.errors import UserError
from ser_jax.tasks import apply
from ser_jax.tasks.task import (
  LossFn,
  Phase,
  Stage,
  Task,
  Totals,
)

SCOPES = {
  "reconstruction": ("encoder", "y", "z", "decoder"),
  "discriminators": ("discriminator_y", "discriminator_z"),
  "generator": ("encoder", "y", "z"),
  "classification": ("encoder", "y"),
}
Optimizers = dict[str, optax.GradientTransformationExtraArgs]


def stages(
  model: nn.Module,
  config,
  optimizer: Callable[..., optax.GradientTransformationExtraArgs],
) -> tuple[Stage, ...]:
  """The single stage `train`.

  Args:
    model: see `adversarial_autoencoder`.
    config: the whole config; `task.phases`, `task.rates`,
      `task.label_smoothing`, `epochs`, and the model's and the data's frames
      are read.
    optimizer: epochs of a stage, and a factor of the learning rate, to an
      optimizer.

  Returns:
    One stage.

  Raises:
    UserError: phases or rates that do not exist, or frames that do not fit.
  """
  _check(config)
  rates = config.task.rates
  optimizers = {
    name: optimizer(config.epochs, rates[name]) for name in config.task.phases
  }
  task = adversarial_autoencoder(
    model, optimizers, label_smoothing=config.task.label_smoothing
  )
  return (Stage("train", task, config.epochs),)


def _check(config) -> None:
  """Refuses what no step could be made of."""
  phases, frames = tuple(config.task.phases), config.model.frames
  if "classification" not in phases or len(set(phases)) < len(phases):
    raise UserError(
      f"config.task.phases={phases} must have classification, and no phase "
      "twice."
    )
  for name in phases:
    if name not in SCOPES:
      raise UserError(
        f"config.task.phases has {name!r}: choose from {', '.join(SCOPES)}."
      )
    if not config.task.rates[name] > 0:
      raise UserError(
        f"config.task.rates.{name}={config.task.rates[name]} must be positive; "
        "leave the phase out of config.task.phases to skip it."
      )
  if set(phases) != {"classification"} and not config.model.autoencoder:
    raise UserError(
      f"config.task.phases={phases} needs config.model.autoencoder=True."
    )
  if frames and not 0 < config.data.max_frames <= frames:
    raise UserError(
      f"config.data.max_frames={config.data.max_frames} must lie between 1 and "
      f"config.model.frames={frames}, to which utterances are padded."
    )


def adversarial_autoencoder(
  model: nn.Module,
  optimizers: Optimizers,
  *,
  label_smoothing: float = 0.0,
) -> Task:
  """Reconstruction, regularisation and classification, phase by phase.

  Args:
    model: as `models/adversarial_autoencoder.py`: `__call__`, `encode` and
      `judge`, and parameter groups as in `SCOPES`.
    optimizers: phase names, in their order, to their optimizers.
    label_smoothing: of the classification.

  Returns:
    A task whose batches have the target `labelled` beside `emotion`: 1 where
    the label may be seen. Its `scores` are y; it shows `hidden`, `y` and `z`.
  """
  make = {
    "reconstruction": _reconstruction,
    "discriminators": _discriminators,
    "generator": _generator,
    "classification": functools.partial(
      _classification, label_smoothing=label_smoothing
    ),
  }
  phases = tuple(
    Phase(name, SCOPES[name], make[name](model), tx)
    for name, tx in optimizers.items()
  )
  return Task(
    apply.initializer(model),
    phases,
    apply.predictor(model, shows=("hidden", "y", "z")),
    _decoding(model) if "reconstruction" in optimizers else None,
  )


def _decoding(model: nn.Module) -> Callable[..., Float[Array, "batch ..."]]:
  """The decoder as it is after training."""

  def decode(params, stats, y, z, batch):
    ((name, x),) = batch.inputs.items()
    found = model.apply(
      {"params": params, "batch_stats": stats},
      jnp.concatenate([y, z], axis=-1),
      batch.lengths[name],
      model.fixed_length(x).shape[1:],
      train=False,
      method=lambda module, *latent, train: module.decoder(
        *latent, train=train
      ),
    )
    return found[:, : x.shape[1]]

  return decode


def _reconstruction(model: nn.Module) -> LossFn:
  """The squared error of valid frames."""

  def loss_fn(params, stats, batch, turn):
    outputs, stats = apply.in_training(model, params, stats, batch, turn.rng)
    found = outputs["reconstruction"]
    ((name, wanted),) = batch.inputs.items()
    weight = batch.weight
    if wanted.ndim == 3:
      found = found[:, : wanted.shape[1]]
      weight = apply.frame_weight(batch, batch.lengths[name], wanted.shape[1])
    loss = losses.squared_error(found, wanted, weight)
    return loss, stats, {"reconstruction_loss": loss}

  return loss_fn


def draw_priors(
  rng: Array, index: Int[Array, "batch"], classes: int, latent: int
) -> tuple[Float[Array, "batch classes"], Float[Array, "batch latent"]]:
  """Draws from the priors: a class by a fair die, and N(0, I).

  Every utterance has keys of its own, so that devices that share a batch draw
  what one device would.

  Args:
    rng: of the step and phase.
    index: of the utterances.
    classes: of the die.
    latent: dimensions of the Gaussian.

  Returns:
    One-hot classes, and Gaussian vectors.
  """

  def draw(number: Int[Array, ""]) -> tuple[Array, Array]:
    of_class, of_style = jax.random.split(jax.random.fold_in(rng, number))
    thrown = jax.random.randint(of_class, (), 0, classes)
    return (
      jax.nn.one_hot(thrown, classes),
      jax.random.normal(of_style, (latent,)),
    )

  return jax.vmap(draw)(index)


def _discriminators(model: nn.Module) -> LossFn:
  """Real is what the priors give, fake what the encoder gives.

  The encoder is run as it trains, but leaves no trace in its statistics.
  """

  def loss_fn(params, stats, batch, turn):
    of_encoder, of_priors, of_judge = jax.random.split(turn.rng, 3)
    fake, _ = apply.in_training(
      model, params, stats, batch, of_encoder, "encode"
    )
    classes, latent = fake["y"].shape[-1], fake["z"].shape[-1]
    drawn = draw_priors(of_priors, batch.index, classes, latent)
    # Their number format must not tell the real from the fake.
    pairs = (
      jnp.stack([real.astype(fake[name].dtype), fake[name]], axis=1)
      for name, real in zip("yz", drawn, strict=True)
    )
    judged = model.apply(
      {"params": params},
      *pairs,
      train=True,
      rngs={"dropout": of_judge},
      method="judge",
    )
    total, totals = 0.0, {}
    for name, logits in judged.items():
      of_real, of_fake = logits[:, 0], logits[:, 1]
      one, count = losses.binary_cross_entropy(of_real, 1.0, batch.weight)
      other, _ = losses.binary_cross_entropy(of_fake, 0.0, batch.weight)
      totals[f"discriminator_{name}_loss"] = ((one + other) / 2, count)
      total += one + other
    return (total, count), stats, totals

  return loss_fn


def _generator(model: nn.Module) -> LossFn:
  """The encoder's latent variables are to be taken for draws from the priors.

  The loss that does not saturate: -log of the discriminators' yes.
  """

  def loss_fn(params, stats, batch, turn):
    of_encoder, of_judge = jax.random.split(turn.rng)
    fake, stats = apply.in_training(
      model, params, stats, batch, of_encoder, "encode"
    )
    judged = model.apply(
      {"params": params},
      fake["y"],
      fake["z"],
      train=True,
      rngs={"dropout": of_judge},
      method="judge",
    )
    total = 0.0
    totals = latent_statistics(fake, batch.weight, turn.axis_name)
    for name, logits in judged.items():
      one, count = losses.binary_cross_entropy(logits, 1.0, batch.weight)
      totals[f"generator_{name}_loss"] = (one, count)
      total += one
    return (total, count), stats, totals

  return loss_fn


def latent_statistics(
  latent: dict[str, Array],
  weight: Float[Array, "batch"],
  axis_name: str | None = None,
) -> Totals:
  """How far a batch's latent variables are from their priors.

  Args:
    latent: `y` `[batch, classes]` and `z` `[batch, latent]`.
    weight: 1 for an example, 0 for filler.
    axis_name: the mapped axis that the batch is split over, if any.

  Returns:
    Weighted with the count: `y_entropy`, of single examples (nats);
    `y_mean_entropy`, of their mean (log of the classes under the prior);
    `z_mean`, root mean square over dimensions (0 under the prior, give or take
    1 / sqrt(batch)); `z_variance`, mean over dimensions (1); `z_covariance`,
    root mean square off the diagonal (0, likewise).
  """
  y, z = (
    jax.lax.stop_gradient(latent[name]).astype(jnp.float32) for name in "yz"
  )
  product = functools.partial(jnp.matmul, precision="highest")
  local = jnp.sum(weight)

  def averages(*sums: Array) -> tuple[Array, ...]:
    count = local
    if axis_name is not None:
      *sums, count = jax.lax.psum((*sums, count), axis_name)
    return tuple(x / jnp.maximum(count, 1.0) for x in sums)

  mean, mean_y, entropy = averages(
    *(product(weight, x) for x in (z, y, losses.entropy(y)))
  )
  centred = z - mean[None, :]
  (covariance,) = averages(product((centred * weight[:, None]).T, centred))
  off = covariance * (1.0 - jnp.eye(len(mean)))
  pairs = max(len(mean) * (len(mean) - 1), 1)
  found = {
    "y_entropy": entropy,
    "y_mean_entropy": losses.entropy(mean_y[None])[0],
    "z_mean": jnp.sqrt(jnp.mean(jnp.square(mean))),
    "z_variance": jnp.mean(jnp.diagonal(covariance)),
    "z_covariance": jnp.sqrt(jnp.sum(jnp.square(off)) / pairs),
  }
  return {name: (value * local, local) for name, value in found.items()}


def _classification(model: nn.Module, *, label_smoothing: float) -> LossFn:
  """Cross-entropy over the labelled examples."""

  def loss_fn(params, stats, batch, turn):
    outputs, stats = apply.in_training(
      model, params, stats, batch, turn.rng, "encode"
    )
    labels = batch.targets["emotion"]
    weight = batch.weight * batch.targets["labelled"]
    loss = losses.cross_entropy(
      outputs["logits"], labels, weight, label_smoothing=label_smoothing
    )
    totals = {
      "loss": loss,
      "wa": losses.accuracy(outputs["logits"], labels, weight),
    }
    return loss, stats, totals

  return loss_fn
