"""Where steps meet devices: mesh, shardings, donation, jit, pmap, run axis.

Outside this file arrays have the axes `[runs, batch, ...]`, states `[runs,
...]`, on whatever devices; only here is it known how they are laid out. The
states of a program of one run have no run axis on devices: XLA on CPUs changes
them where they lie, but with an axis of one it copies weights and moments
first.
"""

import contextlib
import dataclasses
import functools
import logging
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree

from ser_jax.train.placement import (
  fitting,
  get,
  join_batch,
  on_mesh,
  put,
  shapes,
  split_batch,
)
from ser_jax.train.sharing import Share

LOG = logging.getLogger(__name__)
# XLA on CPUs leaves products to YNNPACK or to Eigen, which is a seventh to two
# thirds faster at all of ours (and three times slower at few rows by a
# transposed matrix, which `nn/scan.py` avoids). Sums stay with the former.
OPTIONS = {
  "cpu": {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_REDUCE"}
}
# What a step that does not fit into memory needs.
LESS = (
  "lower config.batch_size or the runs of a program (config.parallel.runs, "
  ".stack), use more devices or, to train, set config.accumulate"
)


@dataclasses.dataclass(frozen=True)
class Layout:
  """How runs and batches lie on the devices.

  Attributes:
    backend: `jit` on a mesh, or `pmap` over the data axis.
    runs: `loop` (one run a program), `vmap` (all in one), or `shard` (all in
      one, each device its own runs).
    mesh: the axes `run` and `data`.
    size: runs in one program.
    described: whether the devices are not here: what would be put on them is
      given back as shapes, which programs can be lowered and compiled for.
  """

  backend: str
  runs: str
  mesh: Mesh
  size: int
  described: bool = False

  @property
  def platform(self) -> str:
    """Of the devices: `cpu`, `gpu` or `tpu`."""
    return self.mesh.devices.flat[0].platform

  @property
  def axis_name(self) -> str | None:
    """The mapped axis that models and losses must reduce over, if any."""
    split = self.backend == "pmap" or self.mesh.shape["data"] > 1
    return "data" if split else None

  def _sharding(self, *axes: str | None) -> NamedSharding:
    return NamedSharding(self.mesh, PartitionSpec(*axes))

  def place_runs(self, tree: PyTree) -> PyTree:
    """Puts arrays `[runs, ...]` where the programs want them."""
    if self.size == 1:
      tree = jax.tree.map(lambda x: x.reshape(x.shape[1:]), tree)
    if self.backend == "pmap":
      return self._copy_to_all(tree)
    return self._put(tree, self.shardings(tree))

  def _put(self, tree: PyTree, shardings: PyTree) -> PyTree:
    return (shapes if self.described else put)(tree, shardings)

  @property
  def run_axes(self) -> tuple[str, ...]:
    """Over which axes of the mesh the first axes of a state are split."""
    return ("run",) if self.size > 1 else ()

  def specs(self, tree: PyTree) -> PyTree:
    """How placed states are split; shares over the data axis, too."""

    def split(x):
      shared = ("data",) if isinstance(x, Share) else ()
      return PartitionSpec(*self.run_axes, *shared)

    return jax.tree.map(split, tree, is_leaf=lambda x: isinstance(x, Share))

  def shardings(self, tree: PyTree) -> PyTree:
    """The same on the mesh."""
    return on_mesh(self.mesh, self.specs(tree))

  def place_constants(self, tree: PyTree) -> PyTree:
    """Puts arrays without a run axis on every device."""
    if self.backend == "pmap":
      return self._copy_to_all(tree)
    return self._put(tree, self._sharding())

  def share(self, tree: PyTree) -> PyTree:
    """This process' part of host arrays `[runs, batch, ...]`."""
    if jax.process_count() == 1:
      return tree
    sharding = self._sharding("run", "data")

    def part(x):
      found = sharding.addressable_devices_indices_map(x.shape[:2]).values()
      kept = [
        sorted({i for index in found for i in range(size)[index[axis]]})
        for axis, size in enumerate(x.shape[:2])
      ]
      return x[np.ix_(*kept)]

    return jax.tree.map(part, tree)

  @property
  def takes_host_arrays(self) -> bool:
    """Whether programs are best given items as they are, in host memory.

    A lone CPU device computes where they lie: putting them there first is work
    for another thread, which a small step waits longer for than it takes.
    """
    lone = self.mesh.size == 1 and self.backend == "jit" and not self.described
    return lone and self.platform == "cpu"

  def place_item(self, tree: PyTree, *, stacked: bool = False) -> PyTree:
    """Puts this process' part of arrays `[runs, batch, ...]`.

    Args:
      tree: the arrays; `[runs, steps, batch, ...]` if `stacked`, not for pmap.
      stacked: whether they are of several steps.

    Returns:
      The arrays where programs take them from.
    """
    if self.takes_host_arrays:
      return tree
    if self.backend == "pmap":
      count = self.mesh.shape["data"]
      return jax.device_put(
        jax.tree.map(lambda x: split_batch(np.asarray(x), count), tree),
        self._sharding("data"),
      )
    sharding = self._sharding(*item_axes(stacked))
    if self.described:
      return shapes(tree, sharding)
    if jax.process_count() == 1:
      return put(tree, sharding)
    # The guard takes these transfers, which are meant, for accidents.
    with jax.transfer_guard_host_to_device("allow"):
      return jax.make_array_from_process_local_data(sharding, tree)

  def fetch_runs(self, tree: PyTree) -> PyTree:
    """Brings arrays `[runs, ...]` to the host."""
    if self.backend == "pmap":
      tree = jax.tree.map(lambda x: x.addressable_shards[0].data, tree)
      tree = jax.tree.map(lambda x: np.asarray(x)[0], jax.device_get(tree))
    else:
      tree = get(tree)
    if self.size == 1:
      return jax.tree.map(lambda x: np.asarray(x)[None], tree)
    return tree

  def fetch_item(self, tree: PyTree) -> PyTree:
    """Brings arrays `[runs, batch, ...]` to the host."""
    tree = get(tree)
    if self.backend == "pmap":
      return jax.tree.map(join_batch, tree)
    return tree

  def compiled(self, lowered: jax.stages.Lowered) -> jax.stages.Compiled:
    """Compiles with what is best for the platform."""
    return lowered.compile(compiler_options=OPTIONS.get(self.platform))

  def select(self, mask: np.ndarray, new: PyTree, old: PyTree) -> PyTree:
    """Takes `new` for the runs in the mask, `old` for the others."""
    return _select(self.place_runs(mask), new, old)

  def _copy_to_all(self, tree: PyTree) -> PyTree:
    count = self.mesh.shape["data"]
    return jax.device_put(
      jax.tree.map(lambda x: np.broadcast_to(x, (count, *np.shape(x))), tree),
      self._sharding("data"),
    )


def item_axes(stacked: bool) -> tuple[str | None, ...]:
  """Over which axes of the mesh the first axes of an item are split."""
  return ("run", None, "data") if stacked else ("run", "data")


@jax.jit
def _select(mask, new, old):
  def pick(a, b):
    shape = mask.shape + (1,) * (a.ndim - mask.ndim)
    return jnp.where(mask.reshape(shape), a, b)

  return jax.tree.map(pick, new, old)


class Program:
  """A step, compiled ahead of time once for each shape it meets.

  Attributes:
    compile_seconds: by shape key; its length is the number of compilations.
  """

  def __init__(
    self,
    layout: Layout,
    function: Callable,
    *,
    trains: bool,
    name: str,
    stacked: bool = False,
  ):
    """Wraps a function of one run; nothing is compiled yet.

    Args:
      layout: where the arrays lie.
      function: `(state, item, statistics, constants, frames)` of one run, to
        `(state, metrics)` if it trains, else to arrays `[batch, ...]`.
      trains: whether the first argument is consumed and returned.
      name: for the log.
      stacked: whether an item is of several steps, see `Layout.place_item`.
    """
    self._layout, self._function = layout, function
    self._trains, self._name, self._stacked = trains, name, stacked
    self._executables = {}
    self.compile_seconds = {}

  def __call__(self, state, item, statistics, constants, frames):
    """Runs the step over all runs; arrays as `Layout` placed them.

    Raises:
      UserError: it needs more memory than the devices have.
    """
    # What is on the host then is meant to be: the guard would refuse it.
    meant = jax.transfer_guard_host_to_device("allow")
    at_host = self._layout.takes_host_arrays
    with (
      fitting(f"the {self._name}", LESS),
      meant if at_host else contextlib.nullcontext(),
    ):
      return self._call(state, item, statistics, constants, frames)

  def _call(self, state, item, statistics, constants, frames):
    if frames not in self._executables:
      start = time.perf_counter()
      lowered = self.lower(state, item, statistics, constants, frames)
      self._executables[frames] = self._layout.compiled(lowered)
      self.compile_seconds[frames] = time.perf_counter() - start
      LOG.info(
        "compiled %s%s in %.1f s",
        self._name,
        f" for {dict(frames)}" if frames else "",
        self.compile_seconds[frames],
      )
    return self._executables[frames](state, item, statistics, constants)

  def lower(
    self, state, item, statistics, constants, frames, platforms=None
  ) -> jax.stages.Lowered:
    """Lowers the step for arrays or their shapes; nothing is kept.

    Args:
      state: this and what follows as in a call.
      item: see there.
      statistics: see there.
      constants: see there.
      frames: see there.
      platforms: such as `("cuda", "tpu")`, not with `pmap`; by default that of
        the devices.

    Returns:
      The lowered step; it compiles where one of its platforms is.
    """
    function = functools.partial(self._function, frames=frames)
    mapped = self._mapped(function, self._layout.specs(state))
    if platforms is None:
      return mapped.lower(state, item, statistics, constants)
    traced = mapped.trace(state, item, statistics, constants)
    return traced.lower(lowering_platforms=platforms)

  def executable(self, frames) -> jax.stages.Compiled:
    """The compiled step of a shape that it has met."""
    return self._executables[frames]

  def _mapped(self, function: Callable, state: PyTree) -> Callable:
    """The function over the run axis, then over devices.

    Args:
      function: of one run.
      state: how its first argument is split.

    Returns:
      The compiled function, not compiled yet.
    """
    layout = self._layout
    over_runs = _over_runs(function, layout, trains=self._trains)
    donate = (0,) if self._trains else ()
    if layout.backend == "pmap":
      return jax.pmap(
        over_runs,
        axis_name="data",
        devices=layout.mesh.devices.ravel().tolist(),
        donate_argnums=donate,
      )
    run = PartitionSpec(*layout.run_axes)
    item = PartitionSpec(*item_axes(self._stacked))
    out = (state, run) if self._trains else item
    if layout.mesh.size > 1:
      # Left to itself, XLA reduces a recurrence's weight gradients at every
      # step of its scan; so each device does its own share, and what crosses
      # devices is what steps, models and losses reduce by name.
      over_runs = jax.shard_map(
        over_runs,
        mesh=layout.mesh,
        in_specs=(state, item, run, PartitionSpec()),
        out_specs=out,
        check_vma=False,
      )
    shardings = on_mesh(layout.mesh, out)
    if self._trains and jax.process_count() > 1:
      # Every process reads the metrics of every run: gathered by the step, not
      # by another program, which would wait for the step behind it.
      shardings = (shardings[0], on_mesh(layout.mesh, PartitionSpec()))
    return jax.jit(over_runs, donate_argnums=donate, out_shardings=shardings)


def _over_runs(function: Callable, layout: Layout, *, trains: bool) -> Callable:
  """Maps over the run axis of a device's arrays; one run is not batched."""

  def first(tree):
    return jax.tree.map(lambda x: x[0], tree)

  def only(tree):
    return jax.tree.map(lambda x: x[None], tree)

  def sole_run(state, item, statistics, constants):
    result = function(state, first(item), statistics, constants)
    return result if trains else only(result)

  def one_of_many(state, item, statistics, constants):
    return only(function(*first((state, item, statistics)), constants))

  if layout.size == 1:
    return sole_run
  if layout.size == layout.mesh.shape["run"]:
    return one_of_many
  return jax.vmap(function, in_axes=(0, 0, 0, None))
