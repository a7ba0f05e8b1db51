"""A config's data section -> utterances with labels, folds and shapes."""

import dataclasses
import difflib
import pathlib
from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int

from ser_jax.data import protocols, shards, statistics
from ser_jax.data.contours import CONTOURS, Contours, read_contours
from ser_jax.data.copies import with_copies
from ser_jax.data.examples import Examples, Row, Source
from ser_jax.data.labels import EMOTION, describe, label_words, labelled
from ser_jax.data.protocols import Protocol
from ser_jax.data.recordings import moments_of
from ser_jax.data.resident import Resident
from ser_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Dataset:
  """A labelled corpus under a protocol.

  Attributes:
    shards: where the records are.
    classes: names by class index.
    labels: class index of every utterance of the shards, -1 for none.
    protocol: the folds.
    examples: what the data sources read.
    contours: targets in time, where these are what is predicted.
  """

  shards: shards.Shards
  classes: tuple[str, ...]
  labels: Int[np.ndarray, "all"]
  protocol: Protocol
  examples: Examples
  contours: Contours | None = None

  def count_speakers(self, config) -> int:
    """Outputs of a speaker head, the same in every fold.

    Args:
      config: the whole config.

    Returns:
      The training speakers of the fold that has most; with
      `task.legacy_thesis_loss` all of the corpus, heard or not, as in the
      thesis' code (snippet 11: 10 and 24).
    """
    speakers = self.examples.speakers
    if config.task.get("legacy_thesis_loss", False):
      return 1 + int(speakers.max())
    return max(
      len(np.unique(speakers[fold.train])) for fold in self.protocol.folds
    )


def shard_folder(config) -> pathlib.Path:
  """Where the shards of a data section are expected."""
  if config.shards:
    return pathlib.Path(config.shards)
  speeds = (f"{speed:g}" for speed in config.speeds)
  name = "-".join((config.corpus, config.features, *speeds))
  return pathlib.Path("shards") / name


def class_labels(
  emotions: np.ndarray, classes: tuple[str, ...], merge: dict[str, str]
) -> Int[np.ndarray, "all"]:
  """Class indices of emotion words; -1 for those not asked for.

  Raises:
    UserError: a class that no utterance has.
  """
  merged = np.array([merge.get(e, e) for e in emotions], dtype=object)
  present = sorted(set(merged))
  for name in classes:
    if name not in present:
      near = difflib.get_close_matches(name, present, n=1)
      hint = f" (did you mean {near[0]}?)" if near else ""
      raise UserError(
        f"config.data.classes has {name!r}{hint}, which no utterance of the "
        f"shards is labelled with; there are: {', '.join(present)}."
      )
  labels = np.full(len(merged), -1, np.int32)
  for number, name in enumerate(classes):
    labels[merged == name] = number
  return labels


def load_dataset(config, found: shards.Shards | None = None) -> Dataset:
  """Opens the shards, labels the utterances and makes the folds.

  Args:
    config: the whole config.
    found: shards that are open already; those of the config if None.

  Returns:
    The dataset; no record has been read yet.

  Raises:
    UserError: shards missing or of another corpus or feature set; labels,
      protocol or inputs that they cannot serve.
  """
  if found is None:
    found = shards.open_shards(shard_folder(config.data))
  for field in ("corpus", "features"):
    if found.metadata[field] != config.data[field]:
      raise UserError(
        f"config.data.{field} is {config.data[field]!r}, the shards at "
        f"{found.path} are {found.metadata[field]!r}: point "
        "config.data.shards at others, or build them."
      )
  _check_resampling(found, config.data)
  classes = tuple(config.data.classes)
  contours = None
  if config.data.target == CONTOURS:
    contours = _contours(found, config.data)
    labels = np.zeros(len(found.table.ids), np.int32)
  else:
    words = label_words(found.table, config.data)
    labels = class_labels(words, classes, config.data.merge)
  keep = np.flatnonzero((labels >= 0) & (found.table.speeds == 1))
  protocol = protocols.make_protocol(
    found.table, keep, labels, classes, config.protocol
  )
  protocol = with_copies(
    protocol, found.table, config.data.speeds, str(found.path)
  )
  keep = np.unique(np.concatenate([keep, *(f.train for f in protocol.folds)]))
  plans = statistics.make_plans(found, config.data, protocol.folds, keep)
  protocol = dataclasses.replace(
    protocol, notes=(*protocol.notes, *_notes(config.data, found.table))
  )
  targets = {"emotion": labels}
  if contours is not None:
    targets |= {CONTOURS: contours.values, "frames": contours.frames}
  for name, plan in plans.items():
    if plan.normalize == "recording":
      whole = statistics.recording_moments(found, name)
      targets |= {} if whole is None else {moments_of(name): whole}
  if "labelled_fraction" in config.data:
    targets["labelled"] = _labelled(found.table, labels, protocol, config.data)
  _, speakers = np.unique(found.table.speakers, return_inverse=True)
  examples = Examples(
    shards=found,
    plans=plans,
    targets=targets,
    speakers=speakers.astype(np.int32),
    keep=keep,
  )
  return Dataset(found, classes, labels, protocol, examples, contours)


