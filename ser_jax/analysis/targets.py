"""Accelerators that are not here, described well enough to compile for them.

XLA's compilers for TPUs and GPUs need no device, only what is told of one: for
TPUs libtpu knows its slices by name, for GPUs here is what a data sheet says.
What is compiled so is what such a device would be given, but for choices that
XLA makes by trying kernels out (autotuning), where it takes its defaults.
"""

import dataclasses
import os
import re

import jax
from jax.experimental import topologies

from ser_jax.analysis.roofline import DEVICES
from ser_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class _Gpu:
  """What XLA asks about a GPU, beyond `DEVICES`.

  Attributes:
    major: of the compute capability.
    minor: of it.
    cores: streaming multiprocessors.
    lanes: of each, for float32.
    clock: in GHz, at most.
    shared: memory of each, in KiB.
    l2: cache, in MiB.
    memory: in GB.
    threads: that a multiprocessor holds at most.
  """

  major: int
  minor: int
  cores: int
  lanes: int
  clock: float
  shared: int
  l2: int
  memory: int
  threads: int = 2048


GPUS = {
  "NVIDIA B200": _Gpu(10, 0, 148, 128, 1.965, 228, 126, 191),
  "NVIDIA H200": _Gpu(9, 0, 132, 128, 1.98, 228, 50, 151),
  "NVIDIA H100 80GB HBM3": _Gpu(9, 0, 132, 128, 1.98, 228, 50, 85),
  "NVIDIA A100-SXM4-80GB": _Gpu(8, 0, 108, 64, 1.41, 164, 40, 85),
  "NVIDIA A100-SXM4-40GB": _Gpu(8, 0, 108, 64, 1.41, 164, 40, 42),
  "NVIDIA L4": _Gpu(8, 9, 58, 128, 2.04, 100, 48, 24, threads=1536),
}
TPUS = ("v5e", "v5p", "v6e")


def describe_devices(target: str) -> list[jax.Device]:
  """The devices that a target names.

  A process that has not asked for its devices yet computes on the CPU alone
  from then on: whatever accelerators it may have are left to others.

  Args:
    target: a slice of TPUs, in chips, as `v5e:2x4`, or GPUs of one host and
      how many, as `NVIDIA H200:8`.

  Returns:
    Devices to compile for; nothing can be put on them.

  Raises:
    UserError: no such target, or its compiler is not installed.
  """
  field = f"config.analysis.target={target!r}"
  name, _, size = target.partition(":")
  if name not in (*TPUS, *GPUS):
    raise UserError(
      f"{field} is no target: give a slice of TPUs, such as 'v5e:2x4' "
      f"({', '.join(TPUS)}), or GPUs, such as 'NVIDIA H200' or 'NVIDIA H200:8' "
      f"({', '.join(GPUS)})."
    )
  jax.config.update("jax_platforms", "cpu")
  return (_tpus if name in TPUS else _gpus)(field, name, size)


def _tpus(field: str, generation: str, size: str) -> list[jax.Device]:
  no_slice = (
    f"{field} is no slice that libtpu knows: give its shape in chips, such as "
    f"{generation}:2x2{'x1' * (generation == 'v5p')}."
  )
  dimensions = 3 if generation == "v5p" else 2
  if not re.fullmatch("x".join([r"[1-9][0-9]*"] * dimensions), size):
    raise UserError(no_slice)
  # Or libtpu complains that off Google's machines nobody tells it what it is.
  os.environ["TPU_ACCELERATOR_TYPE"] = "v5litepod-1"
  os.environ["TPU_WORKER_HOSTNAMES"] = "localhost"
  # Nothing here touches a chip that another process might use.
  os.environ["ALLOW_MULTIPLE_LIBTPU_LOAD"] = "1"
  x, y, *_ = map(int, size.split("x"))
  try:
    found = topologies.get_topology_desc(
      platform="tpu",
      topology_name=f"{generation}:{size}",
      chips_per_host_bounds=(min(x, 2), min(y, 2), 1),
    )
  except RuntimeError as error:
    if "support not installed" in str(error):
      raise UserError(
        f"{field} needs the TPUs' compiler, which runs without a TPU, too: pip "
        "install 'ser_jax[tpu]'."
      ) from error
    raise UserError(f"{no_slice} ({' '.join(str(error).split()):.200})") from (
      error
    )
  return found.devices


def _gpus(field: str, name: str, size: str) -> list[jax.Device]:
  if not re.fullmatch(r"[1-9][0-9]*", size or "1"):
    raise UserError(
      f"{field}: {size!r} is no number of GPUs; '{name}:8' are eight in one "
      "host."
    )
  try:
    found = topologies.get_topology_desc(
      name,
      "cuda",
      target_config=_told(name),
      topology=f"1x1x{size or 1}",  # slices, hosts, devices
    )
  except NotImplementedError as error:
    raise UserError(
      f"{field} needs the GPUs' compiler, which runs without a GPU, too: pip "
      "install 'ser_jax[cuda]'."
    ) from error
  except RuntimeError as error:
    reason = " ".join(str(error).split())
    raise UserError(
      f"{field} is refused by the GPUs' compiler ({reason:.200}): install the "
      "version that JAX names, pip install 'ser_jax[cuda]'."
    ) from error
  return found.devices


def _told(name: str) -> str:
  """A GPU in XLA's words (`GpuTargetConfigProto`, as text)."""
  gpu = GPUS[name]
  # From Hopper on XLA's kernels use what only that very generation has.
  special = "ACCELERATED_FEATURES" if gpu.major >= 9 else "NONE"
  facts = {
    "threads_per_block_limit": 1024,
    "threads_per_warp": 32,
    "shared_memory_per_block": 48 * 2**10,
    "shared_memory_per_core": gpu.shared * 2**10,
    "shared_memory_per_block_optin": (gpu.shared - 1) * 2**10,
    "threads_per_core_limit": gpu.threads,
    "core_count": gpu.cores,
    "fpus_per_core": gpu.lanes,
    "block_dim_limit_x": 2**31 - 1,
    "block_dim_limit_y": 2**16 - 1,
    "block_dim_limit_z": 2**16 - 1,
    "memory_bandwidth": int(DEVICES[name]["tf32"].bytes),
    "l2_cache_size": gpu.l2 * 2**20,
    "clock_rate_ghz": gpu.clock,
    "device_memory_size": gpu.memory * 10**9,
    "registers_per_core_limit": 2**16,
    "registers_per_block_limit": 2**16,
  }
  told = " ".join(f"{field}: {value}" for field, value in facts.items())
  return (
    f"gpu_device_info {{ {told} cuda_compute_capability {{ major: {gpu.major} "
    f"minor: {gpu.minor} feature_extension: {special} }} }} "
    'platform_name: "CUDA" dnn_version_info { major: 9 minor: 10 } '
    f'device_description_str: "{name}"'
  )
