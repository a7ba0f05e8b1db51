"""Utterances + a feature set -> TFDS array_record shards with provenance.

The folder appears under its name when it is complete, by one rename; until
then all is in a sibling, `NAME.partial`, from which a stopped build goes on.
"""

import collections
import contextlib
import dataclasses
import fcntl
import hashlib
import io
import json
import os
import pathlib
import shutil
from collections.abc import Iterator, Sequence

import numpy as np

from data_prep import excerpt, extract
from data_prep.extract import Recording
from data_prep.skipped import Skipped
from data_prep.utterance import ATTRIBUTES, Utterance
from ser_jax.errors import UserError
from ser_jax.features.sets import FEATURE_SETS, FeatureSet
from ser_jax.progress import progress

FORMAT = 3
SPLIT = "utterances"
# What makes two builds the same; the rest of the metadata is provenance.
IDENTITY = ("format", "corpus", "features", "recipe", "digest", "labels")
LOCK = "lock"
WORDS = ("id", "speaker", "session", "gender", "emotion")


def write_shards(
  utterances: Sequence[Utterance],
  corpus: str,
  features: str,
  out: pathlib.Path,
  *,
  workers: int,
  skip_bad: bool = False,
  overwrite: bool = False,
) -> tuple[dict, bool]:
  """Extracts features and writes the shards.

  Args:
    utterances: the corpus.
    corpus: its name.
    features: name of the feature set.
    out: the folder to make.
    workers: processes; 0 works in this one.
    skip_bad: go on without recordings that cannot be used.
    overwrite: replace a finished folder.

  Returns:
    The metadata of `out`, and whether it was written now (False: it was there,
    made of the same recordings, labels and recipe).

  Raises:
    UserError: bad audio, a folder that cannot be written, another build at
      work there, or a finished folder of something else.
  """
  feature_set = FEATURE_SETS[features]
  partial = out.with_name(out.name + ".partial")
  with _claim(partial):
    skipped = Skipped(skip_bad)
    recordings = extract.probe(utterances, skipped)
    identity = _identity(recordings, corpus, feature_set)
    if out.exists():
      _require_shards(out)
      if not overwrite:
        present = _finished(out)
        _check_same(out, present, identity)
        shutil.rmtree(partial)
        return present, False
    _require_any(recordings, corpus, skipped)
    pad_to = extract.padded_length(feature_set, recordings)
    jobs, throughput = _extract(
      recordings, feature_set, pad_to, partial / "cache", workers, skipped
    )
    _require_any(jobs, corpus, skipped)
    metadata = identity | {"pad_to": pad_to}
    metadata |= _metadata(
      jobs, feature_set, throughput, dict(sorted(skipped.reasons.items()))
    )
    finished = _write(jobs, metadata, feature_set, partial / "shards")
    _replace(finished, out, partial / "replaced")
    shutil.rmtree(partial)
  return metadata, True


@contextlib.contextmanager
def _claim(partial: pathlib.Path) -> Iterator[None]:
  """Makes the working folder and keeps other builds out of it.

  What goes wrong on disk while it is held is told to the user.
  """
  try:
    partial.mkdir(parents=True, exist_ok=True)
    # The lock ends with the process, however that ends.
    with (partial / LOCK).open("w") as lock:
      try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
      except BlockingIOError as error:
        raise UserError(
          f"another build is at work in {partial}: wait for it, or stop it."
        ) from error
      try:
        yield
      finally:
        if partial.is_dir() and os.listdir(partial) == [LOCK]:
          shutil.rmtree(partial)
  except OSError as error:
    raise UserError(
      f"cannot write to {error.filename or partial}: {error}. Free disk space "
      "or choose another --out; after a stop, the same command goes on where "
      "it was."
    ) from error


def _require_any(usable: Sequence, corpus: str, skipped: Skipped) -> None:
  """Refuses a corpus of which nothing is left.

  Raises:
    UserError: with the first reason.
  """
  if not usable:
    none = "--raw has none; give the folder of the corpus."
    _, reason = min(skipped.reasons.items(), default=("", none))
    raise UserError(f"no recording of {corpus} can be used: {reason}")


