"""What the readers share: finding audio files and checking counts."""

import collections
import pathlib
from collections.abc import Iterable, Mapping

from data_prep.utterance import Utterance
from ser_jax.errors import UserError

AUDIO_SUFFIXES = (".wav", ".flac")


def find_audio(raw: pathlib.Path, pattern: str = "*") -> list[pathlib.Path]:
  """Every WAV or FLAC file under a folder, however deep, sorted by stem.

  Files that macOS leaves beside the real ones (`._name`) are passed over.

  Args:
    raw: the corpus as unpacked.
    pattern: a glob that the stem must match.

  Returns:
    The files.

  Raises:
    UserError: no such folder, or two files of one stem.
  """
  if not raw.is_dir():
    raise UserError(
      f"--raw={raw} is not a folder: give the folder that the corpus was "
      "unpacked into."
    )
  found = {}
  for path in sorted(raw.rglob(f"{pattern}.*")):
    if path.suffix.lower() not in AUDIO_SUFFIXES or path.name.startswith("._"):
      continue
    if path.stem in found:
      raise UserError(
        f"{path.stem} is in the raw folder twice: {found[path.stem]} and "
        f"{path}. Point --raw at one copy of the corpus, or delete the other."
      )
    found[path.stem] = path
  return [found[stem] for stem in sorted(found)]


def unknown_name(path: pathlib.Path, corpus: str, scheme: str) -> UserError:
  """The error for a file that is not named as the corpus names its files."""
  return UserError(
    f"{path} is not named as {corpus} names its files ({scheme}): move files "
    "that do not belong to the corpus out of the raw folder."
  )


def check_total(
  utterances: list[Utterance],
  corpus: str,
  raw: pathlib.Path,
  total: int,
  *,
  allow_partial: bool,
) -> None:
  """Compares the number of utterances with the published one.

  Raises:
    UserError: none at all; or another number, unless that is allowed.
  """
  if not utterances:
    raise UserError(
      f"--raw={raw} has no utterance of {corpus}: give the folder that the "
      "corpus was unpacked into (WAV or FLAC)."
    )
  if len(utterances) != total and not allow_partial:
    raise UserError(
      f"{corpus} has {total} utterances, {raw} has {len(utterances)}: unpack "
      "the corpus again, or pass --allow-partial to go on with what is there."
    )


def check_labels(
  labels: Iterable[str],
  corpus: str,
  known: Mapping[str, int],
  *,
  allow_partial: bool,
) -> None:
  """Compares the number of utterances of each label with the published ones.

  Raises:
    UserError: another number for some label, unless that is allowed.
  """
  counts = collections.Counter(labels)
  wrong = [
    f"{counts[name]} of {name} (should be {number})"
    for name, number in known.items()
    if counts[name] != number
  ]
  if wrong and not allow_partial:
    raise UserError(
      f"{corpus}: found {', '.join(wrong)}: files are missing or labels were "
      "changed; unpack the corpus again, or pass --allow-partial to go on."
    )
