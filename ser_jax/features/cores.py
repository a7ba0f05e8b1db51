"""How many processes can make features at once."""

import os


def available() -> int:
  """Cores that this process may use; all of them where nothing tells."""
  if hasattr(os, "sched_getaffinity"):  # macOS has it not
    return len(os.sched_getaffinity(0))
  return os.cpu_count() or 1
