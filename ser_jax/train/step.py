"""The training step and the prediction step: pure functions, no jit here."""

from collections.abc import Callable

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from ser_jax import losses
from ser_jax.batch import Batch
from ser_jax.tasks.task import Task, Totals, Turn
from ser_jax.train import state as states
from ser_jax.train.sharing import Sharing
from ser_jax.train.state import TrainState, Weights


@flax.struct.dataclass
class Sums:
  """Metrics of a step as one array, which takes one transfer to the host.

  Attributes:
    values: (sum, count) of each metric.
    names: of the metrics, in that order.
  """

  values: Float[Array, "*runs metrics 2"]
  names: tuple[str, ...] = flax.struct.field(pytree_node=False)

  @classmethod
  def of(cls, totals: Totals) -> "Sums":
    """Stacks the metrics of one run."""
    values = jnp.stack([jnp.stack(pair) for pair in totals.values()])
    return cls(values.astype(jnp.float32), tuple(totals))

  def __getitem__(self, name: str) -> Float[Array, "*runs 2"]:
    """(sum, count) of a metric."""
    return self.values[..., self.names.index(name), :]


def train_step(
  state: TrainState,
  batch: Batch,
  *,
  task: Task,
  total_steps: int,
  axis_name: str | None = None,
  accumulate: int = 1,
) -> tuple[TrainState, Sums]:
  """Walks the phases of a task once over a batch.

  Each phase sees the parameters and statistics that the one before left; what
  is outside its scope is not differentiated.

  Args:
    state: the state of one run.
    batch: a batch, or this device's part of it under `axis_name`.
    task: whose phases to walk.
    total_steps: steps in the stage; `step / total_steps` is the progress.
    axis_name: the mapped axis that the batch is split over, if any.
    accumulate: microbatches that a phase's gradient is accumulated over, see
      `_accumulated`.

  Returns:
    The next state, and (sum, count) of each metric over the whole batch.
  """
  with jax.default_matmul_precision(task.products):
    return _train_step(state, batch, task, total_steps, axis_name, accumulate)


def _train_step(
  state: TrainState,
  batch: Batch,
  task: Task,
  total_steps: int,
  axis_name: str | None,
  accumulate: int,
) -> tuple[TrainState, Sums]:
  rng = jax.random.fold_in(states.key_for(state.seed, states.STEP), state.step)
  progress = state.step.astype(jnp.float32) / total_steps
  params, batch_stats = state.params, state.batch_stats
  opt_state, metrics = dict(state.opt_state), {}
  for number, phase in enumerate(task.phases):
    moved, kept = states.split(params, phase.scope)

    def loss_of(moved, stats, batch, rng, kept=kept, phase=phase):
      turn = Turn(rng, progress, axis_name)
      return phase.loss_fn({**kept, **moved}, stats, batch, turn)

    if accumulate > 1:
      gradient = _accumulated(loss_of, accumulate, axis_name)
    else:
      gradient = _of_mean(loss_of, axis_name)
    (loss, (batch_stats, totals)), grads = gradient(
      moved, batch_stats, batch, jax.random.fold_in(rng, number)
    )
    if axis_name is not None:
      if isinstance(phase.tx, Sharing):
        loss, totals = jax.lax.psum((loss, totals), axis_name)
      else:
        loss, grads, totals = jax.lax.psum((loss, grads, totals), axis_name)
    updates, opt_state[phase.name] = phase.tx.update(
      grads, opt_state[phase.name], moved, value=loss
    )
    params = {**kept, **optax.apply_updates(moved, updates)}
    metrics |= totals
  state = state.replace(
    step=state.step + 1,
    params=params,
    batch_stats=batch_stats,
    opt_state=opt_state,
  )
  return state, Sums.of(metrics)


