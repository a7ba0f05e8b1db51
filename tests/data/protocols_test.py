import numpy as np
import pytest

from ser_jax.data import protocols
from ser_jax.errors import UserError
from tests import fakes


def folds_of(shards, name, **changes):
  table = shards.table
  keep = np.arange(len(shards))
  labels = np.array([fakes.EMOTIONS.index(e) for e in table.emotions])
  config = fakes.protocol_config(name, **changes)
  return protocols.make_protocol(table, keep, labels, fakes.EMOTIONS, config)


@pytest.mark.parametrize(
  "name",
  [
    "leave_one_session_out",
    "leave_two_speakers_out",
    "leave_one_pair_out",
    "speaker_folds",
  ],
)
def test_speakers_are_disjoint_and_all_are_tested_once(name):
  shards = fakes.FakeShards()
  protocol = folds_of(shards, name)
  who = shards.table.speakers
  assert protocol.speaker_independent
  for fold in protocol.folds:
    sides = [
      set(who[part]) for part in (fold.train, fold.validation, fold.test)
    ]
    assert not sides[0] & sides[1]
    assert not sides[0] & sides[2]
    assert not sides[1] & sides[2]
  tested = np.concatenate([fold.test for fold in protocol.folds])
  assert sorted(tested) == list(range(len(shards)))


def test_groups_have_their_share_of_each_gender():
  """Also where women and men take turns, as in RAVDESS."""
  shards = fakes.FakeShards()
  turns = dict(zip("abcdef", ("male", "female") * 3, strict=True))
  who = shards.table.speakers
  shards.table.genders = np.array([turns[name] for name in who])
  folds = folds_of(shards, "speaker_folds", count=3).folds
  assert [sorted(set(who[fold.test])) for fold in folds] == [
    ["a", "b"], ["c", "d"], ["e", "f"]
  ]  # fmt: skip
  (fold, *_) = folds_of(shards, "speaker_folds", count=4).folds
  assert sorted(set(who[fold.test])) == ["b", "c"]


def test_sessions_of_test_and_training_are_disjoint():
  shards = fakes.FakeShards()
  for fold in folds_of(shards, "leave_one_session_out").folds:
    session = shards.table.sessions
    assert set(session[fold.test]) == {fold.name}
    assert fold.name not in set(session[fold.train])


def test_who_validates_alternates_over_the_sessions():
  """The first of the second session, the second of the third, and so on."""
  shards = fakes.FakeShards()
  who = shards.table.speakers
  folds = folds_of(shards, "leave_one_session_out").folds
  validating = [set(who[fold.validation]) for fold in folds]
  assert validating == [{"c"}, {"f"}, {"a"}]


def test_emodb_folds_are_the_thesis_lists():
  speakers = ("03", "08", "09", "10", "11", "12", "13", "14", "15", "16")
  shards = fakes.FakeShards(corpus="emodb", speakers=speakers)
  who = shards.table.speakers
  found = [
    tuple(set(who[part]) for part in (fold.train, fold.validation, fold.test))
    for fold in folds_of(shards, "leave_two_speakers_out").folds
  ]
  assert found == [
    ({"12", "13", "03", "08", "10", "14"}, {"15", "09"}, {"11", "16"}),
    ({"15", "09", "03", "08", "10", "14"}, {"11", "16"}, {"12", "13"}),
    ({"15", "09", "11", "16", "10", "14"}, {"12", "13"}, {"03", "08"}),
    ({"15", "09", "11", "16", "12", "13"}, {"03", "08"}, {"10", "14"}),
    ({"11", "16", "12", "13", "03", "08"}, {"10", "14"}, {"15", "09"}),
  ]


def test_a_pair_validates_and_tests_and_swaps():
  speakers = ("03", "08", "09", "10", "11", "12", "13", "14", "15", "16")
  shards = fakes.FakeShards(corpus="emodb", speakers=speakers)
  who = shards.table.speakers
  folds = folds_of(shards, "leave_one_pair_out").folds
  sides = [(*set(who[fold.validation]), *set(who[fold.test])) for fold in folds]
  assert sides[:4] == [("15", "09"), ("09", "15"), ("11", "16"), ("16", "11")]
  assert [fold.name for fold in folds[:2]] == ["test-09", "test-15"]
  for fold, pair in zip(folds, sides, strict=True):
    assert set(who[fold.train]) == set(speakers) - set(pair)


def test_ravdess_folds_are_the_thesis_rule():
  speakers = tuple(f"{n:02d}" for n in range(1, 25))
  shards = fakes.FakeShards(corpus="ravdess", speakers=speakers)
  who = shards.table.speakers
  folds = folds_of(shards, "leave_two_speakers_out").folds
  assert len(folds) == 12
  assert set(who[folds[0].validation]) == {"01", "02"}
  assert set(who[folds[0].test]) == {"03", "04"}
  assert set(who[folds[11].validation]) == {"23", "24"}
  assert set(who[folds[11].test]) == {"01", "02"}
  assert len(set(who[folds[5].train])) == 20


def test_random_folds_say_that_they_leak_and_keep_duplicates_together():
  shards = fakes.FakeShards()
  shards.table.digests[1] = shards.table.digests[0]
  protocol = folds_of(shards, "random")
  assert not protocol.speaker_independent
  assert "SPEAKER-DEPENDENT" in protocol.notes[0]
  for fold in protocol.folds:
    for part in (fold.train, fold.validation, fold.test):
      assert len({0, 1} & set(part)) in (0, 2)
  again = folds_of(shards, "random")
  other = folds_of(shards, "random", seed=1)
  assert (protocol.folds[0].test == again.folds[0].test).all()
  assert set(protocol.folds[0].test) != set(other.folds[0].test)


