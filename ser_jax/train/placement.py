"""Arrays to devices and back, whole or in parts, with one process or many."""

import contextlib
from collections.abc import Iterator

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree

from ser_jax.errors import UserError


@contextlib.contextmanager
def fitting(what: str, remedy: str) -> Iterator[None]:
  """Says of what devices have no memory for what to do.

  Args:
    what: does not fit.
    remedy: what to set instead.

  Raises:
    UserError: memory ran out in the context.
  """
  try:
    yield
  except jax.errors.JaxRuntimeError as error:
    reason = " ".join(str(error).split())
    if not reason.startswith("RESOURCE_EXHAUSTED"):
      raise
    raise UserError(
      f"{what} does not fit the devices' memory ({reason:.300}): {remedy}."
    ) from error


def on_mesh(mesh: Mesh, specs: PyTree) -> PyTree:
  """Shardings of specs."""
  return jax.tree.map(
    lambda spec: NamedSharding(mesh, spec),
    specs,
    is_leaf=lambda x: isinstance(x, PartitionSpec),
  )


def put(tree: PyTree, shardings: PyTree) -> PyTree:
  """Puts host arrays, whole on every process, where shardings say.

  Args:
    tree: the arrays.
    shardings: of the same structure, down to subtrees that share one.

  Returns:
    The arrays on devices.
  """
  if jax.process_count() == 1:
    return jax.device_put(tree, shardings)

  def made(x, sharding):
    x = np.asarray(x)
    return jax.make_array_from_callback(x.shape, sharding, lambda i: x[i])

  return jax.tree.map(
    lambda sharding, part: jax.tree.map(lambda x: made(x, sharding), part),
    shardings,
    tree,
  )


def shapes(tree: PyTree, shardings: PyTree) -> PyTree:
  """What `put` would give, for devices that are not here: shapes, types, where.

  Args:
    tree: host arrays.
    shardings: as in `put`.

  Returns:
    `jax.ShapeDtypeStruct`s.
  """

  def shape(x, sharding):
    return jax.ShapeDtypeStruct(np.shape(x), x.dtype, sharding=sharding)

  return jax.tree.map(
    lambda sharding, part: jax.tree.map(lambda x: shape(x, sharding), part),
    shardings,
    tree,
  )


def get(tree: PyTree) -> PyTree:
  """Brings arrays to the host, whole also where other processes have parts."""

  def whole(x):
    if not isinstance(x, jax.Array) or x.is_fully_addressable:
      return x
    if x.is_fully_replicated:
      return x.addressable_data(0)
    # The guard of a training step takes it for an accident.
    with jax.transfer_guard("allow"):
      return multihost_utils.process_allgather(x, tiled=True)

  return jax.device_get(jax.tree.map(whole, tree))


def split_batch(x: np.ndarray, count: int) -> np.ndarray:
  """`[runs, batch, ...]` to `[devices, runs, batch / devices, ...]`."""
  runs, batch, *rest = x.shape
  return x.reshape(runs, count, batch // count, *rest).swapaxes(0, 1)


def join_batch(x: np.ndarray) -> np.ndarray:
  """Undoes `split_batch`."""
  count, runs, share, *rest = x.shape
  return x.swapaxes(0, 1).reshape(runs, count * share, *rest)