def _check_resampling(found: shards.Shards, config) -> None:
  """Refuses to interpolate in time what has no time."""
  for name, plan in config.inputs.items():
    spec = found.metadata["inputs"].get(name)  # those it lacks: `make_plans`
    if spec and spec["frame_rate"] is None and plan.resample:
      raise UserError(
        f"config.data.inputs.{name}.resample=True interpolates in time, which "
        f"{name} of the shards at {found.path} has not: set resample=False."
      )


def _contours(found: shards.Shards, config) -> Contours:
  """The targets in time that a config asks for.

  Raises:
    UserError: see `read_contours`; or batches of several lengths.
  """
  for name, plan in config.inputs.items():
    if plan.buckets or plan.resample:
      raise UserError(
        f"config.data.inputs.{name}: contours need every frame of one length: "
        "set buckets=() and resample=False."
      )
  return read_contours(
    found, tuple(config.classes), list(config.inputs), config.max_frames
  )


def fold_statistics(
  dataset: Dataset, fold: protocols.Fold
) -> statistics.Statistics:
  """Figures of a fold's training part, those of contours among them."""
  found = statistics.fold_statistics(
    dataset.shards, dataset.examples.plans, fold
  )
  if dataset.contours is None:
    return found
  mean, deviation = dataset.contours.moments(fold.train)
  return found.replace(
    mean=found.mean | {CONTOURS: mean},
    deviation=found.deviation | {CONTOURS: deviation},
  )


def _notes(config, table) -> list[str]:
  """What a reader of the results must know of the labels."""
  notes = []
  if config.target == EMOTION:
    for word, other in config.merge.items():
      count = np.count_nonzero(table.emotions == word)
      if count and other in config.classes:
        notes.append(f"{count} utterances labelled {word} count as {other}.")
  elif config.target != CONTOURS:
    notes.append(describe(config))
  if config.get("labelled_fraction", 1.0) < 1:
    notes.append(
      f"{config.labelled_fraction:.1%} of the training utterances are labelled."
    )
  return notes


def _labelled(
  table: shards.Table,
  labels: Int[np.ndarray, "all"],
  protocol: Protocol,
  config,
) -> Float[np.ndarray, "all"]:
  """Which labels training may see; every class of every fold is among them."""
  originals = table.speeds == 1
  seen = np.zeros(len(labels), np.float32)
  seen[originals] = labelled(labels[originals], config.labelled_fraction)
  seen = seen[table.origins]  # a copy has a label where its original has
  for fold in protocol.folds:
    known = labels[fold.train][seen[fold.train] > 0]
    if set(known) != set(labels[fold.train]):
      raise UserError(
        f"config.data.labelled_fraction={config.labelled_fraction} leaves a "
        f"class without a labelled training utterance in fold {fold.name}: "
        "raise it."
      )
  return seen


def make_source(
  kind: str, examples: Examples, share: Callable[[Row], Row]
) -> Source:
  """The data source that a config names.

  Args:
    kind: `resident` or `stream`.
    examples: the utterances in use.
    share: a row of a step to what this process feeds of it.

  Returns:
    The source.

  Raises:
    UserError: an unknown kind.
  """
  if kind == "resident":
    return Resident(examples, share)
  if kind == "stream":
    from ser_jax.data.stream import Stream  # TensorFlow: only where asked for

    return Stream(examples, share)
  raise UserError(
    f"config.data.source={kind!r} is unknown: choose resident or stream."
  )
