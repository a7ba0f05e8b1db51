import pathlib

import pytest

from data_prep.skipped import TOLD, Skipped
from data_prep.utterance import Utterance
from ser_jax.errors import UserError


def utterance(name):
  return Utterance(
    name,
    pathlib.Path("x.wav"),
    speaker="s",
    session="1",
    gender="",
    emotion="sad",
  )


def test_all_are_named_up_to_a_few():
  skipped = Skipped(False)
  skipped.check()
  for number in range(TOLD + 2):
    skipped.add(utterance(f"u{number}"), f"{number}.wav is silent.")
  with pytest.raises(UserError) as raised:
    skipped.check()
  told = str(raised.value)
  assert "utterance u0: 0.wav is silent. utterance u1:" in told
  assert f"u{TOLD - 1}:" in told and f"u{TOLD}:" not in told
  assert "And 2 more." in told and "--skip-bad" in told


def test_a_copy_is_not_told_of_beside_its_original():
  skipped = Skipped(False)
  for name in ("u", "u~0.95"):
    skipped.add(utterance(name), "u.wav is silent.")
  with pytest.raises(UserError) as raised:
    skipped.check()
  assert str(raised.value).count("is silent") == 1


def test_nothing_is_refused_where_they_may_be_left_out():
  skipped = Skipped(True)
  skipped.add(utterance("u"), "u.wav is silent.")
  skipped.check()
  assert skipped.reasons == {"u": "u.wav is silent."}