def _digest(lines: Sequence[str]) -> str:
  return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _identity(
  recordings: Sequence[Recording], corpus: str, feature_set: FeatureSet
) -> dict:
  """What the shards are made of."""
  labels = []
  for recording in recordings:
    utterance = recording.utterance
    contour = utterance.contour
    labels.append(
      json.dumps(
        [
          *(getattr(utterance, name) for name in WORDS),
          *(utterance.attributes.get(name) for name in ATTRIBUTES),
          None if contour is None else contour.astype("<f4").tobytes().hex(),
          *((utterance.start, utterance.seconds) if utterance.seconds else ()),
        ]
      )
    )
  values = (
    FORMAT,
    corpus,
    feature_set.name,
    # As it will be read back: tuples are lists in JSON.
    json.loads(json.dumps(feature_set.recipe)),
    # With whose audio it is: two that change places are other shards.
    _digest([f"{r.utterance.id} {r.digest}" for r in recordings]),
    _digest(labels),
  )
  return dict(zip(IDENTITY, values, strict=True))


def _require_shards(out: pathlib.Path) -> None:
  """Keeps `--overwrite` from what it does not own.

  Raises:
    UserError: something else is there.
  """
  if not (out / "dataset_info.json").is_file():
    raise UserError(
      f"{out} exists and is not a folder of shards: choose another --out, or "
      "move it away."
    )


def _finished(out: pathlib.Path) -> dict:
  """Metadata of the shards that are there.

  Raises:
    UserError: they are damaged.
  """
  try:
    metadata = json.loads((out / "metadata.json").read_text())
    return {name: metadata[name] for name in IDENTITY} | metadata
  except (OSError, ValueError, KeyError, TypeError) as error:
    raise UserError(
      f"{out / 'metadata.json'} is damaged or of another version "
      f"({error!r}): pass --overwrite to build the shards again."
    ) from error


def _check_same(out: pathlib.Path, present: dict, identity: dict) -> None:
  """Refuses a finished folder of other shards.

  Raises:
    UserError: with the difference.
  """
  found, wanted = _flatten(present, IDENTITY), _flatten(identity, IDENTITY)
  differences = [
    f"{name} is {found.get(name)!r} there and {wanted.get(name)!r} here"
    for name in sorted(set(found) | set(wanted))
    if found.get(name) != wanted.get(name)
  ]
  if differences:
    raise UserError(
      f"{out} holds other shards: {'; '.join(differences)}. Choose another "
      "--out, or pass --overwrite to replace them."
    )


def _flatten(tree: dict, keys: Sequence[str], prefix: str = "") -> dict:
  flat = {}
  for key in keys:
    value = tree[key]
    if isinstance(value, dict):
      flat |= _flatten(value, list(value), f"{prefix}{key}.")
    else:
      flat[prefix + key] = value
  return flat


def _extract(
  recordings: Sequence[Recording],
  feature_set: FeatureSet,
  pad_to: int | None,
  cache: pathlib.Path,
  workers: int,
  skipped: Skipped,
) -> tuple[list[tuple[Recording, pathlib.Path]], extract.Throughput]:
  """Recordings in use with their cached features."""
  cache.mkdir(exist_ok=True)
  determinants = {
    "features": feature_set.name,
    "recipe": feature_set.recipe,
    "pad_to": pad_to,
    "versions": extract.versions(),
  }
  jobs = []
  for r in recordings:
    of = determinants | excerpt.key(r.utterance, feature_set)
    jobs.append((r, extract.cache_path(cache, r.digest, of)))
  throughput = extract.extract_all(
    feature_set.name, jobs, pad_to, workers, skipped
  )
  bad = skipped.reasons.keys()
  return [
    (r, path)
    for r, path in jobs  # a copy goes with its original
    if bad.isdisjoint((r.utterance.id, r.utterance.origin))
  ], throughput


