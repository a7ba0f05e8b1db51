"""Files that are whole: written beside and moved into place, read or refused.

A kill leaves either the old file or the new one.
"""

import contextlib
import json
import os
import pathlib
import zipfile
import zlib
from collections.abc import Iterator

import numpy as np

from ser_jax.errors import UserError


@contextlib.contextmanager
def naming(path: pathlib.Path) -> Iterator[None]:
  """Lets errors of the system name a file: those of a full disk name none."""
  try:
    yield
  except OSError as error:
    error.filename = str(path)
    raise


@contextlib.contextmanager
def replacing(path: pathlib.Path) -> Iterator[pathlib.Path]:
  """A place to write to, which becomes the file when all went well.

  Of this process alone: others may write the same file; the last one has it.
  """
  temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
  try:
    with naming(path):
      yield temporary
      os.replace(temporary, path)
  finally:
    temporary.unlink(missing_ok=True)


def write_text(path: pathlib.Path, text: str) -> None:
  """Replaces a file's text in one move; names of files keep their bytes."""
  with replacing(path) as temporary:
    temporary.write_text(text, encoding="utf-8", errors="surrogateescape")


def write_arrays(path: pathlib.Path, arrays: dict[str, np.ndarray]) -> None:
  """Replaces an .npz file in one move; its folder is made if absent."""
  path.parent.mkdir(parents=True, exist_ok=True)
  with replacing(path) as temporary, open(temporary, "wb") as file:
    np.savez_compressed(file, **arrays)


# What files end in that are not what they should be.
_UNREADABLE = (
  *(OSError, ValueError, EOFError, TypeError, RuntimeError),
  *(zipfile.BadZipFile, zlib.error),
)


@contextlib.contextmanager
def _reading(what: object, remedy: str) -> Iterator[None]:
  """Says of what cannot be read what to do."""
  try:
    yield
  except _UNREADABLE as error:
    raise UserError(f"{what} cannot be read ({error}): {remedy}") from error


def read_json(path: pathlib.Path, remedy: str) -> dict:
  """Reads a JSON file of fields by name.

  Args:
    path: the file.
    remedy: what to do if it cannot be read.

  Raises:
    UserError: it cannot be read.
  """
  with _reading(path, remedy):
    return _fields(path.read_text(encoding="utf-8"))


def read_lines(path: pathlib.Path, remedy: str) -> list[dict]:
  """Reads a file with fields by name in every line.

  Args:
    path: the file.
    remedy: what to do if it cannot be read.

  Returns:
    The lines; what a kill cut short after the last of them is none.

  Raises:
    UserError: it cannot be read.
  """
  with _reading(path, remedy):
    whole = path.read_text(encoding="utf-8").split("\n")[:-1]
  found = []
  for number, line in enumerate(whole, 1):
    with _reading(f"line {number} of {path}", remedy):
      found.append(_fields(line))
  return found


def _fields(text: str) -> dict:
  found = json.loads(text)
  if not isinstance(found, dict):
    raise ValueError(f"it holds a {type(found).__name__}, not fields by name")
  return found


def read_arrays(path: pathlib.Path, remedy: str) -> dict[str, np.ndarray]:
  """Reads an .npz file.

  Args:
    path: the file.
    remedy: what to do if it cannot be read.

  Raises:
    UserError: it cannot be read.
  """
  with _reading(path, remedy), np.load(path) as stored:
    return dict(stored)
