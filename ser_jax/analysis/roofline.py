"""Device peaks, and the least time that a program's work can take.

The roofline model (Williams et al. 2009): work is bound by products, memory or
links, whichever takes longest at its peak.
"""

import dataclasses
import functools
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array

from ser_jax.analysis.categories import PRODUCTS
from ser_jax.analysis.cost import Op
from ser_jax.errors import UserError
from ser_jax.train.optimizers import parse_arguments
from ser_jax.train.precision import products


@dataclasses.dataclass(frozen=True)
class Peaks:
  """What a device can do at most.

  Attributes:
    name: of the device, and where the figures are from.
    flops: FLOP/s of products by operand type.
    bytes: of memory, a second.
    link: bytes a second that a device can send to others; 0 where unknown.
  """

  name: str
  flops: dict[str, float]
  bytes: float
  link: float = 0.0


def _gpu(
  name: str, full: float, tf32: float, half: float, memory: float, link: float
) -> dict[str, Peaks]:
  """Dense rates of a data sheet, for each `config.precision`."""
  return _each(
    name, {"float32": full, "tf32": tf32, "bfloat16": tf32}, half, memory, link
  )


def _tpu(
  name: str, bf16: float, memory: float, link: float
) -> dict[str, Peaks]:
  """Google's figures; a product of float32 is one of six of bfloat16."""
  passes = {"float32": 6, "tf32": 3, "bfloat16": 1}
  rates = {precision: bf16 / times for precision, times in passes.items()}
  return _each(name, rates, bf16, memory, link)


def _each(name: str, rates: dict, half: float, memory: float, link: float):
  return {
    precision: Peaks(
      name,
      {"f32": rate * 1e12, "f16": half * 1e12, "bf16": half * 1e12},
      memory * 1e9,
      link * 1e9,
    )
    for precision, rate in rates.items()
  }


# TFLOP/s of float32, TF32 and bfloat16 (TPUs: bfloat16), GB/s, GB/s sent: the
# makers' data sheets, without sparsity.
DEVICES = {
  peaks["tf32"].name: peaks
  for peaks in (
    _gpu("NVIDIA B200", 75, 1100, 2250, 7700, 900),
    _gpu("NVIDIA H200", 66.9, 494.7, 989.4, 4800, 450),
    _gpu("NVIDIA H100 80GB HBM3", 66.9, 494.7, 989.4, 3350, 450),
    _gpu("NVIDIA A100-SXM4-80GB", 19.5, 156, 312, 2039, 300),
    _gpu("NVIDIA A100-SXM4-40GB", 19.5, 156, 312, 1555, 300),
    _gpu("Tesla V100-SXM2-16GB", 15.7, 15.7, 125, 900, 150),
    _gpu("NVIDIA L4", 30.3, 60, 121, 300, 32),
    _tpu("TPU v4", 275, 1228, 300),
    _tpu("TPU v5 lite", 197, 819, 200),
    _tpu("TPU v5", 459, 2765, 600),
    _tpu("TPU v6 lite", 918, 1640, 448),
  )
}


def find_peaks(
  text: str, device: jax.Device, devices: int, precision: str
) -> Peaks:
  """The peaks that a program is held against.

  Args:
    text: `config.analysis.peaks`: empty for this device, a name of `DEVICES`,
      or figures such as `'flops=67e12,bytes=4.8e12,link=450e9'`.
    device: where the program runs; measured if it is not in the table.
    devices: that share the host, if the device is its CPU.
    precision: of float32 products, `config.precision`.

  Returns:
    The peaks of one device.

  Raises:
    UserError: a name or a figure that does not exist.
  """
  if text in DEVICES:
    peaks = DEVICES[text][precision]
    if device.platform != "cpu" or precision != "bfloat16":
      return peaks
    # CPUs multiply as float32 what an accelerator would as bfloat16.
    flops = peaks.flops | {"f32": peaks.flops["bf16"]}
    return dataclasses.replace(peaks, flops=flops)
  if "=" in text:
    example = "flops=67e12,bytes=4.8e12"
    given = parse_arguments(text, "config.analysis.peaks", example)
    if not {"flops", "bytes"} <= given.keys() <= {"flops", "bytes", "link"}:
      raise UserError(
        f"config.analysis.peaks={text!r} must give flops and bytes, and may "
        "give link, all a second, for example 'flops=67e12,bytes=4.8e12'."
      )
    figures = list(given.values())
    if not all(isinstance(x, int | float) and x > 0 for x in figures):
      raise UserError(
        f"config.analysis.peaks={text!r} has a figure that is not a number "
        "above 0."
      )
    return Peaks(
      "config.analysis.peaks",
      {"f32": float(given["flops"])},
      float(given["bytes"]),
      float(given.get("link", 0.0)),
    )
  if text:
    raise UserError(
      f"config.analysis.peaks={text!r} is no known device: choose from "
      f"{', '.join(DEVICES)}, or give figures: 'flops=67e12,bytes=4.8e12'."
    )
  if device.device_kind in DEVICES:
    return DEVICES[device.device_kind][precision]
  found = measure(device, precision)
  if device.platform != "cpu" or devices == 1:
    return found
  return Peaks(
    f"{found.name}, shared by {devices} devices",
    {dtype: rate / devices for dtype, rate in found.flops.items()},
    found.bytes / devices,
  )


