import subprocess
import sys

import pytest

from ser_jax import memory

# A block of 64 MiB, as large as a step's temporaries, four times.
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


@pytest.mark.skipif(
  not memory.keep_freed(), reason="the C library is not glibc"
)
def test_the_second_step_finds_the_memory_of_the_first():
  found = {}
  for how in ("returned", "kept"):
    command = [sys.executable, "-c", FAULTS, how]
    output = subprocess.run(
      command, check=True, capture_output=True, text=True
    ).stdout
    found[how] = [int(x) for x in output.split()][1:]
  pages = (1 << 26) // 4096
  # As the kernel's huge pages may be, a fault is at least a page.
  assert max(found["kept"]) < pages / 1000
  assert min(found["returned"]) > max(found["kept"])
