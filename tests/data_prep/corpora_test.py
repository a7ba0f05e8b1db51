"""Readers: real corpora where they are, and trees in the exact formats."""

import itertools
import pathlib

import numpy as np
import pytest
import soundfile

from data_prep.corpora import CORPORA, crema_d, synthetic
from ser_jax.errors import UserError


def audio(path: pathlib.Path) -> None:
  path.parent.mkdir(parents=True, exist_ok=True)
  wave = np.sin(np.arange(4000) / 9.0) * 0.3
  soundfile.write(path, wave, 16000)


def read(corpus, raw, allow_partial=True):
  return CORPORA[corpus](raw, allow_partial=allow_partial)


def test_emodb(corpora):
  found = read("emodb", corpora / "emodb", allow_partial=False)
  assert len(found) == 535
  by_id = {u.id: u for u in found}
  anger = by_id["03a01Wa"]
  assert (anger.speaker, anger.gender, anger.emotion) == ("03", "male", "angry")
  assert by_id["16b10Wb"].gender == "female"
  assert len({u.speaker for u in found}) == 10


def test_ravdess(corpora):
  found = read("ravdess", corpora / "ravdess", allow_partial=False)
  assert len(found) == 1440
  by_id = {u.id: u for u in found}
  one = by_id["03-01-05-02-01-01-12"]
  assert (one.speaker, one.gender, one.emotion) == ("12", "female", "angry")
  assert sum(u.emotion == "neutral" for u in found) == 96


@pytest.mark.parametrize(
  ("corpus", "name"),
  [
    ("emodb", "wav/03a01Wa.wav"),
    ("ravdess", "Actor_01/03-01-06-01-02-01-01.wav"),
    ("crema_d", "AudioWAV/1001_DFA_ANG_XX.wav"),
  ],
)
def test_counts_are_checked_and_partial_is_allowed(tmp_path, corpus, name):
  audio(tmp_path / name)
  with pytest.raises(UserError, match="--allow-partial"):
    read(corpus, tmp_path, allow_partial=False)
  assert len(read(corpus, tmp_path)) == 1


def iemocap_tree(folder):
  """One dialog of each kind, with the release's oddities."""
  lines = {
    "Ses01F_impro01": [
      "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]",
      "",
      "[6.2901 - 8.2357]\tSes01F_impro01_F000\tneu\t[2.5000, 2.5000, 2.5000]",
      "C-E2:\tNeutral;\t()",
      "A-E3:\tval 3; act 2; dom  2;\t()",
      "",
      "[10.0100 - 11.3925]\tSes01F_impro01_M001\texc\t[4.3333, 3.6667, 3.0000]",
      "C-E1:\tExcited;\t()",
    ],
    "Ses02M_script01_1": [
      "[1.0000 - 2.0000]\tSes02M_script01_1_F003\thap\t[4.5, 3.0, 2.0]",
      "[3.0000 - 4.0000]\tSes02M_script01_1_MXX0\txxx\t[3.0, 3.0, 3.0]",
    ],
  }
  for dialog, text in lines.items():
    session = folder / f"Session{dialog[4]}"
    table = session / "dialog" / "EmoEvaluation" / f"{dialog}.txt"
    table.parent.mkdir(parents=True)
    table.write_text("\n".join(text) + "\n")
    (table.parent / f"._{dialog}.txt").write_bytes(b"\x00\x05\x16\x07\xff")
    for line in text:
      if line.startswith("["):
        turn = line.split("\t")[1]
        path = session / "sentences" / "wav" / dialog / f"{turn}.wav"
        audio(path)
        path.with_name(f"._{turn}.wav").write_bytes(b"\x00\x05\x16\x07")
  return folder


def test_iemocap(tmp_path):
  found = {u.id: u for u in read("iemocap", iemocap_tree(tmp_path))}
  assert len(found) == 4
  first = found["Ses01F_impro01_F000"]
  assert (first.speaker, first.session, first.emotion) == (
    "01F",
    "session1",
    "neutral",
  )
  excited = found["Ses01F_impro01_M001"]
  assert (excited.speaker, excited.gender) == ("01M", "male")
  assert excited.emotion == "excited"
  assert excited.attributes == {
    "valence": 4.3333,
    "activation": 3.6667,
    "dominance": 3.0,
  }
  # The speaker is the letter of the last token, not that of the dialog.
  assert found["Ses02M_script01_1_F003"].speaker == "02F"
  assert found["Ses02M_script01_1_MXX0"].emotion == "undecided"