@functools.cache
def measure(device: jax.Device, precision: str) -> Peaks:
  """Peaks seen on a device: of products, and of a copy of 256 MB.

  Args:
    device: to measure.
    precision: of float32 products, `config.precision`; with bfloat16 products
      of that type are measured, too.

  Returns:
    The peaks.
  """
  size, count = 2048, 64 * 2**20
  # An accelerator is done before the next call reaches it.
  times = 1 if device.platform == "cpu" else 32
  dtypes = {"f32": jnp.float32}
  if precision == "bfloat16":
    dtypes["bf16"] = jnp.bfloat16
  flops = {}
  with jax.default_matmul_precision(products(precision)):
    for name, dtype in dtypes.items():
      # Its own square.
      matrix = jax.device_put(jnp.full((size, size), 1 / size, dtype), device)
      seconds = _fastest(lambda x: x @ x, matrix, times)
      flops[name] = 2 * size**3 / seconds
  vector = jax.device_put(jnp.ones(count, jnp.float32), device)
  copy = _fastest(lambda x: x + 1.0, vector, times)
  return Peaks(f"{device.device_kind}, measured", flops, 2 * 4 * count / copy)


def _fastest(
  function: Callable[[Array], Array], x: Array, times: int, repeats: int = 5
) -> float:
  """Seconds of a function, done some times a call, in the fastest call."""

  @jax.jit
  def call(x):
    for _ in range(times):
      x = jax.lax.optimization_barrier(function(x))
    return x

  jax.block_until_ready(call(x))
  seconds = []
  for _ in range(repeats):
    start = time.perf_counter()
    jax.block_until_ready(call(x))
    seconds.append(time.perf_counter() - start)
  return min(seconds) / times


def roofline(ops: list[Op], border: int, peaks: Peaks) -> dict:
  """The least time of a program, and what binds it.

  Args:
    ops: of one device's program.
    border: bytes that it must read or write.
    peaks: of that device.

  Returns:
    `seconds` of products, memory (each argument and result once) and links at
    their peaks; `floor`, the longest of them, and `bound`, its name. Then
    `uncached`, the same where every instruction in turn reads from and writes
    to memory, and `uncached_shares`, how much of it each bound takes.
  """
  seconds = {"products": 0.0, "memory": border / peaks.bytes, "links": 0.0}
  by_op = dict.fromkeys(seconds, 0.0)
  for op in ops:
    rate = peaks.flops.get(op.dtype, peaks.flops["f32"])
    each = {
      "products": sum(op.flops.get(kind, 0) for kind in PRODUCTS) / rate,
      "memory": op.bytes / peaks.bytes,
      "links": op.wire / peaks.link if peaks.link else 0.0,
    }
    bound = max(each, key=each.get)
    by_op[bound] += op.times * each[bound]
    for name in ("products", "links"):
      seconds[name] += op.times * each[name]
  bound = max(seconds, key=seconds.get)
  total = sum(by_op.values())
  return {
    "peaks": dataclasses.asdict(peaks),
    "seconds": seconds,
    "floor": seconds[bound],
    "bound": bound,
    "uncached": total,
    "uncached_shares": {
      name: value / total if total else 0.0 for name, value in by_op.items()
    },
  }
