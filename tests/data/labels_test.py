"""Levels of ratings and categories; labels kept from training."""

import types

import numpy as np
import pytest

from configs import common
from data_prep import utterance
from ser_jax.data import labels
from ser_jax.errors import UserError

MARKS = [1.0, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0, np.nan]


def table(column=1):
  ratings = np.full((len(MARKS), 3), 5.0, np.float32)
  ratings[:, column] = MARKS
  return types.SimpleNamespace(
    corpus="fake",
    emotions=np.array(["angry", "sad", "neutral", "calm"] * 2),
    attributes=ratings,
  )


def config(target="activation", binning="middle"):
  return types.SimpleNamespace(target=target, binning=binning)


@pytest.mark.parametrize(
  ("binning", "expected"),
  [
    # 1, 2, 2.5, 3, 3.5, 4, 5, none
    ("strict", "LLNNNHHu"),
    ("middle", "LLNNNHHu"),
    ("round", "LLNNHHHu"),
  ],
)
def test_binnings_by_hand(binning, expected):
  words = {"L": "low", "N": "neutral", "H": "high", "u": "unrated"}
  found = labels.label_words(table(), config(binning=binning))
  assert found.tolist() == [words[letter] for letter in expected]


def test_strict_and_middle_differ_between_the_marks():
  ratings = np.array([2.2, 3.8])
  assert labels.BINNINGS["strict"](ratings).tolist() == [0, 0]
  assert labels.BINNINGS["middle"](ratings).tolist() == [-1, 1]


@pytest.mark.parametrize(
  ("column", "target"), list(enumerate(labels.ATTRIBUTES))
)
def test_each_target_reads_its_column(column, target):
  found = labels.label_words(table(column), config(target))
  assert found[0] == "low"
  assert labels.ATTRIBUTES == utterance.ATTRIBUTES


def test_the_circumplex_by_hand():
  found = labels.label_words(table(), config("activation", "circumplex"))
  assert found[:4].tolist() == ["high", "low", "neutral", "low"]
  found = labels.label_words(table(), config("valence", "circumplex"))
  assert found[:4].tolist() == ["low", "low", "neutral", "high"]


def test_the_circumplex_covers_every_felt_emotion():
  felt = set(utterance.EMOTIONS) - {"other", "undecided"}
  assert set(labels.CIRCUMPLEX) == felt
  for corpus in ("emodb", "ravdess", "crema_d"):
    for column in range(2):
      names = common.CORPORA[corpus]["classes"]
      levels = {labels.CIRCUMPLEX[name][column] for name in names}
      assert levels == {-1, 0, 1}, (corpus, column)


def test_emotions_stay_as_they_are():
  found = labels.label_words(table(), config("emotion"))
  assert found.tolist() == ["angry", "sad", "neutral", "calm"] * 2


@pytest.mark.parametrize(
  ("target", "binning", "message"),
  [
    ("activaton", "middle", "did you mean activation"),
    ("activation", "medium", "binning='medium' is unknown"),
    ("dominance", "circumplex", "valence and activation only"),
    ("valence", "middle", "binning='circumplex'"),
  ],
)
def test_what_cannot_be_labelled_is_refused(target, binning, message):
  bare = table()
  bare.attributes = np.full((len(MARKS), 3), np.nan, np.float32)
  with pytest.raises(UserError, match=message):
    labels.label_words(bare, config(target, binning))


def test_labelled_fractions_are_nested_and_even():
  found = np.array([-1] * 5 + [0] * 40 + [1] * 10 + [2] * 3, np.int32)
  some = labels.labelled(found, 0.1)
  more = labels.labelled(found, 0.5)
  assert [some[found == k].sum() for k in range(-1, 3)] == [0, 4, 1, 1]
  assert [more[found == k].sum() for k in range(-1, 3)] == [0, 20, 5, 2]
  assert (some <= more).all()
  np.testing.assert_array_equal(labels.labelled(found, 1.0), found >= 0)


@pytest.mark.parametrize("fraction", [0.0, -0.5, 1.01])
def test_fractions_out_of_range_are_refused(fraction):
  with pytest.raises(UserError, match="labelled_fraction"):
    labels.labelled(np.zeros(3, np.int32), fraction)
