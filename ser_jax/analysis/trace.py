"""`jax.profiler` traces: written around steps, read without a GUI.

A trace folder opens in xprof and, its `*.trace.json.gz`, in Perfetto; the same
file is read here.
"""

import collections
import contextlib
import dataclasses
import gzip
import json
import logging
import pathlib
from collections.abc import Callable, Iterable, Iterator

import jax

from ser_jax.errors import UserError
from ser_jax.train import processes

LOG = logging.getLogger(__name__)
# The profiler writes no more events than this to the JSON file.
EVENT_LIMIT = 1_000_000


@dataclasses.dataclass(frozen=True)
class Event:
  """One execution of an instruction.

  Attributes:
    device: that executed it.
    name: of the instruction in the HLO, or of the kernel where that is unknown.
    start: in seconds.
    end: likewise.
  """

  device: str
  name: str
  start: float
  end: float


def check(config) -> None:
  """Refuses a number of steps that cannot be traced.

  Raises:
    UserError: it is out of range.
  """
  for field, least in (("steps", 1), ("skip", 0)):
    if config[field] < least:
      raise UserError(
        f"config.profile.{field}={config[field]} must be at least {least}."
      )


@contextlib.contextmanager
def tracing(
  config, workdir: pathlib.Path, should_stop: Callable[[], bool]
) -> Iterator[Callable[[], bool]]:
  """Traces some steps of a training, if its config asks for that.

  Args:
    config: the whole config; `profile` is read.
    workdir: the trace goes to its folder `trace`.
    should_stop: asked after each step.

  Yields:
    What a training should ask instead: it starts and stops the trace.

  Raises:
    UserError: `config.profile` is out of range.
  """
  if not config.profile.during_training:
    yield should_stop
    return
  check(config.profile)
  first, folder = config.profile.skip, own_folder(workdir / "trace")
  done, stack = 0, contextlib.ExitStack()

  def asked() -> bool:
    nonlocal done
    done += 1
    if done == first:
      stack.enter_context(trace(folder))
    elif done == first + config.profile.steps:
      stack.close()
      LOG.info("steps %d to %d are traced in %s", first + 1, done, folder)
    return should_stop()

  with stack:
    if first == 0:
      stack.enter_context(trace(folder))
    yield asked
  if done < first:
    LOG.warning(
      "nothing was traced: the training took %d steps, fewer than "
      "config.profile.skip=%d",
      done,
      first,
    )


def own_folder(folder: pathlib.Path) -> pathlib.Path:
  """Where this process traces to: its devices are not those of the others."""
  if processes.primary():
    return folder
  return folder.with_name(f"{folder.name}-process{jax.process_index()}")


@contextlib.contextmanager
def trace(folder: pathlib.Path) -> Iterator[None]:
  """Traces what happens inside, without Python's own calls."""
  options = jax.profiler.ProfileOptions()
  options.python_tracer_level = 0
  with jax.profiler.trace(folder, profiler_options=options):
    yield


def read(folder: pathlib.Path) -> list[dict]:
  """The events of the newest trace in a folder, in Chrome's format.

  Raises:
    UserError: there is none.
  """
  files = sorted(folder.rglob("*.trace.json.gz"))
  if not files:
    raise UserError(f"{folder} holds no trace: *.trace.json.gz is missing.")
  newest = max(files, key=lambda path: path.stat().st_mtime)
  with gzip.open(newest, "rt") as file:
    return json.load(file)["traceEvents"]


def executions(events: Iterable[dict]) -> list[Event]:
  """What the devices executed.

  An accelerator is a process of the trace and its streams are threads; the CPU
  executes in threads of the host, whose events name their instruction.

  Args:
    events: as read.

  Returns:
    The executions, loops and calls among them.
  """
  events = list(events)
  named = {"process_name": {}, "thread_name": {}}
  for event in events:
    if event.get("ph") == "M" and event["name"] in named:
      key = (event["pid"], event.get("tid"))
      key = key if event["name"] == "thread_name" else event["pid"]
      named[event["name"]][key] = event["args"]["name"]
  devices = {
    pid: name
    for pid, name in named["process_name"].items()
    if name.startswith("/device:") and "CUSTOM" not in name
  }
  threads = {
    key: name for key, name in named["thread_name"].items() if key[0] in devices
  }
  # Other lines repeat the streams by module, by step and by operation.
  streams = {key for key, name in threads.items() if "Stream" in name} or {
    key for key, name in threads.items() if name == "XLA Ops"
  }
  found = []
  for event in events:
    arguments = event.get("args", {})
    if event.get("ph") != "X":
      continue
    if (event["pid"], event["tid"]) in streams:
      device = devices[event["pid"]]
    elif not streams and "hlo_op" in arguments:
      device = arguments.get("device_ordinal", "0")
    else:
      continue
    start = event["ts"] * 1e-6
    name = arguments.get("hlo_op", event["name"])
    found.append(Event(device, name, start, start + event["dur"] * 1e-6))
  return found


def busy_share(events: list[Event]) -> dict[str, float]:
  """The share of the traced time in which each device executes something.

  Args:
    events: without loops and calls, which only hold others.

  Returns:
    Device to its share of the time from the first start to the last end.
  """
  if not events:
    return {}
  window = max(e.end for e in events) - min(e.start for e in events)
  by_device = collections.defaultdict(list)
  for event in events:
    by_device[event.device].append((event.start, event.end))
  return {
    device: covered(spans) / window
    for device, spans in sorted(by_device.items())
  }


def covered(spans: Iterable[tuple[float, float]]) -> float:
  """The length of the union of some intervals."""
  total, reach = 0.0, float("-inf")
  for start, end in sorted(spans):
    total += max(0.0, end - max(start, reach))
    reach = max(reach, end)
  return total


def top(events: list[Event], count: int) -> list[dict]:
  """The instructions that take longest in all.

  Args:
    events: without loops and calls.
    count: how many to name.

  Returns:
    Rows of `name`, `seconds` over all devices, `executed` and `share`.
  """
  seconds, executed = collections.Counter(), collections.Counter()
  for event in events:
    seconds[event.name] += event.end - event.start
    executed[event.name] += 1
  total = sum(seconds.values())
  return [
    {
      "name": name,
      "seconds": each,
      "executed": executed[name],
      "share": each / total,
    }
    for name, each in seconds.most_common(count)
  ]
