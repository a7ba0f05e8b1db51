import platform
import subprocess
import sys

import pytest

# In processes of their own: what is kept is kept to the end.
pytestmark = pytest.mark.skipif(
  platform.libc_ver()[0] != "glibc", reason="the C library is not glibc"
)
SIZE = 1 << 26  # bytes of a block, as large as a step's temporaries
# Pages that four blocks of 64 MiB must be given, one after the other.
FAULTS = """
import resource
import sys
import numpy as np
from ser_jax import memory

if sys.argv[1] == "kept":
  memory.keep_freed()

def faults():
  before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
  np.empty(1 << 26, np.uint8)[::4096] = 1
  return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

print(*[faults() for _ in range(4)])
"""
# What is held with blocks that are freed one by one, those between them not.
PIECES = """
import time
import numpy as np
from ser_jax import memory

before = memory.held()
memory.keep_freed(limit=before + (8 << 26))
blocks = [np.ones(1 << 26, np.uint8) for _ in range(16)]
most = memory.held()
between = blocks[::4]
del blocks
deadline = time.monotonic() + 20
while memory.held() > before + (5 << 26) and time.monotonic() < deadline:
  time.sleep(0.1)
print(most - before, memory.held() - before, len(between))
"""


def run(code: str, *arguments: str) -> list[int]:
  command = [sys.executable, "-c", code, *arguments]
  done = subprocess.run(command, check=True, capture_output=True, text=True)
  return [int(x) for x in done.stdout.split()]


def test_the_second_step_finds_the_memory_of_the_first():
  kept, returned = (run(FAULTS, how)[1:] for how in ("kept", "returned"))
  # As the kernel's huge pages may be, a fault is at least a page.
  assert max(kept) < SIZE / 4096 / 1000
  assert min(returned) > max(kept)


def test_pieces_do_not_add_up():
  most, rest, between = run(PIECES)
  assert most > 15 * SIZE
  # Other pages that were free before go back, too: less than a block.
  assert (between - 1) * SIZE < rest < 6 * SIZE
