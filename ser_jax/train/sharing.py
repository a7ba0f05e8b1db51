"""Optimizer states shared out over the devices that share a batch.

As ZeRO's first stage (Rajbhandari et al. 2020): a device keeps the moments of
its share of every parameter. Gradients are summed so that each device gets the
sum of its share alone (reduce-scatter), which its optimizer turns into updates
that all devices gather: the bytes of one all-reduce, in two collectives.

A parameter's values lie in a row, with zeros up to a multiple of `PIECES`, and
keep their number of axes, for masks by it. States therefore do not depend on
the number of devices.
"""

from collections.abc import Callable
from typing import NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, PyTree

from ser_jax.errors import UserError
from ser_jax.train.optimizers import is_schedule_free

PIECES = 960  # what devices must divide: 1 to 6, 8, 10, 12, ... 64, ...


@flax.struct.dataclass
class Share:
  """A device's part of a row of values, or the whole row outside of devices.

  Attributes:
    values: `[*runs, values, 1, ...]`, as many axes as the parameter has.
  """

  values: Float[Array, "..."]


class Sharing(NamedTuple):
  """An optimizer that sums gradients over devices by itself."""

  init: Callable[[PyTree], PyTree]
  update: Callable[..., tuple[PyTree, PyTree]]


def sharing(
  tx: optax.GradientTransformationExtraArgs, axis_name: str | None
) -> Sharing:
  """An optimizer whose state is shared out.

  Args:
    tx: treats every value by itself, see `require_elementwise`.
    axis_name: the mapped axis that a batch is split over, if any.

  Returns:
    `init`, which gives whole rows, and `update`, which takes the gradients of
    a device's part of a batch and gives the updates of all parameters.
  """

  def init(params: PyTree) -> PyTree:
    return tx.init(jax.tree.map(_row, params))

  def update(
    grads: PyTree, state: PyTree, params: PyTree, **extra
  ) -> tuple[PyTree, PyTree]:
    moved, state = tx.update(
      _summed(grads, axis_name), state, _own(params, axis_name), **extra
    )
    return _whole(moved, params, axis_name), state

  return Sharing(init, update)


def _row(x: Float[Array, "..."]) -> Share:
  """A parameter's values in a row, padded."""
  row = jnp.pad(x.ravel(), (0, -x.size % PIECES))
  return Share(row.reshape(-1, *[1] * (x.ndim - 1)))


def _summed(grads: PyTree, axis_name: str | None) -> PyTree:
  """This device's share of the sum over devices."""
  rows = jax.tree.map(_row, grads)
  if axis_name is None:
    return rows
  return _together(
    lambda x: jax.lax.psum_scatter(x, axis_name, tiled=True), rows, PIECES
  )


def _own(params: PyTree, axis_name: str | None) -> PyTree:
  """This device's share of parameters that it has whole."""
  rows = jax.tree.map(_row, params)
  if axis_name is None:
    return rows
  devices, number = jax.lax.axis_size(axis_name), jax.lax.axis_index(axis_name)
  return jax.tree.map(
    lambda x: jax.lax.dynamic_slice_in_dim(
      x, number * (len(x) // devices), len(x) // devices
    ),
    rows,
  )


def _whole(shares: PyTree, like: PyTree, axis_name: str | None) -> PyTree:
  """All devices' shares, in the shapes of parameters."""
  if axis_name is not None:
    pieces = PIECES // jax.lax.axis_size(axis_name)
    shares = _together(
      lambda x: jax.lax.all_gather(x, axis_name, tiled=True), shares, pieces
    )
  return jax.tree.map(
    lambda x, share: share.values.ravel()[: x.size].reshape(x.shape),
    like,
    shares,
  )


def _together(collective: Callable, shares: PyTree, pieces: int) -> PyTree:
  """One collective over the pieces of all rows, side by side."""
  leaves, structure = jax.tree.flatten(shares)
  columns = [x.reshape(pieces, -1) for x in leaves]
  ends = np.cumsum([x.shape[1] for x in columns])[:-1]
  found = jnp.split(collective(jnp.concatenate(columns, axis=1)), ends, axis=1)
  return jax.tree.unflatten(
    structure,
    [
      x.reshape(-1, *leaf.shape[1:])
      for x, leaf in zip(found, leaves, strict=True)
    ],
  )


def check_devices(devices: int) -> None:
  """Refuses numbers of devices that rows do not divide by.

  Raises:
    UserError: they do not.
  """
  if PIECES % devices:
    raise UserError(
      f"config.parallel.optimizer_state='sharded' needs a number of devices "
      f"that divides {PIECES}, and {devices} does not: change "
      "config.parallel.data, or set it to 'replicated'."
    )


def require_elementwise(tx: optax.GradientTransformationExtraArgs) -> None:
  """Refuses optimizers for which a share is not the same as the whole.

  Tried out: three updates of a matrix, and of its halves by themselves. Their
  gradients grow beyond any `clip_norm` in use. And looked at: a number that is
  kept for all of the parameters (D-adaptation's) is slow to differ.

  Raises:
    UserError: updates differ, or the optimizer averages parameters.
  """
  whole, half = (256, 256), (128, 256)
  states = [tx.init(jnp.ones(shape)) for shape in (whole, half, half)]
  leaves = jax.tree.leaves(states[0], is_leaf=is_schedule_free)
  same = not any(map(is_schedule_free, leaves)) and not any(
    jnp.issubdtype(leaf.dtype, jnp.floating) and leaf.ndim == 0
    for path, leaf in jax.tree_util.tree_leaves_with_path(states[0])
    if ".hyperparams" not in jax.tree_util.keystr(path)
  )
  draw = np.random.default_rng(0)
  for scale in (1.0, 1e3, 1e6):
    grads, params = jnp.asarray(draw.normal(size=(2, *whole)), jnp.float32)
    grads *= scale
    updates = []
    for number, part in enumerate((slice(0, 256), slice(128), slice(128, 256))):
      update, states[number] = tx.update(
        grads[part], states[number], params[part], value=jnp.ones(())
      )
      updates.append(update)
    parts, size = np.concatenate(updates[1:]), np.abs(updates[0]).max()
    same &= np.allclose(updates[0], parts, rtol=1e-4, atol=1e-6 * size)
  if not same:
    raise UserError(
      "config.parallel.optimizer_state='sharded' needs an optimizer that "
      "treats every value by itself, as adam does; config.optimizer has norms, "
      "factors or averages of whole parameters (name or clip_norm): set it to "
      "'replicated', or choose another optimizer."
    )
