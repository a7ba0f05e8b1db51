"""The training step and the prediction step: pure functions, no jit here."""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from ser_jax.batch import Batch
from ser_jax.tasks.task import Task, Totals
from ser_jax.train import state as states
from ser_jax.train.state import TrainState, Weights


def train_step(
  state: TrainState,
  batch: Batch,
  *,
  task: Task,
  total_steps: int,
  axis_name: str | None = None,
) -> tuple[TrainState, Totals]:
  """Walks the phases of a task once over a batch.

  Each phase sees the parameters and statistics that the one before left; what
  is outside its scope is not differentiated.

  Args:
    state: the state of one run.
    batch: a batch, or this device's part of it under `axis_name`.
    task: whose phases to walk.
    total_steps: steps in the stage; `step / total_steps` is the progress.
    axis_name: the mapped axis that the batch is split over, if any.

  Returns:
    The next state, and (sum, count) of each metric over the whole batch.
  """
  rng = jax.random.fold_in(states.key_for(state.seed, states.STEP), state.step)
  progress = state.step.astype(jnp.float32) / total_steps
  params, batch_stats = state.params, state.batch_stats
  opt_state, metrics = dict(state.opt_state), {}
  for number, phase in enumerate(task.phases):
    moved, kept = states.split(params, phase.scope)
    loss_of = jax.value_and_grad(
      lambda moved, kept=kept, stats=batch_stats, phase=phase, number=number: (
        phase.loss_fn(
          {**kept, **moved},
          stats,
          batch,
          jax.random.fold_in(rng, number),
          progress,
        )
      ),
      has_aux=True,
    )
    (loss, (batch_stats, totals)), grads = loss_of(moved)
    if axis_name is not None:
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
  return state, metrics


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
  return task.predict(weights.params, weights.batch_stats, batch)
