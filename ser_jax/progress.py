"""A bar for whom sits before it; in a file, a line every ten seconds."""

import sys
import time
from collections.abc import Iterable, Iterator, Sized

from tqdm import tqdm

SECONDS = 10.0


class _Lines:
  """What is used here of a bar, as lines on standard error."""

  def __init__(self, items: Iterable, name: str, unit: str, total: int):
    self._items, self._name, self._unit = items, name, unit
    self._total, self._done = total, 0
    self._start = self._told = time.monotonic()

  def __enter__(self) -> "_Lines":
    return self

  def __exit__(self, *error) -> None:
    pass

  def __iter__(self) -> Iterator:
    for item in self._items:
      yield item
      self.update(1)

  def update(self, count: int) -> None:
    self._done += count
    now = time.monotonic()
    if now - self._told < SECONDS:
      return
    self._told = now
    left = (now - self._start) * (self._total / self._done - 1)
    print(
      f"{self._name}: {self._done} of {self._total} {self._unit}s, "
      f"{left:.0f} s left",
      file=sys.stderr,
      flush=True,
    )


def progress(
  items: Iterable | Sized, name: str, unit: str, total: int | None = None
) -> tqdm | _Lines:
  """Tells on standard error how far a loop has come.

  Args:
    items: what is gone through; or, for who calls `update`, what is counted.
    name: of what is done.
    unit: of the items.
    total: their number, if they do not know it.

  Returns:
    The items, to go through; a context manager with `update`.
  """
  total = len(items) if total is None else total
  if sys.stderr.isatty():
    return tqdm(items, desc=name, unit=unit, total=total)
  return _Lines(items, name, unit, total)
