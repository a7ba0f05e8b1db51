"""In what precision a task computes; parameters stay float32 throughout.

    float32    products of float32 as such
    tf32       products of float32 in the device's faster form, if it has one
               (TF32 on NVIDIA, three passes of bfloat16 on TPU)
    bfloat16   activations and products in bfloat16; statistics of
               normalisation and pooling, what recurrences sum or average over
               time, and losses in float32

Gradients come back through the casts, so that optimizers see float32 alone.
"""

import dataclasses
import logging
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from ser_jax.batch import Batch
from ser_jax.errors import UserError
from ser_jax.tasks.task import LossFn, Params, Phase, Task, Turn

LOG = logging.getLogger(__name__)
# JAX's name of how products are made; see `products`.
PRODUCTS = {
  "float32": "float32",
  "tf32": "tensorfloat32",
  "bfloat16": "bfloat16",
}


def check(precision: str) -> None:
  """Refuses a precision that does not exist.

  Raises:
    UserError: it is none of `PRODUCTS`.
  """
  if precision not in PRODUCTS:
    raise UserError(
      f"config.precision={precision!r} is none of {', '.join(PRODUCTS)}."
    )


def warn_of_slow(precision: str, platform: str) -> None:
  """Warns of a precision that a platform only imitates."""
  if precision == "bfloat16" and platform == "cpu":
    LOG.warning(
      "config.precision=bfloat16 is for accelerators: CPUs imitate it, several "
      "times more slowly than float32"
    )


def products(precision: str, platform: str | None = None) -> str:
  """JAX's name of how products are made on some devices.

  XLA's own kernels for NVIDIA GPUs (Triton's) take TF32 for "default" alone:
  under "tensorfloat32", which libraries' kernels obey, they compute in float32.
  On TPUs "default" is a single pass of bfloat16.

  Args:
    precision: a name of `PRODUCTS`.
    platform: `cpu`, `gpu` or `tpu`; None for that of this process.

  Returns:
    What `jax.default_matmul_precision` takes.
  """
  platform = platform or jax.default_backend()
  if precision == "tf32" and platform == "gpu":
    return "default"
  return PRODUCTS[precision]


def in_precision(
  task: Task, precision: str, platform: str | None = None
) -> Task:
  """The task, computed in another precision.

  Args:
    task: of float32 parameters and inputs.
    precision: a name of `PRODUCTS`.
    platform: see `products`.

  Returns:
    A task that takes and gives float32.
  """
  # Steps say how products are made: a context that ends with the forward pass
  # would not reach backward passes of our own.
  task = dataclasses.replace(task, products=products(precision, platform))
  if precision != "bfloat16":
    return task

  def predict(params: Params, batch_stats: PyTree, batch: Batch):
    params, batch = _lowered(params, batch)
    return _cast(task.predict(params, batch_stats, batch), jnp.float32)

  def decode(params: Params, batch_stats: PyTree, y, z, batch: Batch):
    params, batch = _lowered(params, batch)
    y, z = _cast((y, z), jnp.bfloat16)
    return _cast(task.decode(params, batch_stats, y, z, batch), jnp.float32)

  phases = tuple(
    dataclasses.replace(phase, loss_fn=_loss(phase)) for phase in task.phases
  )
  return dataclasses.replace(
    task,
    phases=phases,
    predict=predict,
    decode=None if task.decode is None else decode,
  )


def computed(
  function: Callable[..., PyTree], precision: str
) -> Callable[..., PyTree]:
  """What no task does with a model, computed as its predictions are.

  Args:
    function: `(params, inputs, *others)` to arrays; not to be differentiated.
    precision: a name of `PRODUCTS`.

  Returns:
    The function, taking and giving float32.
  """

  def run(params: Params, inputs: PyTree, *others, **options) -> PyTree:
    with jax.default_matmul_precision(products(precision)):
      if precision == "bfloat16":
        params, inputs = _cast((params, inputs), jnp.bfloat16)
      found = function(params, inputs, *others, **options)
      return _cast(found, jnp.float32)

  return run


def _loss(phase: Phase) -> LossFn:
  """A phase's loss in bfloat16; statistics keep their types."""

  def loss_fn(params: Params, batch_stats: PyTree, batch: Batch, turn: Turn):
    params, batch = _lowered(params, batch)
    return phase.loss_fn(params, batch_stats, batch, turn)

  return loss_fn


def _lowered(params: Params, batch: Batch) -> tuple[Params, Batch]:
  """What a model reads, in bfloat16."""
  inputs = _cast(batch.inputs, jnp.bfloat16)
  return _cast(params, jnp.bfloat16), batch.replace(inputs=inputs)


def _cast(tree: PyTree, dtype: jnp.dtype) -> PyTree:
  """Floating-point arrays in another type."""
  return jax.tree.map(
    lambda x: x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x,
    tree,
  )
