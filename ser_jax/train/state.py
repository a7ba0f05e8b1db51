"""Everything that a training step changes."""

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int, PyTree, UInt32

from ser_jax.batch import Batch
from ser_jax.tasks.task import Phase, Task
from ser_jax.train.optimizers import evaluated

# What a key derived from the root key is for.
INIT, STEP, AUGMENT, STAGES = 0, 1, 2, 3


@flax.struct.dataclass
class Weights:
  """What a prediction needs of a state."""

  params: PyTree
  batch_stats: PyTree


@flax.struct.dataclass
class TrainState:
  """The state of one run within one stage.

  Attributes:
    step: steps taken.
    params: parameters by top-level group.
    batch_stats: running statistics.
    opt_state: optimizer state by phase name.
    seed: the root of every random key. Keys are derived from it, the purpose
      and the step, and never carried, so that a resumed run draws the same.
  """

  step: Int[Array, "*runs"]
  params: PyTree
  batch_stats: PyTree
  opt_state: dict[str, PyTree]
  seed: UInt32[Array, "*runs"]

  @property
  def weights(self) -> Weights:
    """The part that predictions need, and that a best epoch keeps."""
    return Weights(evaluated(self.params, self.opt_state), self.batch_stats)


def key_for(seed: UInt32[Array, ""], purpose: int) -> Array:
  """The root key of a purpose."""
  return jax.random.fold_in(jax.random.key(seed), purpose)


def stage_seed(seed: UInt32[Array, ""], stage: int) -> UInt32[Array, ""]:
  """The root of a stage's keys, which is the run's own seed in the first."""
  if stage == 0:
    return seed
  return jax.random.bits(key_for(seed, STAGES + stage), dtype=jnp.uint32)


def augmentation_key(state: TrainState) -> Array:
  """The key of what is done to the next batch."""
  return jax.random.fold_in(key_for(state.seed, AUGMENT), state.step)


def split(params: dict, scope: tuple[str, ...] | None) -> tuple[dict, dict]:
  """Splits a tree into the groups that a phase moves and the others.

  Args:
    params: parameters by top-level group.
    scope: names of groups, or None for all.

  Returns:
    The moved and the kept groups.

  Raises:
    KeyError: a group in the scope does not exist.
  """
  if scope is None:
    return dict(params), {}
  missing = [name for name in scope if name not in params]
  if missing:
    raise KeyError(f"scope names {missing}, the model has {sorted(params)}")
  moved = {name: params[name] for name in scope}
  kept = {name: tree for name, tree in params.items() if name not in scope}
  return moved, kept


def are_finite(tree: PyTree, runs: int) -> Bool[np.ndarray, "runs"]:
  """Which runs of a group have finite numbers alone; arrays on the host."""
  finite = np.ones(runs, bool)
  for leaf in jax.tree.leaves(tree):
    finite &= np.isfinite(leaf).reshape(runs, -1).all(axis=1)
  return finite


def init_opt_state(params: dict, phases: tuple[Phase, ...]) -> dict:
  """Optimizer states, each over the groups its phase moves."""
  return {
    phase.name: phase.tx.init(split(params, phase.scope)[0]) for phase in phases
  }


def init_state(seed: UInt32[Array, ""], batch: Batch, task: Task) -> TrainState:
  """A fresh state: parameters drawn from the seed, optimizers at zero.

  Args:
    seed: the root of the run's random keys.
    batch: a batch of the largest shapes that training will see.
    task: what will be trained.

  Returns:
    The state before the first step.
  """
  params, batch_stats = task.init(key_for(seed, INIT), batch)
  return TrainState(
    step=jnp.zeros((), jnp.int32),
    params=params,
    batch_stats=batch_stats,
    opt_state=init_opt_state(params, task.phases),
    seed=seed,
  )
