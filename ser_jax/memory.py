"""How the C library treats freed memory while a program trains.

On a CPU, XLA allocates the temporaries of a step, some hundreds of megabytes,
when it starts, and frees them when it ends. glibc hands such blocks back to the
kernel, which clears them again, page by page, in the next step: up to half of a
step's time. README.md has the figures.
"""

import ctypes
import sys

# Parameters of mallopt(3).
TRIM_THRESHOLD, MMAP_THRESHOLD, MMAP_MAX, ARENA_MAX = -1, -3, -4, -8
_NEVER = -1


def keep_freed() -> bool:
  """Keeps what is freed in the process, for its next step.

  It then holds about twice the memory that a step needs at most. There is one
  arena, as threads that have their own map its large blocks one by one.

  Returns:
    Whether the C library listens: glibc's does.
  """
  wanted = {TRIM_THRESHOLD: _NEVER, MMAP_MAX: 0, ARENA_MAX: 1}
  return all([set_parameter(*item) for item in wanted.items()])


def set_parameter(parameter: int, value: int) -> bool:
  """Calls mallopt(3); whether there is one that takes the value."""
  if not sys.platform.startswith("linux"):
    return False
  mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
  return mallopt is not None and mallopt(parameter, value) == 1
