"""A shard folder -> metadata, a table of utterances, records by index.

The folder is TFDS' array_record layout as `data_prep` writes it; it is read
with array_record and NumPy alone, and records parse with twenty lines of our
own, so that training imports neither TensorFlow nor TFDS.
"""

import bisect
import dataclasses
import hashlib
import itertools
import json
import math
import pathlib
import threading
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Int, Shaped

from ser_jax.errors import UserError

FORMAT = 3
SPLIT = "utterances"
# Of the metadata: `digest` is of the audio, `utterances` has their lengths.
IDENTITY = (
  *("corpus", "features", "recipe", "digest", "labels", "pad_to", "utterances"),
)
# Columns of the table that are text.
WORDS = ("ids", "speakers", "sessions", "genders", "emotions", "digests")
METADATA, INFO = "metadata.json", "dataset_info.json"
# What other JSON than ours ends in.
UNEXPECTED = (AttributeError, LookupError, TypeError, ValueError)
# A record is read when it is asked for; nothing is read ahead.
READER_OPTIONS = "readahead_buffer_size:0,max_parallelism:0"


@dataclasses.dataclass(frozen=True)
class Table:
  """What is known of every utterance, in the order of the records.

  Attributes:
    corpus: its name.
    ids: unique names.
    speakers: unique within the corpus; a copy at another speed, which sounds
      like somebody else, has one of its own.
    sessions: recording sessions (the speaker, where there are none).
    genders: female, male or empty.
    emotions: English words.
    origins: position of the utterance that this is a copy of; its own, where
      it is none.
    speeds: how many times as fast as recorded; 1 but for copies.
    digests: SHA-256 of the audio files; equal for identical recordings.
    attributes: valence, activation and dominance; NaN where unknown.
    duration: of the raw recording, in seconds.
    frames: of each input; 1 for functionals.
  """

  corpus: str
  ids: Shaped[np.ndarray, "utterances"]
  speakers: Shaped[np.ndarray, "utterances"]
  sessions: Shaped[np.ndarray, "utterances"]
  genders: Shaped[np.ndarray, "utterances"]
  emotions: Shaped[np.ndarray, "utterances"]
  origins: Int[np.ndarray, "utterances"]
  speeds: Float[np.ndarray, "utterances"]
  digests: Shaped[np.ndarray, "utterances"]
  attributes: Float[np.ndarray, "utterances 3"]
  duration: Float[np.ndarray, "utterances"]
  frames: dict[str, Int[np.ndarray, "utterances"]]


class Shards:
  """A feature set of a corpus, opened for random access.

  Threads may share one; a pickled copy opens its own files.

  Attributes:
    path: the folder.
    metadata: as written: corpus, features, recipe, inputs, provenance.
    table: what is known of every utterance.
  """

  def __init__(
    self,
    path: pathlib.Path,
    metadata: dict,
    table: Table,
    files: list[pathlib.Path],
    lengths: list[int],
  ):
    """Keeps what `open_shards` found.

    Args:
      path: the folder.
      metadata: of the folder.
      table: of the utterances.
      files: array_record files, in order.
      lengths: records in each file.
    """
    self.path = path
    self.metadata = metadata
    self.table = table
    self._files = files
    self._ends = list(itertools.accumulate(lengths))
    self._readers = [None] * len(files)
    self._lock = threading.Lock()

  def __len__(self) -> int:
    return self._ends[-1]

  def __getstate__(self) -> dict:
    state = self.__dict__.copy()
    del state["_lock"]
    state["_readers"] = [None] * len(self._files)
    return state

  def __setstate__(self, state: dict):
    self.__dict__.update(state)
    self._lock = threading.Lock()

  def read(self, index: int) -> dict[str, Shaped[np.ndarray, "..."]]:
    """Reads one utterance.

    Args:
      index: its position in the table.

    Returns:
      Every input, `[time, dim]` or `[dim]`.

    Raises:
      IndexError: no such utterance.
      UserError: the record is damaged.
    """
    if not 0 <= index < len(self):
      raise IndexError(f"utterance {index} of {len(self)} in {self.path}")
    number = bisect.bisect_right(self._ends, index)
    position = index - (self._ends[number - 1] if number else 0)
    file = self._files[number]
    try:
      fields = parse_example(self._reader(number).read([position])[0])
      name = bytes(fields["id"]).decode()
      found = {
        name: _array(fields[name], self._shape(name, index), spec)
        for name, spec in self.metadata["inputs"].items()
      }
    except (RuntimeError, ValueError, LookupError) as error:
      raise _damaged(file, f"record {position} cannot be read: {error}") from (
        error
      )
    if name != self.table.ids[index]:
      raise _damaged(
        file,
        f"record {position} is {name}, metadata.json expects "
        f"{self.table.ids[index]}",
      )
    return found

  def _shape(self, name: str, index: int) -> tuple[int, ...]:
    """Of an utterance's input, `[time, dim]` or `[dim]`."""
    spec = self.metadata["inputs"][name]
    in_time = spec["frame_rate"] is not None
    return (*[self.table.frames[name][index]] * in_time, spec["dim"])

  def _reader(self, number: int):
    if self._readers[number] is None:
      with self._lock:
        if self._readers[number] is None:
          self._readers[number] = _open(self._files[number])
    return self._readers[number]


