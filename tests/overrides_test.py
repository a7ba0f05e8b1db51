"""What a command line may say of a config, and how it is refused."""

import pathlib
import subprocess
import sys

import pytest
from absl import flags
from ml_collections import config_flags

from configs import ds_lstm
from ser_jax import overrides, reproduce
from ser_jax.errors import UserError

ROOT = pathlib.Path(__file__).resolve().parents[1]
DS_LSTM = "--config=configs/ds_lstm.py"


def parse(*arguments):
  """The config that a command line makes, checked as it is there."""
  argv = ["main", *arguments]
  known = flags.FlagValues()
  config_flags.DEFINE_config_file("config", flag_values=known, sys_argv=argv)
  overrides.check_names(argv)
  known(argv)
  overrides.check_values(known["config"])
  return known.config


@pytest.fixture(autouse=True)
def in_the_checkout(monkeypatch):
  monkeypatch.chdir(ROOT)


@pytest.mark.parametrize(
  "arguments, message",
  [
    (["--config=configs/nope.py"], "configs/nope.py is no file .*: give one of "
     "configs/: aae.py, adieu.py, dat.py, dcaen.py, ds_lstm.py."),
    (["--config", "ds_lstm", "--config.epochs=3"], "--config=ds_lstm is no"),
    (["--config=configs"], "--config=configs is no file"),
    (["--config=README.md"], "is no config with a function get_config"),
    (["--config=configs/tables/rows.py"], "is no config with a function"),
    ([f"{DS_LSTM}:duel"], "did you mean dual"),
    ([DS_LSTM, "--config.folds=(0,)"], "mean --config.protocol.folds[?]"),
    ([DS_LSTM, "--config.data.folds=(0,)"], "mean --config.protocol.folds[?]"),
    ([DS_LSTM, "--noconfig.embeddings"], "--config.report.embeddings[?]"),
    ([DS_LSTM, "--config.lerning_rate=1"], "mean --config.optimizer.learning_"
     "rate, --config.optimizer.learning_rates[?]"),
    ([DS_LSTM, "--config.zzz=1"], "zzz: the config has no such field. Its "
     "fields are those of configs/common.py and of configs/ds_lstm.py"),
    ([DS_LSTM, "--config.epochs.x=1"], "epochs.x: the config has no such"),
    ([DS_LSTM, "--config.augment={'time_masks': 2}"],
     "augment is a section: .*--config.augment.[a-z_]*=VALUE"),
  ],
)  # fmt: skip
def test_what_is_not_there_is_refused(arguments, message):
  with pytest.raises(UserError, match=message):
    parse(*arguments)


def test_paths_start_at_the_current_directory(monkeypatch, tmp_path):
  monkeypatch.chdir(tmp_path)
  with pytest.raises(UserError) as told:
    parse(DS_LSTM)
  assert f"current directory, {tmp_path})" in str(told.value)
  assert f"give one of {ROOT / 'configs'}/: aae.py" in str(told.value)
  assert parse(f"--config={ROOT / 'configs' / 'ds_lstm.py'}").epochs


def test_what_is_there_is_taken():
  config = parse(
    *(f"{DS_LSTM}:base1,emodb", "--config.epochs=3", "--config.seeds=0,1"),
    "--config.optimizer.learning_rates=(1,0.1)",
    "--config.report.embeddings",
    "--config.data.inputs.mfcc.resample=True",
  )
  assert (config.epochs, config.seeds) == (3, (0, 1))
  assert config.report.embeddings and config.data.inputs.mfcc.resample
  assert parse() is None


def test_one_number_is_no_list_of_seeds():
  with pytest.raises(UserError, match=r"for three, '\(5,\)' for that one"):
    parse(DS_LSTM, "--config.seeds=5")
  assert parse(DS_LSTM, "--config.seeds=(5,)").seeds == (5,)


def test_a_wrong_config_is_one_line():
  done = subprocess.run(
    [sys.executable, "-m", "ser_jax.main", "--config=configs/nope.py"],
    cwd=ROOT,
    capture_output=True,
    text=True,
  )
  assert done.returncode == 2
  assert done.stderr.startswith("error: --config=configs/nope.py is no file")
  assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
  "words, corpus, instead",
  [
    (
      "",
      "emodb",
      "stay those of synthetic.* --config=configs/ds_lstm.py:emodb;",
    ),
    (":base1,ravdess", "emodb", "of ravdess.*configs/ds_lstm.py:base1,emodb;"),
  ],
)
def test_a_corpus_is_a_word(words, corpus, instead):
  """The field alone would leave the protocol and the recipe of another."""
  changed = f"--config.data.corpus={corpus}"
  with pytest.raises(UserError, match=instead):
    parse(DS_LSTM + words, changed)
  assert parse(f"{DS_LSTM}:{corpus}", changed).data.corpus == corpus
  whole = parse(DS_LSTM + words, changed, "--config.protocol.name=random")
  assert whole.data.corpus == corpus


@pytest.mark.parametrize("words", ["configs/aae.py", "configs/ds_lstm.py"])
def test_a_config_is_no_table(words):
  with pytest.raises(UserError, match="is no table with a function get_table"):
    reproduce.load_table(words, "emodb")


@pytest.mark.parametrize(
  ("assignment", "message"),
  [
    ("epochs=abc", "literal of type int, such as --set='epochs=[0-9]+'"),
    ("epochs=1.5", "literal of type int"),
    ("epochs=", "literal of type int"),
    ("epochs", "--set=epochs: give NAME=VALUE with"),
    ("optimizer.name", "of type str, such as --set='optimizer.name=adam'"),
    ("seeds=0", "of type tuple, such as --set='seeds=[(]0,[)]'"),
    ("optimizer={}", "is a section: .*such as --set=optimizer.[a-z_]+=VALUE"),
  ],
)
def test_a_value_of_a_table_is_a_literal(assignment, message):
  config = ds_lstm.get_config()
  with pytest.raises(UserError, match=message):
    reproduce.override(config, [assignment])


@pytest.mark.parametrize(
  "assignment", ["seeds=(0.5,)", "seeds=(0,'a')", "optimizer.clip_norm=-1"]
)
def test_values_of_a_table_are_checked_as_those_of_a_config(assignment):
  rows = [{"name": "dual", "config": ds_lstm.get_config()}]
  field = assignment.partition("=")[0]
  with pytest.raises(UserError, match=f"config.{field}.* must be at least 0"):
    reproduce.prepare(rows, [], 1, "", [assignment])
