"""What a config asks of the devices that there are -> a layout over them."""

import logging
from collections.abc import Sequence

import jax
import numpy as np
from jax.sharding import AxisType, Mesh

from ser_jax.errors import UserError
from ser_jax.train.compile import Layout
from ser_jax.train.sharing import check_devices

LOG = logging.getLogger(__name__)
BACKENDS = ("jit", "pmap")
STATES = ("replicated", "sharded")
RUNS = ("loop", "vmap", "shard")


def device_kind(platform: str | None = None) -> str:
  """`cpu` or `accelerator`, for what configs have two settings of.

  Args:
    platform: `cpu`, `gpu` or `tpu`; None for that of this process.

  Returns:
    The kind.
  """
  platform = platform or jax.default_backend()
  return "cpu" if platform == "cpu" else "accelerator"


def make_layout(
  config,
  *,
  runs: int,
  batch_size: int,
  accumulate: int = 1,
  described: Sequence[jax.Device] | None = None,
) -> Layout:
  """Lays an experiment out over the devices that there are.

  Args:
    config: `backend`, `runs`, `data` (devices that share a batch, 0 for as many
      as `run` leaves and the batch divides by), `run` (devices along the run
      axis; 1 where `runs` is `shard`: as many as the runs divide by),
      `optimizer_state` (`replicated`, or `sharded` over the data axis).
    runs: of one program.
    batch_size: must divide by the devices of the data axis.
    accumulate: microbatches that each device's share must divide by.
    described: devices of elsewhere that programs are only compiled for, in
      place of those that there are.

  Returns:
    The layout.

  Raises:
    UserError: the devices, batch or runs do not divide.
  """
  _check_settings(config)
  devices = jax.devices() if described is None else list(described)
  along_run, along_data = config.run, config.data
  if config.runs == "shard":
    along_data = 1
    along_run = config.run if config.run > 1 else _sharing(len(devices), runs)
  if not along_data:
    along_data = _dividing(len(devices) // along_run, batch_size, accumulate)
    if along_data > 1:
      LOG.info(
        "each batch of %d is split over %d devices: where steps are small, "
        "config.parallel.runs=shard (a device trains runs of its own) or "
        "config.parallel.data=1 may be faster",
        *(batch_size, along_data),
      )
  size = 1 if config.runs == "loop" else runs
  if along_run * along_data > len(devices) or not along_data:
    raise UserError(
      f"config.parallel asks for {along_run} x {along_data} devices, there are "
      f"{len(devices)}: lower config.parallel.run or .data."
    )
  if config.optimizer_state == "sharded":
    check_devices(along_data)
  if batch_size % along_data:
    raise UserError(
      f"config.batch_size={batch_size} does not divide by the {along_data} "
      "devices of config.parallel.data: change one of them."
    )
  if (batch_size // along_data) % accumulate:
    raise UserError(
      f"config.batch_size={batch_size} over {along_data} devices does not "
      f"divide by config.accumulate={accumulate}: change one of them."
    )
  if size % along_run:
    raise UserError(
      f"the {size} runs of a program do not divide by the {along_run} devices "
      "of config.parallel.run: change config.seeds, folds, "
      "config.parallel.stack or that number."
    )
  if jax.process_count() > 1:
    _check_processes(config, along_run * along_data)
  mesh = _make_mesh(devices, along_run, along_data)
  return Layout(config.backend, config.runs, mesh, size, described is not None)


def _make_mesh(devices: list[jax.Device], run: int, data: int) -> Mesh:
  """As many of the devices as are asked for, neighbours along the axes.

  Which devices are neighbours JAX knows of whole TPU slices alone, and of other
  numbers than make a cuboid it says nothing but AssertionError.
  """
  shape, names = (run, data), ("run", "data")
  kinds = (AxisType.Auto, AxisType.Auto)
  if run * data == len(devices):
    return jax.make_mesh(shape, names, axis_types=kinds, devices=devices)
  chosen = np.array(devices[: run * data]).reshape(shape)
  return Mesh(chosen, names, axis_types=kinds)


def _check_settings(config) -> None:
  """Refuses settings that do not exist, or that others make void."""
  for field, known in (
    *(("backend", BACKENDS), ("runs", RUNS)),
    ("optimizer_state", STATES),
  ):
    found = getattr(config, field)
    if found not in known:
      raise UserError(
        f"config.parallel.{field}={found!r} is none of {', '.join(known)}."
      )
  pmap, spread = config.backend == "pmap", config.runs == "shard"
  sharded = config.optimizer_state == "sharded"
  for is_void, reason in (
    (
      pmap and sharded,
      "backend='pmap' keeps states on every device: set optimizer_state to "
      "'replicated', or backend to 'jit'.",
    ),
    (
      pmap and spread,
      "backend='pmap' splits batches, not runs: set runs to 'vmap' or 'loop', "
      "or backend to 'jit'.",
    ),
    (
      config.run > 1 and (pmap or config.runs == "loop"),
      f"run={config.run} is for runs that share a program: set runs to 'vmap' "
      "or 'shard' and backend to 'jit', or run to 1.",
    ),
    (
      spread and (config.data > 1 or sharded),
      "runs='shard' gives each device whole runs, no share of a batch or of "
      "states: set data to 0 and optimizer_state to 'replicated', or runs to "
      "'vmap' and run to the devices that runs are spread over.",
    ),
  ):
    if is_void:
      raise UserError(f"config.parallel: {reason}")


def _sharing(devices: int, runs: int) -> int:
  """As many of the devices as the runs divide by."""
  found = max(n for n in range(1, devices + 1) if runs % n == 0)
  if found < devices:
    LOG.warning(
      "the %d runs of a program divide by no more than %d of %d devices: the "
      "others idle",
      *(runs, found, devices),
    )
  return found


def _dividing(devices: int, batch_size: int, accumulate: int) -> int:
  """As many of the devices as each microbatch divides by."""
  counts = range(devices, 1, -1)
  fitting = (n for n in counts if batch_size % (n * accumulate) == 0)
  found = next(fitting, min(devices, 1))
  if found < devices:
    LOG.warning(
      "config.batch_size=%d (config.accumulate=%d) divides by no more than %d "
      "of %d devices: the others idle",
      *(batch_size, accumulate, found, devices),
    )
  return found


def _check_processes(config, used: int) -> None:
  """Refuses layouts in which a process would have nothing to do."""
  if config.backend == "pmap":
    raise UserError(
      "config.parallel.backend='pmap' is for one process: set it to 'jit', "
      "which is the same on a mesh."
    )
  if used != jax.device_count():
    raise UserError(
      f"config.parallel takes {used} of the {jax.device_count()} devices of "
      f"{jax.process_count()} processes: all must be in use. Change "
      "config.batch_size, config.parallel.run or .data, or the number of "
      "processes."
    )