def open_shards(path: str | pathlib.Path) -> Shards:
  """Opens a folder of shards and checks that it is whole.

  Args:
    path: the folder that `python -m data_prep.build --out` wrote.

  Returns:
    The shards; records are read as they are asked for.

  Raises:
    UserError: no such folder, an unfinished one, or damaged files.
  """
  path = pathlib.Path(path)
  metadata, lengths = _load_metadata(path)
  total = len(lengths)
  files = [
    path / f"shards-{SPLIT}.array_record-{number:05d}-of-{total:05d}"
    for number in range(total)
  ]
  for file, length in zip(files, lengths, strict=True):
    if not file.is_file():
      raise _damaged(file, "the file is missing")
    reader = _open(file)
    if reader.num_records() != length:
      raise _damaged(file, f"{reader.num_records()} records, expected {length}")
  table = _table(path, metadata)
  if len(table.ids) != sum(lengths):
    raise _damaged(
      path / METADATA,
      f"it lists {len(table.ids)} utterances for {sum(lengths)} records",
    )
  return Shards(path, metadata, table, files, lengths)


def parse_example(record: bytes) -> dict[str, memoryview]:
  """Parses a `tf.train.Example` of which every feature is one byte string.

  The wire format: Example {1: Features {1: map entries {1: name, 2: Feature
  {1: BytesList {1: value}}}}}, every field length-delimited
  (https://protobuf.dev/programming-guides/encoding/).

  Args:
    record: the serialised message.

  Returns:
    The bytes of each feature, by name; empty for an empty list.

  Raises:
    ValueError: not such a message.
  """
  fields = {}
  for _, features in _messages(memoryview(record)):
    for _, entry in _messages(features):
      pair = dict(_messages(entry))
      value = pair.get(2, b"")
      for _ in ("feature", "bytes list"):
        value = dict(_messages(value)).get(1, b"")
      fields[bytes(pair[1]).decode()] = value
  return fields


def _messages(buffer: memoryview) -> Iterator[tuple[int, memoryview]]:
  """The number and bytes of every length-delimited field of a message."""
  position = 0
  while position < len(buffer):
    tag, position = _varint(buffer, position)
    if tag & 7 != 2:
      raise ValueError(f"wire type {tag & 7} where 2 is expected")
    size, position = _varint(buffer, position)
    if position + size > len(buffer):
      raise ValueError("a field runs past the end")
    yield tag >> 3, buffer[position : position + size]
    position += size


def _varint(buffer: memoryview, position: int) -> tuple[int, int]:
  """A base-128 integer, and where the next field begins."""
  value = shift = 0
  while True:
    byte = buffer[position]
    position += 1
    value |= (byte & 0x7F) << shift
    if byte < 0x80:
      return value, position
    shift += 7


def _array(
  data: memoryview | bytes, shape: tuple[int, ...], spec: dict
) -> Shaped[np.ndarray, "..."]:
  """Little-endian values; copied, for a record's bytes are not aligned."""
  dtype = np.dtype(spec.get("dtype", "float32"))
  values = np.frombuffer(data, dtype.newbyteorder("<")).astype(dtype)
  return values.reshape(shape)


