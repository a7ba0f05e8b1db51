"""How the C library treats freed memory while a program trains.

On a CPU, XLA allocates the temporaries of a step, some hundreds of megabytes,
when it starts, and frees them when it ends. glibc hands such blocks back to the
kernel, which clears them again, page by page, in the next step: up to half of a
step's time. benchmarks/README.md has the figures.
"""

import ctypes
import os
import pathlib
import sys
import threading
import time

# Parameters of mallopt(3).
TRIM_THRESHOLD, MMAP_MAX, ARENA_MAX = -1, -4, -8
_NEVER = -1
_SECONDS = 0.5  # between two looks at what the process holds
_keeping = threading.Lock()  # held from the first call of `keep_freed`


def keep_freed(limit: int | None = None) -> bool:
  """Keeps what is freed in the process, for its next step.

  What is kept lies in pieces, and pieces of the wrong size would add up: when
  the process holds more than the limit, all that is free is given back. There
  is one arena, as threads that have their own map its large blocks one by one.

  Args:
    limit: in bytes; by default a quarter of the machine's memory. What counts
      is the first call's.

  Returns:
    Whether the C library listens: glibc's does.
  """
  wanted = {TRIM_THRESHOLD: _NEVER, MMAP_MAX: 0, ARENA_MAX: 1}
  listens = all([set_parameter(*item) for item in wanted.items()])
  if listens and _keeping.acquire(blocking=False):
    limit = _memory() // 4 if limit is None else limit
    threading.Thread(target=_bound, args=(limit,), daemon=True).start()
  return listens


def set_parameter(parameter: int, value: int) -> bool:
  """Calls mallopt(3); whether there is one that takes the value."""
  if not sys.platform.startswith("linux"):
    return False
  mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
  return mallopt is not None and mallopt(parameter, value) == 1


def held() -> int:
  """Bytes that the process holds (Linux)."""
  pages = pathlib.Path("/proc/self/statm").read_text().split()[1]
  return int(pages) * os.sysconf("SC_PAGE_SIZE")


def _memory() -> int:
  """Bytes of the machine, or of the container if it has fewer."""
  found = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
  try:
    text = pathlib.Path("/sys/fs/cgroup/memory.max").read_text().strip()
  except OSError:
    return found
  return min(found, int(text)) if text.isdecimal() else found


def _bound(limit: int) -> None:
  """Gives back what is free whenever the process holds too much."""
  trim = ctypes.CDLL(None).malloc_trim
  while True:
    time.sleep(_SECONDS)
    if held() > limit:
      trim(0)