def _metadata(
  jobs: Sequence[tuple[Recording, pathlib.Path]],
  feature_set: FeatureSet,
  throughput: extract.Throughput,
  skipped: dict[str, str],
) -> dict:
  """Inputs, provenance and the table of utterances, as plain data."""
  utterances = [recording.utterance for recording, _ in jobs]
  originals = [u for u in utterances if not u.origin]
  table = {f"{name}s": [getattr(u, name) for u in utterances] for name in WORDS}
  shapes = [_shapes(path) for _, path in jobs]
  return {
    "inputs": {
      name: dataclasses.asdict(spec)
      for name, spec in feature_set.inputs.items()
    },
    "rate": feature_set.rate,
    "classes": sorted({u.emotion for u in originals}),
    "counts": {
      "utterances": len(originals),
      "copies": len(utterances) - len(originals),
      "speakers": len({u.speaker for u in originals}),
      "sessions": len({u.session for u in originals}),
      "emotions": collections.Counter(sorted(u.emotion for u in originals)),
    },
    "skipped": skipped,
    "versions": extract.versions(extract.WRITERS),
    "throughput": throughput.as_metadata(),
    "utterances": table
    | {
      "origins": [u.origin or u.id for u in utterances],
      "speeds": [u.speed for u in utterances],
      "digests": [recording.digest for recording, _ in jobs],
      "attributes": [
        [u.attributes.get(name) for name in ATTRIBUTES] for u in utterances
      ],
      "duration": [recording.seconds for recording, _ in jobs],
      "frames": {
        name: [shape[name] for shape in shapes] for name in feature_set.inputs
      },
    },
  }


def _shapes(path: pathlib.Path) -> dict[str, int]:
  """Frames of each cached input; 1 for functionals."""
  return {
    name: len(values) if values.ndim == 2 else 1
    for name, values in _cached(path).items()
  }


def _cached(path: pathlib.Path) -> extract.Features:
  features = extract.load_cached(path)
  if features is None:
    raise UserError(
      f"{path} was changed while the build was at work: run the same command "
      "again."
    )
  return features


def _write(
  jobs: Sequence[tuple[Recording, pathlib.Path]],
  metadata: dict,
  feature_set: FeatureSet,
  folder: pathlib.Path,
) -> pathlib.Path:
  """Writes the records with TFDS and returns their folder."""
  import tensorflow_datasets as tfds

  words, tensor = tfds.features.Text(), tfds.features.Tensor

  def array(*shape: int | None, dtype: str = "float32"):
    return tensor(shape=shape, dtype=np.dtype(dtype), encoding="bytes")

  fields = {name: words for name in WORDS}
  fields["attributes"] = array(len(ATTRIBUTES))
  for name, spec in feature_set.inputs.items():
    shape = (spec.dim,) if spec.frame_rate is None else (None, spec.dim)
    fields[name] = array(*shape, dtype=spec.dtype)

  def examples():
    # Keys keep the order of the table, and are spread over the 128 bits by
    # which TFDS parts what does not fit in memory.
    stride = 2**128 // len(jobs)
    for number, (recording, path) in enumerate(
      progress(jobs, "writing", "utterance")
    ):
      yield number * stride, _example(recording.utterance, path)

  class Builder(tfds.core.GeneratorBasedBuilder):
    """One split of utterances; the metadata says of what."""

    name = "shards"
    VERSION = tfds.core.Version("1.0.0")
    code_path = None  # nothing is downloaded: no checksums beside the code

    def _info(self):
      return tfds.core.DatasetInfo(
        builder=self,
        features=tfds.features.FeaturesDict(fields),
        metadata=tfds.core.MetadataDict(metadata),
        disable_shuffling=True,
      )

    def _split_generators(self, dl_manager):
      return {SPLIT: self._generate_examples()}

    def _generate_examples(self):
      return examples()

  shutil.rmtree(folder, ignore_errors=True)
  tfds.disable_progress_bar()
  with tfds.core.registered.skip_registration():
    builder = Builder(data_dir=folder, file_format="array_record")
  # TFDS announces a download, of which there is none.
  with contextlib.redirect_stdout(io.StringIO()):
    builder.download_and_prepare()
  return pathlib.Path(builder.data_dir)


def _example(utterance: Utterance, path: pathlib.Path) -> dict:
  example = {name: getattr(utterance, name) for name in WORDS}
  example["attributes"] = np.array(
    [utterance.attributes.get(name, np.nan) for name in ATTRIBUTES], np.float32
  )
  return example | _cached(path)


def _replace(
  finished: pathlib.Path, out: pathlib.Path, aside: pathlib.Path
) -> None:
  """Puts the finished folder in its place."""
  shutil.rmtree(aside, ignore_errors=True)
  if out.exists():
    out.rename(aside)
  finished.rename(out)
