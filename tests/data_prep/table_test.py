"""A corpus of one's own: read, refused with a reason, trained on."""

import shutil
import subprocess
import sys

import pytest

from configs import ds_lstm
from data_prep.corpora import table
from ser_jax import experiment
from ser_jax.errors import UserError

HEADER = "path,speaker,emotion,utterance,session,gender,"
HEADER += "valence,activation,dominance,remarks"


@pytest.fixture
def raw(tmp_path):
  """A folder with three recordings, which nobody listens to."""
  (tmp_path / "day 1").mkdir()
  for name in ("day 1/a.wav", "day 1/b.FLAC", "c.wav"):
    (tmp_path / name).write_bytes(b"")
  return tmp_path


def write(raw, *rows, header=HEADER):
  text = "\n".join((header, *rows)) + "\n"
  (raw / table.NAME).write_text(text, encoding="utf-8-sig")


def read(raw, **options):
  return table.read(raw, **{"allow_partial": False} | options)


def test_a_row_is_an_utterance(raw):
  write(
    raw,
    'day 1/b.FLAC, Ann ,at ease,,,,,,,"said, ""well"""',
    "c.wav,Bo,tense,first,morning,male,1,2.5,5,",
    "day 1/a.wav,Ann,tense",
  )
  a, b, named = read(raw)
  assert (a.id, b.id, named.id) == ("day 1_a", "day 1_b", "first")
  assert (b.speaker, b.session, b.gender) == ("Ann", "Ann", "")
  assert b.emotion == "at ease" and b.attributes == {}
  assert named.attributes == {"valence": 1, "activation": 2.5, "dominance": 5}
  assert (named.session, named.gender) == ("morning", "male")
  assert named.path == raw / "c.wav"


@pytest.mark.parametrize(
  ("row", "message"),
  [
    ("d.wav,Bo,sad", "line 2: there is no file .*d.wav.*--allow-partial"),
    ("c.wav,,sad", "line 2: speaker is empty"),
    ("c.wav,Bo", "line 2: emotion is empty"),
    ("c.mp3,Bo,sad", "c.mp3 is neither WAV nor FLAC"),
    ("c.wav,Bo,sad,,,m", "gender 'm' is neither female nor male"),
    ("c.wav,Bo,sad,,,,1,2,", "valence=1, activation=2 must be numbers from 1"),
    ("c.wav,Bo,sad,,,,1,2,high", "dominance=high must be numbers from 1 to 5"),
    ("c.wav,Bo,sad,,,,1,2,nan", "dominance=nan must be numbers from 1 to 5"),
    ("c.wav,Bo,sad\nc.wav,Bo,sad", "line 3: the utterance 'c' is there twice"),
    ("c.wav,Bo,sad,c@2", "'c@2' has one of @ ~, which mark excerpts"),
    ("c.wav,Bo~1,sad", "'Bo~1' has one of @ ~"),
    ("c.wav,Bo,at ease" + 8 * "," + "said, well", "more values than the first"),
    ("", "names no recording that is there"),
  ],
)
def test_a_row_amiss_is_named(raw, row, message):
  write(raw, row)
  with pytest.raises(UserError, match=message):
    read(raw)


def test_a_table_amiss_is_named(raw):
  with pytest.raises(UserError, match="utterances.csv, which is not there"):
    read(raw)
  write(raw, "c.wav,Bo", header="path,who")
  with pytest.raises(UserError, match=r"no column speaker, emotion \(it has"):
    read(raw)
  write(raw, "c.wav,Bo,sad,sad", header="path,speaker,emotion,emotion")
  with pytest.raises(UserError, match="two columns of one name"):
    read(raw)
  (raw / table.NAME).write_bytes(b"")
  with pytest.raises(UserError, match=r"no column path.* \(it has nothing\)"):
    read(raw)
  (raw / table.NAME).write_bytes(b"path,speaker,emotion\n\xff\xfe,a,b\n")
  with pytest.raises(UserError, match="save it as CSV in UTF-8"):
    read(raw)


def test_blanks_and_commas_at_the_end_are_nothing(raw):
  write(raw, "c.wav, Bo, sad,,,", header="path, speaker, emotion,,")
  (found,) = read(raw)
  assert (found.speaker, found.emotion) == ("Bo", "sad")


def test_what_is_missing_may_be_left_out(raw):
  write(raw, "c.wav,Bo,sad", "d.wav,Bo,sad")
  assert [u.id for u in read(raw, allow_partial=True)] == ["c"]


def test_words_of_one_s_own_are_trained_on(corpora, tmp_path):
  raw, out = tmp_path / "raw", tmp_path / "shards"
  raw.mkdir()
  rows, words = [], {"W": "tense", "N": "at ease"}
  speakers = ("03", "08", "09", "10", "11", "12")
  for speaker in speakers:
    for letter, word in words.items():
      path = next((corpora / "emodb").glob(f"{speaker}*{letter}?.flac"))
      shutil.copy(path, raw)
      rows.append(f"{path.name},{speaker},{word}")
  write(raw, *rows)
  done = subprocess.run(
    [
      *(sys.executable, "-m", "data_prep.build", "--corpus=table"),
      *(f"--raw={raw}", f"--out={out}", "--features=ds_lstm"),
    ],
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  config = ds_lstm.get_config("base1,table")
  config.data.shards, config.data.classes = str(out), tuple(words.values())
  config.model.hidden, config.epochs, config.batch_size = 8, 1, 4
  config.parallel.data, config.protocol.count = 1, 3
  report = experiment.train(config, tmp_path / "run", should_stop=lambda: False)
  assert report["speaker_independent"] and len(report["runs"]) == 3
  config.data.classes = ("tense", "angry")
  with pytest.raises(
    UserError, match="has 'angry'.* there are: at ease, tense"
  ):
    experiment.train(config, tmp_path / "other", should_stop=lambda: False)
