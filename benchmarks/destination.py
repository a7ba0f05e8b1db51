"""Where results go: known to be writable before anything is measured."""

import argparse
import pathlib
import tempfile


def destination(text: str) -> pathlib.Path:
  """A file to write, whose folder is made: a `type` of argparse."""
  path = pathlib.Path(text)
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=path.parent):
      return path
  except OSError as error:
    raise argparse.ArgumentTypeError(
      f"{path} cannot be written ({error.strerror}): choose another"
    ) from error
