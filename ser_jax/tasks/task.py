"""What a system is to the training loop: phases, and a prediction.

`Phase` < step < `Stage` < run: a step walks the phases of its task in order, a
stage trains one task for some epochs, a run trains its stages in order.
"""

import dataclasses
from collections.abc import Callable

import flax.struct
import optax
from jaxtyping import Array, Float, PyTree

from ser_jax.batch import Batch

Params = dict[str, PyTree]
Total = tuple[Float[Array, ""], Float[Array, ""]]  # (sum, count)
Totals = dict[str, Total]


@flax.struct.dataclass
class Turn:
  """What a loss is told of the phase's turn in a step.

  Attributes:
    rng: of this run, step and phase.
    progress: the share of the stage that is done, in [0, 1].
    axis_name: the mapped axis that the batch is split over, if any.
  """

  rng: Array
  progress: Float[Array, ""] | float
  axis_name: str | None = flax.struct.field(pytree_node=False, default=None)


Outcome = tuple[Total, PyTree, Totals]  # loss, batch_stats, metrics
LossFn = Callable[[Params, PyTree, Batch, Turn], Outcome]


@dataclasses.dataclass(frozen=True)
class Phase:
  """One optimizer's turn inside a step.

  Attributes:
    name: unique within its task; names the optimizer state.
    scope: the top-level parameter groups that this phase may move, or None for
      all of them.
    loss_fn: `(params, batch_stats, batch, turn)` to `loss, batch_stats,
      totals`. The loss is a sum and the count that the step divides it by, of
      this device's part of the batch; totals are metrics likewise.
    tx: the optimizer.
    additive: whether sums and counts of a batch's parts add up to those of the
      whole, so that it may be taken part by part.
  """

  name: str
  scope: tuple[str, ...] | None
  loss_fn: LossFn
  tx: optax.GradientTransformationExtraArgs
  additive: bool = True


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
    number: of the stage within its experiment, from 0: each draws batches and
      keys of its own.
  """

  name: str
  task: Task
  epochs: int
  takes: tuple[str, ...] = ()
  number: int = 0