def several(step: Callable) -> Callable:
  """Steps one after another as one program, which the host starts once.

  Args:
    step: `(state, item)` to `(state, sums)`.

  Returns:
    The same of items `[steps, ...]`; sums are those of all steps.
  """

  def scanned(state: TrainState, items) -> tuple[TrainState, Sums]:
    state, sums = jax.lax.scan(step, state, items)
    return state, sums.replace(values=sums.values.sum(axis=0))

  return scanned


def _of_mean(loss_of: Callable, axis_name: str | None) -> Callable:
  """The mean loss and its gradient.

  Args:
    loss_of: `(moved, batch_stats, batch, rng)` to `(sum, count), batch_stats,
      totals`.
    axis_name: the mapped axis that the batch is split over, if any.

  Returns:
    `(moved, batch_stats, batch, rng)` to `(loss, (batch_stats, totals)),
    gradients`; loss and gradients are this device's shares.
  """

  def mean_of(*args):
    total, *others = loss_of(*args)
    return losses.mean(*total, axis_name), tuple(others)

  return jax.value_and_grad(mean_of, has_aux=True)


def _accumulated(
  loss_of: Callable, parts: int, axis_name: str | None
) -> Callable:
  """The same over microbatches, one after another in the memory of one.

  Sums, counts and gradients of the sums add up; the division comes last.
  Normalisation sees each microbatch by itself, and its running statistics move
  `parts` times a step; dropout draws anew for each.

  Args:
    loss_of: see `_of_mean`.
    parts: microbatches; divides the examples of a device.
    axis_name: the mapped axis that the batch is split over, if any.

  Returns:
    A function as `_of_mean` does.
  """

  def sum_of(*args):
    (total, count), *others = loss_of(*args)
    return total, (count, *others)

  gradient = jax.value_and_grad(sum_of, has_aux=True)

  def whole(moved, batch_stats, batch, rng):
    # Neighbours go to different microbatches: filler, which comes last, is
    # then spread over all.
    batches = jax.tree.map(
      lambda x: x.reshape(-1, parts, *x.shape[1:]).swapaxes(0, 1), batch
    )

    def add(carry, xs):
      stats, sums = carry
      part, number = xs
      (total, (count, stats, totals)), grads = gradient(
        moved, stats, part, jax.random.fold_in(rng, number)
      )
      return (stats, jax.tree.map(jnp.add, sums, (total, count, grads))), totals

    zeros = jnp.zeros(()), jnp.zeros(()), jax.tree.map(jnp.zeros_like, moved)
    (batch_stats, (total, count, grads)), totals = jax.lax.scan(
      add, (batch_stats, zeros), (batches, jnp.arange(parts))
    )
    share = losses.mean(jnp.ones(()), count, axis_name)
    grads = jax.tree.map(lambda grad: share * grad, grads)
    totals = jax.tree.map(lambda x: x.sum(axis=0), totals)
    return (share * total, (batch_stats, totals)), grads

  return whole


def predict_step(
  weights: Weights, batch: Batch, *, task: Task
) -> dict[str, Array]:
  """What a task predicts for a batch.

  Args:
    weights: of one run.
    batch: a batch; filler examples get predictions too, to be dropped.
    task: whose prediction to make.

  Returns:
    Named arrays with the batch as their first axis.
  """
  with jax.default_matmul_precision(task.products):
    return task.predict(weights.params, weights.batch_stats, batch)


def decode_step(
  weights: Weights,
  y: Float[Array, "batch classes"],
  z: Float[Array, "batch latent"],
  batch: Batch,
  *,
  task: Task,
) -> Float[Array, "batch ..."]:
  """What a generative task makes of latent variables.

  Args:
    weights: of one run.
    y: probabilities of classes, or one-hot.
    z: style.
    batch: whose shapes and lengths the result is to have.
    task: whose decoder to run.

  Returns:
    Inputs like the batch's.
  """
  with jax.default_matmul_precision(task.products):
    return task.decode(weights.params, weights.batch_stats, y, z, batch)
