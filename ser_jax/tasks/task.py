"""What a system is to the training loop: phases, and a prediction.

`Phase` < step < `Stage` < run: a step walks the phases of its task in order, a
stage trains one task for some epochs, a run trains its stages in order.
"""

import dataclasses
from collections.abc import Callable

import optax
from jaxtyping import Array, Float, PyTree

from ser_jax.batch import Batch

Count = Callable[[Batch], Float[Array, ""]]
Params = dict[str, PyTree]
Totals = dict[str, tuple[Array, Array]]  # name -> (sum, count)
LossFn = Callable[
  [Params, PyTree, Batch, Array, Array], tuple[Array, tuple[PyTree, Totals]]
]


def examples(batch: Batch) -> Float[Array, ""]:
  """How many examples a batch has, filler apart."""
  return batch.weight.sum()


@dataclasses.dataclass(frozen=True)
class Phase:
  """One optimizer's turn inside a step.

  Attributes:
    name: unique within its task; names the optimizer state.
    scope: the top-level parameter groups that this phase may move, or None for
      all of them.
    loss_fn: `(params, batch_stats, batch, rng, progress)` to
      `loss, (batch_stats, totals)`; progress in [0, 1] is the share of the
      stage that is done.
    tx: the optimizer.
    count: how much a batch has of what the loss is a mean over; None for a
      loss that is no mean, whose gradient parts of a batch do not add up to.
  """

  name: str
  scope: tuple[str, ...] | None
  loss_fn: LossFn
  tx: optax.GradientTransformationExtraArgs
  count: Count | None = examples


@dataclasses.dataclass(frozen=True)
class Task:
  """An objective over a model.

  Attributes:
    init: `(rng, batch)` to `(params, batch_stats)`.
    phases: walked in order by every step.
    predict: `(params, batch_stats, batch)` to named arrays; `scores` are what
      the evaluation saves, the others are there to be looked at.
    decode: of a generative model: `(params, batch_stats, y, z, batch)` to
      inputs like the batch's, from latent variables `[batch, dim]`.
    products: JAX's name of how products of float32 are made, forwards and
      backwards.
  """

  init: Callable[[Array, Batch], tuple[Params, PyTree]]
  phases: tuple[Phase, ...]
  predict: Callable[[Params, PyTree, Batch], dict[str, Float[Array, "..."]]]
  decode: Callable[..., Float[Array, "batch ..."]] | None = None
  products: str = "float32"


@dataclasses.dataclass(frozen=True)
class Stage:
  """A task trained for some epochs.

  Attributes:
    name: unique within its experiment.
    task: what is trained.
    epochs: passes over the training part.
    takes: parameter groups taken over from the stage before.
  """

  name: str
  task: Task
  epochs: int
  takes: tuple[str, ...] = ()
