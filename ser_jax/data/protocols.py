"""Speakers -> folds: who trains, who validates, who tests.

Every protocol but `random` keeps speakers apart, and says so; `random` is
there to reproduce papers and calls itself speaker-dependent.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from ser_jax.errors import UserError

# The thesis' pairs (female and male), in its order: snippets 7 and 8.
SPEAKER_PAIRS = {
  "emodb": (
    ("15", "09"),
    ("11", "16"),
    ("12", "13"),
    ("03", "08"),
    ("10", "14"),
  ),
}


@dataclasses.dataclass(frozen=True)
class Fold:
  """Which utterances train, validate and test: indices into the table."""

  name: str
  train: Int[np.ndarray, "train"]
  validation: Int[np.ndarray, "validation"]
  test: Int[np.ndarray, "test"]


@dataclasses.dataclass(frozen=True)
class Protocol:
  """Folds, and what a reader of their results must know.

  Attributes:
    name: as in the config.
    folds: all of them, in order. Steps of an epoch, shapes and the size of a
      speaker head are those of all: no run depends on which others are chosen.
    speaker_independent: no speaker is on two sides of any fold.
    notes: sentences for the report.
    chosen: names of those to run, in that order; see `make_protocol`.
  """

  name: str
  folds: tuple[Fold, ...]
  speaker_independent: bool
  notes: tuple[str, ...]
  chosen: tuple[str, ...] = ()

  @property
  def to_run(self) -> tuple[Fold, ...]:
    """The folds that are chosen."""
    by_name = {fold.name: fold for fold in self.folds}
    return tuple(by_name[name] for name in self.chosen)


def _fold(name, keep, groups, validation, test, train=None) -> Fold:
  """A fold by the groups (speakers or sessions) of each side."""

  def pick(wanted):
    missing = sorted(set(wanted) - set(groups[keep]))
    if missing:
      raise UserError(
        f"protocol: {name} needs {', '.join(missing)}, of whom the shards have "
        f"no utterance of the classes asked for (present: "
        f"{', '.join(sorted(set(groups[keep])))}): build the whole corpus, or "
        "choose another protocol."
      )
    return keep[np.isin(groups[keep], list(wanted))]

  if train is None:
    train = set(groups[keep]) - set(validation) - set(test)
  return Fold(str(name), pick(train), pick(validation), pick(test))


def leave_one_session_out(table, keep, config) -> Protocol:
  """Tests on one session after another; one other speaker validates.

  The validation speaker is taken from the next session, alternating between
  that session's speakers, and leaves the training part.
  """
  sessions = sorted(set(table.sessions[keep]))
  if len(sessions) < 3:
    raise UserError(
      f"protocol: leave_one_session_out needs at least 3 sessions, the shards "
      f"have {len(sessions)}: build more of the corpus."
    )
  folds = []
  for number, session in enumerate(sessions):
    nearby = sessions[(number + 1) % len(sessions)]
    partners = sorted(set(table.speakers[keep][table.sessions[keep] == nearby]))
    validation = partners[number % len(partners)]
    test = set(table.speakers[keep][table.sessions[keep] == session])
    folds.append(_fold(session, keep, table.speakers, {validation}, test))
  return Protocol(
    "leave_one_session_out",
    tuple(folds),
    True,
    (
      "Each fold tests on one whole session; one speaker of the next session "
      "validates and is left out of training.",
    ),
  )


def speaker_pairs(table, keep) -> tuple[tuple[str, str], ...]:
  """The pairs that a corpus is recorded in, or that its speakers are told in.

  Raises:
    UserError: speakers that are not in pairs.
  """
  if table.corpus in SPEAKER_PAIRS:
    return SPEAKER_PAIRS[table.corpus]
  speakers = sorted(set(table.speakers[keep]))
  if len(speakers) < 6 or len(speakers) % 2:
    raise UserError(
      f"protocol: pairs need an even number of at least 6 speakers, the shards "
      f"have {len(speakers)} ({', '.join(speakers)}): build the whole corpus, "
      "or choose another protocol."
    )
  return tuple(zip(speakers[::2], speakers[1::2], strict=True))


def leave_two_speakers_out(table, keep, config) -> Protocol:
  """Pairs of speakers in a ring: pair k validates, pair k + 1 tests.

  For Emo-DB and RAVDESS these are the folds of the thesis' snippets 7 and 8.
  """
  pairs = speaker_pairs(table, keep)
  folds = tuple(
    _fold(
      f"fold{number}",
      keep,
      table.speakers,
      pair,
      pairs[(number + 1) % len(pairs)],
    )
    for number, pair in enumerate(pairs)
  )
  return Protocol(
    "leave_two_speakers_out",
    folds,
    True,
    ("Two speakers validate, two others test, the rest train.",),
  )


def leave_one_pair_out(table, keep, config) -> Protocol:
  """One speaker of a pair validates, the other tests; then they swap.

  The pairs of IEMOCAP are its sessions (Parthasarathy et al. 2019, section 5).
  """
  pairs = speaker_pairs(table, keep)
  folds = tuple(
    _fold(f"test-{test}", keep, table.speakers, {validation}, {test})
    for pair in pairs
    for validation, test in (pair, reversed(pair))
  )
  return Protocol(
    "leave_one_pair_out",
    folds,
    True,
    (
      "Of each pair of speakers one validates and the other tests, then they "
      "swap; all other pairs train.",
    ),
  )


def speaker_folds(table, keep, config) -> Protocol:
  """Speakers dealt into `count` groups: one tests, the next validates.

  They are dealt gender after gender, so that every group has its share.
  """
  genders = dict(zip(table.speakers[keep], table.genders[keep], strict=True))
  speakers = sorted(genders, key=lambda name: (genders[name], name))
  if not 3 <= config.count <= len(speakers):
    raise UserError(
      f"config.protocol.count={config.count}: speaker_folds needs at least 3 "
      f"groups and at most one a speaker ({len(speakers)})."
    )
  groups = [speakers[first :: config.count] for first in range(config.count)]
  nexts = groups[1:] + groups[:1]
  folds = tuple(
    _fold(f"fold{number}", keep, table.speakers, validation, test)
    for number, (test, validation) in enumerate(zip(groups, nexts, strict=True))
  )
  return Protocol(
    "speaker_folds",
    folds,
    True,
    (f"Speakers in {config.count} groups: one tests, the next validates.",),
  )


def random_folds(table, keep, config) -> Protocol:
  """Random utterances, speakers on every side: for comparison with papers.

  Identical recordings stay on one side. A tenth of what does not test
  validates.
  """
  if config.count < 2:
    raise UserError(
      f"config.protocol.count={config.count}: random needs at least 2 folds."
    )
  generator = np.random.default_rng(config.seed)
  _, group = np.unique(table.digests[keep], return_inverse=True)
  order = generator.permutation(group.max() + 1)[group]
  parts = order % config.count
  folds = []
  for number in range(config.count):
    rest = np.flatnonzero(parts != number)
    validates = (order[rest] // config.count) % 10 == 0
    folds.append(
      Fold(
        f"fold{number}",
        keep[rest[~validates]],
        keep[rest[validates]],
        keep[parts == number],
      )
    )
  return Protocol(
    "random",
    tuple(folds),
    False,
    (
      "SPEAKER-DEPENDENT: random utterance folds have every speaker in "
      "training and test; these figures say nothing about unseen speakers.",
    ),
  )


def fixed(table, keep, config) -> Protocol:
  """One fold, its speakers listed in the config."""
  sides = {
    side: set(map(str, getattr(config, side)))
    for side in ("train", "validation", "test")
  }
  for one, other in (("train", "validation"), ("train", "test"),
                     ("validation", "test")):  # fmt: skip
    both = sides[one] & sides[other]
    if both:
      raise UserError(
        f"config.protocol: {', '.join(sorted(both))} is in both {one} and "
        f"{other}: a speaker belongs on one side."
      )
  empty = [side for side, speakers in sides.items() if not speakers]
  if empty:
    raise UserError(
      f"config.protocol.{empty[0]} is empty: list its speakers (present: "
      f"{', '.join(sorted(set(table.speakers[keep])))})."
    )
  fold = _fold(
    "fixed",
    keep,
    table.speakers,
    sides["validation"],
    sides["test"],
    sides["train"],
  )
  return Protocol("fixed", (fold,), True, ("A fixed partition of speakers.",))


def partition(table, keep, config) -> Protocol:
  """The corpus' own sessions `train`, `dev` and `test`.

  Where the test part is kept by its challenge, half of the development speakers
  test and the other half validate, then they swap.
  """
  of = {
    side: sorted(set(table.speakers[keep][table.sessions[keep] == side]))
    for side in ("train", "dev", "test")
  }
  if (
    not of["train"] or not of["dev"] or (not of["test"] and len(of["dev"]) < 2)
  ):
    raise UserError(
      "protocol: partition needs the sessions train and dev, and test or "
      "several speakers in dev; the shards have "
      f"{', '.join(sorted(set(table.sessions[keep])))}: build the whole corpus "
      "or choose another protocol."
    )
  sides = {"test": (of["dev"], of["test"])}
  notes = "The corpus' partition: dev validates."
  if not of["test"]:
    halves = of["dev"][::2], of["dev"][1::2]
    sides = {"dev0": halves, "dev1": halves[::-1]}
    notes = (
      "There are no labels of the test part: half of the development speakers "
      "test, the other half validate, then they swap."
    )
  folds = tuple(
    _fold(name, keep, table.speakers, validation, test, of["train"])
    for name, (validation, test) in sides.items()
  )
  return Protocol("partition", folds, True, (notes,))


PROTOCOLS = {
  "leave_one_session_out": leave_one_session_out,
  "leave_two_speakers_out": leave_two_speakers_out,
  "leave_one_pair_out": leave_one_pair_out,
  "speaker_folds": speaker_folds,
  "random": random_folds,
  "fixed": fixed,
  "partition": partition,
}


def make_protocol(
  table,
  keep: Int[np.ndarray, "kept"],
  labels: Int[np.ndarray, "all"],
  classes: Sequence[str],
  config,
) -> Protocol:
  """Makes the folds that a config asks for, and checks them.

  Args:
    table: the shards' utterances.
    keep: indices of the utterances with a label.
    labels: class index of every utterance, -1 where it has none.
    classes: names by class index.
    config: `name`, `folds` (names to run, empty for all), and for `random`
      `count` and `seed`, for `fixed` `train`, `validation` and `test`.

  Returns:
    The protocol, with the folds asked for chosen.

  Raises:
    UserError: unknown protocol or fold, a fold given twice, a missing speaker,
      or a fold whose training part lacks a class.
  """
  if config.name not in PROTOCOLS:
    raise UserError(
      f"config.protocol.name={config.name!r} is unknown: choose from "
      f"{', '.join(PROTOCOLS)}."
    )
  protocol = PROTOCOLS[config.name](table, keep, config)
  for fold in protocol.folds:
    _check(fold, labels, classes)
  return dataclasses.replace(
    protocol, chosen=_choose(protocol.folds, config.folds)
  )


def _choose(
  folds: tuple[Fold, ...], wanted: Sequence[str | int]
) -> tuple[str, ...]:
  """Names of the folds asked for by name or number; all if none is."""
  if not wanted:
    return tuple(fold.name for fold in folds)
  by_number = {str(number): fold for number, fold in enumerate(folds)}
  known = by_number | {fold.name: fold for fold in folds}
  unknown = [str(one) for one in wanted if str(one) not in known]
  if unknown:
    raise UserError(
      f"config.protocol.folds has {', '.join(unknown)}: the protocol's folds "
      f"are {', '.join(fold.name for fold in folds)} (or their numbers)."
    )
  chosen = {}
  for one in wanted:
    fold = known[str(one)]
    numbered = by_number.get(str(one), fold)
    if isinstance(one, int) and numbered is not fold:
      raise UserError(
        f"config.protocol.folds has {one}, the name of one fold and the number "
        f"of fold {numbered.name}: give names in quotes, \"('{one}',)\"."
      )
    if fold.name in chosen:
      raise UserError(f"config.protocol.folds has fold {fold.name} twice.")
    chosen[fold.name] = fold
  return tuple(chosen)


def _check(
  fold: Fold, labels: Int[np.ndarray, "all"], classes: Sequence[str]
) -> None:
  """No empty side, and no class that only validation or test has."""
  for side in ("train", "validation", "test"):
    if not len(getattr(fold, side)):
      raise UserError(
        f"config.protocol leaves {fold.name} no {side} utterance: change it."
      )
  known = set(labels[fold.train])
  for side in ("validation", "test"):
    unseen = set(labels[getattr(fold, side)]) - known
    if unseen:
      names = ", ".join(classes[label] for label in sorted(unseen))
      raise UserError(
        f"protocol: fold {fold.name} has {names} in {side} but not in "
        "training: choose other classes or another protocol."
      )
