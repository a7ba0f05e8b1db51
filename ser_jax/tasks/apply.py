"""How tasks call a model: at first, in training and to predict."""

from collections.abc import Callable

import flax.linen as nn
from jaxtyping import Array, PyTree

from ser_jax.batch import Batch
from ser_jax.tasks.task import Params

Outputs = dict[str, PyTree]


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
