"""How tasks call a model: at first, in training and to predict."""

from collections.abc import Callable, Collection

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from ser_jax.batch import Batch, valid_frames
from ser_jax.tasks.task import Params

Outputs = dict[str, PyTree]


def frame_weight(
  batch: Batch, lengths: Int[Array, "batch"], time: int
) -> Float[Array, "batch time"]:
  """1 for a frame that counts, 0 for padding and filler.

  Args:
    batch: whose examples they are.
    lengths: valid frames.
    time: frames of the batch, padding included.
  """
  return valid_frames(lengths, time) * batch.weight[:, None]


def initializer(
  model: nn.Module, method: str = "__call__"
) -> Callable[[Array, Batch], tuple[Params, PyTree]]:
  """A task's `init`.

  Args:
    model: takes inputs, lengths and whether it trains.
    method: that is called; groups that it does not need are not drawn.

  Returns:
    `(rng, batch)` to parameters and running statistics, `{}` without any.
  """

  def init(rng: Array, batch: Batch) -> tuple[Params, PyTree]:
    variables = model.init(
      rng, batch.inputs, batch.lengths, train=False, method=method
    )
    return variables["params"], variables.get("batch_stats", {})

  return init


def in_training(
  model: nn.Module,
  params: Params,
  batch_stats: PyTree,
  batch: Batch,
  rng: Array,
  method: str = "__call__",
  **options,
) -> tuple[Outputs, PyTree]:
  """A model's outputs in training, and the running statistics after it.

  Args:
    model: see `initializer`.
    params: its parameters.
    batch_stats: its running statistics.
    batch: what it reads.
    rng: of dropout.
    method: that is called.
    **options: what else the method takes.

  Returns:
    The outputs, and the statistics of all layers, called or not.
  """
  outputs, changed = model.apply(
    {"params": params, "batch_stats": batch_stats},
    batch.inputs,
    batch.lengths,
    train=True,
    mutable=["batch_stats"],
    rngs={"dropout": rng},
    method=method,
    **options,
  )
  return outputs, changed.get("batch_stats", batch_stats)


def in_prediction(
  model: nn.Module,
  params: Params,
  batch_stats: PyTree,
  batch: Batch,
  method: str = "__call__",
) -> Outputs:
  """A model's outputs after training; the arguments are `in_training`'s."""
  return model.apply(
    {"params": params, "batch_stats": batch_stats},
    batch.inputs,
    batch.lengths,
    train=False,
    method=method,
  )


def predictor(
  model: nn.Module,
  method: str = "__call__",
  shows: Collection[str] | None = None,
) -> Callable[[Params, PyTree, Batch], dict[str, Float[Array, "batch ..."]]]:
  """The `predict` of a task whose model returns `logits`.

  Args:
    model: see `initializer`.
    method: that is called.
    shows: names of outputs that predictions have, too, where the model has
      them; None for all but the logits.

  Returns:
    `(params, batch_stats, batch)` to `scores`, probabilities, and the outputs.
  """

  def predict(params: Params, batch_stats: PyTree, batch: Batch):
    outputs = in_prediction(model, params, batch_stats, batch, method)
    logits = outputs.pop("logits").astype(jnp.float32)
    if shows is not None:
      outputs = {name: outputs[name] for name in shows if name in outputs}
    return outputs | {"scores": jax.nn.softmax(logits)}

  return predict
