"""Files written beside and moved into place.

A kill leaves either the old file or the new one.
"""

import contextlib
import os
import pathlib
from collections.abc import Iterator

import numpy as np


@contextlib.contextmanager
def replacing(path: pathlib.Path) -> Iterator[pathlib.Path]:
  """A place to write to, which becomes the file when all went well.

  Of this process alone: others may write the same file; the last one has it.
  """
  temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
  try:
    yield temporary
    os.replace(temporary, path)
  finally:
    temporary.unlink(missing_ok=True)


def write_text(path: pathlib.Path, text: str) -> None:
  """Replaces a file's text in one move."""
  with replacing(path) as temporary:
    temporary.write_text(text)


def write_arrays(path: pathlib.Path, arrays: dict[str, np.ndarray]) -> None:
  """Replaces an .npz file in one move; its folder is made if absent."""
  path.parent.mkdir(parents=True, exist_ok=True)
  with replacing(path) as temporary, open(temporary, "wb") as file:
    np.savez_compressed(file, **arrays)