def _open(file: pathlib.Path):
  try:
    from array_record.python import array_record_module
  except ImportError as error:
    raise UserError(
      f"{file} needs the array_record package to be read, which is not "
      "installed: pip install array_record."
    ) from error
  reader = array_record_module.ArrayRecordReader(str(file), READER_OPTIONS)
  if not reader.ok():
    raise _damaged(file, "it is truncated or not an array_record file")
  return reader


def _damaged(file: pathlib.Path, found: str) -> UserError:
  return UserError(
    f"the shards' file {file} is damaged: {found}. Build the shards again "
    "(python -m data_prep.build ... --overwrite) or copy them again."
  )


def identity(found: Shards) -> dict[str, str]:
  """What tells shards from others that were built in their place.

  Args:
    found: shards.

  Returns:
    Field of the metadata to a digest of it.
  """
  return {
    name: hashlib.sha256(
      json.dumps(found.metadata[name], sort_keys=True).encode()
    ).hexdigest()[:16]
    for name in IDENTITY
  }


def unfinished(path: pathlib.Path) -> bool:
  """Whether a build of shards was stopped, which the same command finishes."""
  return path.with_name(path.name + ".partial").is_dir()


def _load_metadata(path: pathlib.Path) -> tuple[dict, list[int]]:
  """The metadata, and the number of records in each file."""
  if not path.is_dir():
    if unfinished(path):
      raise UserError(
        f"the shards at {path} are not finished: run the same python -m "
        "data_prep.build command again, which takes up where it was stopped."
      )
    raise UserError(
      f"there are no shards at {path}: build them with python -m "
      f"data_prep.build --corpus=... --features=... --raw=... --out={path}."
    )
  metadata = _read_json(path / METADATA)
  if metadata.get("format") != FORMAT:
    raise UserError(
      f"the shards at {path} have format {metadata.get('format')}, this "
      f"version reads format {FORMAT}: build them again."
    )
  if missing := {*IDENTITY, "inputs"} - metadata.keys():
    raise _damaged(path / METADATA, f"it has no {', '.join(sorted(missing))}")
  info = _read_json(path / INFO)
  try:
    (split,) = (each for each in info["splits"] if each["name"] == SPLIT)
    return metadata, [int(length) for length in split["shardLengths"]]
  except UNEXPECTED as error:
    raise _damaged(path / INFO, f"its splits are not those of {SPLIT}") from (
      error
    )


def _read_json(file: pathlib.Path) -> dict:
  """A file that a folder of shards must have, and that holds an object."""
  try:
    found = json.loads(file.read_text())
  except FileNotFoundError as error:
    raise UserError(
      f"{file.parent} is not a folder of shards: it has no {file.name}. Give "
      "the folder that python -m data_prep.build --out wrote."
    ) from error
  except (OSError, ValueError) as error:
    raise _damaged(file, str(error)) from error
  if not isinstance(found, dict):
    raise _damaged(file, "it holds no object")
  return found


def _table(path: pathlib.Path, metadata: dict) -> Table:
  """The table of a folder's metadata.

  Raises:
    UserError: a column or an entry lacks, or is not what it should be.
  """
  try:
    table = _parse_table(metadata)
  except UNEXPECTED as error:
    told = f"its utterances cannot be read ({type(error).__name__}: {error})"
    raise _damaged(path / METADATA, told) from error
  columns = {k: v for k, v in vars(table).items() if isinstance(v, np.ndarray)}
  columns |= {f"frames.{name}": values for name, values in table.frames.items()}
  for name, values in columns.items():
    if len(values) != len(table.ids):
      raise _damaged(
        path / METADATA,
        f"its column {name} has {len(values)} entries for {len(table.ids)} "
        "utterances",
      )
  return table


def _parse_table(metadata: dict) -> Table:
  columns = metadata["utterances"]
  words = {name: np.array(columns[name], dtype=str) for name in WORDS}
  position = {name: number for number, name in enumerate(columns["ids"])}
  attributes = [
    [math.nan if value is None else value for value in row]
    for row in columns["attributes"]
  ]
  return Table(
    corpus=metadata["corpus"],
    **words,
    origins=np.array([position[name] for name in columns["origins"]]),
    speeds=np.array(columns["speeds"], np.float64),
    attributes=np.array(attributes, np.float32).reshape(-1, 3),
    duration=np.array(columns["duration"], np.float64),
    frames={
      name: np.array(columns["frames"][name], np.int32)
      for name in metadata["inputs"]
    },
  )