def test_a_tenth_of_what_random_folds_do_not_test_validates():
  for fold in folds_of(fakes.FakeShards(each=50), "random").folds:
    rest = len(fold.train) + len(fold.validation)
    assert 0.05 < len(fold.validation) / rest < 0.15


def test_fixed_takes_the_listed_speakers():
  shards = fakes.FakeShards()
  fold = folds_of(
    shards, "fixed", train=("a", "b"), validation=("c",), test=("d",)
  ).folds[0]
  assert set(shards.table.speakers[fold.train]) == {"a", "b"}
  assert set(shards.table.speakers[fold.test]) == {"d"}


def test_fixed_takes_speakers_that_are_numbers():
  """A command line makes numbers of CREMA-D's actors."""
  shards = fakes.FakeShards(speakers=("1001", "1002", "1003", "1004"))
  fold = folds_of(
    shards, "fixed", train=(1001, 1002), validation=(1003,), test=("1004",)
  ).folds[0]
  assert set(shards.table.speakers[fold.train]) == {"1001", "1002"}


@pytest.mark.parametrize(
  ("name", "changes", "message"),
  [
    ("leave_one_out", {}, "protocol.name='leave_one_out' is unknown"),
    ("leave_one_session_out", {"folds": ("s9",)}, "s0, s1, s2"),
    ("leave_one_pair_out", {"folds": ("s0",)}, "test-b, test-a"),
    ("leave_one_session_out", {"folds": (0, 0)}, "has fold s0 twice"),
    ("leave_one_session_out", {"folds": ("s1", 1)}, "has fold s1 twice"),
    ("speaker_folds", {"count": 7}, "at most one a speaker"),
    ("random", {"count": 0}, "count=0: random needs at least 2"),
    ("random", {"count": 1}, "count=1: random needs at least 2"),
    ("fixed", {"train": ("a",), "test": ("a",)}, "both train and test"),
    ("fixed", {"train": ("a",), "test": ("b",)}, "validation is empty"),
    (
      "fixed",
      {"train": ("a",), "validation": ("z",), "test": ("b",)},
      "needs z",
    ),
  ],
)
def test_what_cannot_be_is_refused(name, changes, message):
  with pytest.raises(UserError, match=message):
    folds_of(fakes.FakeShards(), name, **changes)


def test_a_missing_speaker_is_named():
  speakers = ("03", "08", "09", "10", "11", "12", "13", "14", "15")
  shards = fakes.FakeShards(corpus="emodb", speakers=speakers)
  with pytest.raises(UserError, match="16"):
    folds_of(shards, "leave_two_speakers_out")


def test_a_class_unseen_in_training_is_named():
  shards = fakes.FakeShards()
  of_a = shards.table.speakers == "a"
  shards.table.emotions[~of_a & (shards.table.emotions == "sad")] = "angry"
  with pytest.raises(UserError, match="sad in validation but not in training"):
    folds_of(shards, "leave_two_speakers_out")


def test_a_level_unseen_in_training_is_named_as_a_level():
  table = fakes.FakeShards().table
  high = (table.emotions == "sad") & (table.speakers == "a")
  with pytest.raises(UserError, match="has high in validation but not in"):
    protocols.make_protocol(
      *(table, np.arange(len(high)), high.astype(np.int32), ("low", "high")),
      fakes.protocol_config("leave_two_speakers_out"),
    )


def test_folds_are_chosen_by_name_or_number():
  protocol = folds_of(
    fakes.FakeShards(), "leave_one_session_out", folds=("s2", 0)
  )
  assert [fold.name for fold in protocol.to_run] == ["s2", "s0"]
  assert len(protocol.folds) == 3


def test_a_name_of_digits_is_a_name_before_it_is_a_number():
  """As of RAVDESS under leave_one_session_out: the fold of number 0 is "01"."""
  speakers = tuple(f"{n:02d}" for n in range(1, 25))
  shards = fakes.FakeShards(speakers=speakers, each=4)
  shards.table.sessions = shards.table.speakers

  def chosen(*wanted):
    found = folds_of(shards, "leave_one_session_out", folds=wanted).to_run
    for fold in found:
      assert set(shards.table.speakers[fold.test]) == {fold.name}
    return [fold.name for fold in found]

  assert chosen("10", "01", "2") == ["10", "01", "03"]
  assert chosen(0, 8, 24) == ["01", "09", "24"]
  with pytest.raises(UserError, match="folds has 10, .* number of fold 11"):
    chosen(10)
  with pytest.raises(UserError, match="has fold 01 twice"):
    chosen("01", 0)


@pytest.mark.parametrize("tested", [True, False])
def test_a_corpus_own_partition(tested):
  shards = fakes.FakeShards()
  table = shards.table
  parts = {"a": "train", "b": "train", "c": "dev", "d": "dev", "e": "dev"}
  parts["f"] = "test" if tested else "train"
  table.sessions = np.array([parts[who] for who in table.speakers])
  protocol = folds_of(shards, "partition")
  found = [
    tuple("".join(sorted(set(table.speakers[side]))) for side in sides)
    for sides in ((f.train, f.validation, f.test) for f in protocol.folds)
  ]
  if tested:
    assert found == [("ab", "cde", "f")]
  else:
    assert found == [("abf", "ce", "d"), ("abf", "d", "ce")]
  table.sessions = np.where(table.sessions == "dev", "train", table.sessions)
  with pytest.raises(UserError, match="needs the sessions train and dev"):
    folds_of(shards, "partition")