def test_iemocap_names_a_damaged_line(tmp_path):
  folder = iemocap_tree(tmp_path)
  table = next(folder.rglob("Ses01F_impro01.txt"))
  table.write_text(table.read_text().replace("\tneu\t", " neu "))
  with pytest.raises(UserError, match="Ses01F_impro01.txt has the line"):
    read("iemocap", folder)


def test_iemocap_names_a_turn_without_audio(tmp_path):
  folder = iemocap_tree(tmp_path)
  next(folder.rglob("Ses01F_impro01_F000.wav")).unlink()
  with pytest.raises(UserError, match="Ses01F_impro01_F000"):
    read("iemocap", folder, allow_partial=False)
  assert len(read("iemocap", folder)) == 3


def test_crema_d(tmp_path):
  audio(tmp_path / "AudioWAV" / "1001_DFA_ANG_XX.wav")
  audio(tmp_path / "AudioWAV" / "1040_ITH_SAD_X.wav")
  (tmp_path / "VideoDemographics.csv").write_text(
    "ActorID,Age,Sex,Race,Ethnicity\n1001,51,Male,X,Y\n1040,42,Female,X,Y\n"
  )
  one, two = read("crema_d", tmp_path)
  assert (one.speaker, one.gender, one.emotion) == ("1001", "male", "angry")
  assert (two.speaker, two.gender, two.emotion) == ("1040", "female", "sad")


def crema_d_tree(folder):
  """As many files of as many actors as the release has, all of them empty."""
  rest = itertools.product(
    ("DFA", "IEO", "ITH", "ITS", "IWL", "IWW", "MTI", "TAI", "TIE", "TSI"),
    crema_d.EMOTIONS,
    ("XX", "MD"),
    range(1001, 1092),
  )
  names = dict.fromkeys(crema_d.DEFECTIVE)
  names |= {f"{a}_{text}_{felt}_{level}": None for text, felt, level, a in rest}
  for name in list(names)[:7442]:
    (folder / f"{name}.wav").touch()
  return folder


def test_defective_files_of_crema_d_are_counted_and_left_out(tmp_path, caplog):
  found = read("crema_d", crema_d_tree(tmp_path), allow_partial=False)
  assert len(found) == 7438
  left_out = {
    *("1064_IEO_DIS_MD", "1064_TIE_SAD_XX"),
    *("1076_MTI_NEU_XX", "1076_MTI_SAD_XX"),
  }
  assert not {u.id for u in found} & left_out
  (line,) = caplog.messages
  assert all(name in line for name in left_out)


@pytest.mark.parametrize("corpus", ["emodb", "ravdess", "crema_d"])
def test_files_that_do_not_belong_are_named(tmp_path, corpus):
  audio(tmp_path / "holiday.wav")
  with pytest.raises(UserError, match="holiday.wav"):
    read(corpus, tmp_path)


@pytest.mark.parametrize("corpus", sorted(CORPORA))
def test_a_missing_folder_is_named(tmp_path, corpus):
  with pytest.raises(UserError, match="nowhere"):
    read(corpus, tmp_path / "nowhere")


def test_the_same_file_twice_is_named(tmp_path):
  audio(tmp_path / "a" / "03a01Wa.wav")
  audio(tmp_path / "b" / "03a01Wa.wav")
  with pytest.raises(UserError, match="twice"):
    read("emodb", tmp_path)


def test_synthetic_is_deterministic_and_shaped_as_iemocap(tmp_path):
  settings = synthetic.Settings(utterances=4, seconds=0.7)
  (tmp_path / "b").mkdir()  # an empty folder is as good as none
  for name in "ab":
    synthetic.generate(tmp_path / name, settings)
  one, two = (read("synthetic", tmp_path / name) for name in "ab")
  assert [u.id for u in one] == [u.id for u in two]
  for a, b in zip(one, two, strict=True):
    assert a.path.read_bytes() == b.path.read_bytes()
    assert a.attributes == b.attributes
    seconds = soundfile.info(a.path).duration
    assert abs(len(a.contour) * 0.04 - seconds) < 0.1
  assert len({u.session for u in one}) == 5
  assert len({u.speaker for u in one}) == 10
  assert {u.emotion for u in one} == {"angry", "happy", "neutral", "sad"}
  assert all(1 <= v <= 5 for u in one for v in u.attributes.values())


def test_synthetic_settings_change_the_audio(tmp_path):
  for seed in (0, 1):
    synthetic.generate(
      tmp_path / str(seed),
      synthetic.Settings(utterances=1, seconds=0.7, seed=seed),
    )
  one, two = (read("synthetic", tmp_path / s) for s in "01")
  assert one[0].path.read_bytes() != two[0].path.read_bytes()
