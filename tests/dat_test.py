"""Every speaker-invariant system takes real steps from real audio."""

import json

import jax
import pytest

from configs import dat
from ser_jax import assembly, experiment
from ser_jax.data.shards import open_shards
from ser_jax.errors import UserError
from ser_jax.runs import initial_state

WORDS = [
  "depth1,plain",
  *(f"{encoder},gamma2.5" for encoder in (*dat.DEPTHS, *dat.ENCODERS)),
  "lms,depth1,gamma3.33",
  "logmfb_pitch,depth2,gamma2.5",
  "depth1,gamma2.5,legacy",
  "depth1,plain,legacy",
  "depth1,gamma2.5,masked",
  "logmfb_pitch,cnn_gru,gamma2.5,masked",
]


def small(synthetic_shards, words, **changes):
  """A config that trains in seconds."""
  config = dat.get_config(words)
  config.data.shards = str(synthetic_shards(config.data.features))
  config.protocol.folds = (0,)
  config.model.update({"channels": 4, "hidden": 8, "head": 8})
  config.model.on_cpu.forms = ("direct", "direct")
  config.batch_size = 8
  config.epochs = 1
  config.parallel.data = 1
  with config.unlocked():
    config.update(changes)
  return config


def train(config, workdir):
  return experiment.train(config, workdir, should_stop=lambda: False)


@pytest.mark.parametrize("words", WORDS)
def test_every_variant_takes_real_steps(synthetic_shards, tmp_path, words):
  report = train(small(synthetic_shards, words), tmp_path)
  assert 0 <= report["summary"]["wa"]["mean"] <= 1
  line = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[0])
  assert ("speaker_loss" in line["train"]) == ("plain" not in words)


def test_a_checkpoint_of_another_depth_is_refused(synthetic_shards, tmp_path):
  train(small(synthetic_shards, "depth1,plain"), tmp_path)
  before = (tmp_path / "report.json").read_bytes()
  with pytest.raises(UserError, match=r"model.depth: 1 there, 2 now"):
    train(small(synthetic_shards, "depth2,plain"), tmp_path)
  assert (tmp_path / "report.json").read_bytes() == before


def test_published_numbers_stand_beside_ours():
  config = dat.get_config("mfcc,depth1,gamma3.33,emodb")
  assert (config.paper.wa, config.paper.wa_std) == (73.6, 7.1)
  config = dat.get_config("lms,depth3,gamma3.33,ravdess")
  assert (config.paper.wa, config.paper.wa_std) == (47.0, 8.0)
  # Table 3 has each encoder on its own features.
  assert dat.get_config("mfcc,tdnn_bilstm,gamma2.5,emodb").paper.wa == 61.4
  assert not dat.get_config("lms,tdnn_bilstm,gamma2.5,emodb").paper
  assert not dat.get_config("mfcc,cnn_gru,gamma2.5,emodb").paper


def test_the_loss_of_the_code_has_no_adversary_either():
  """The published figures are of that code, hence of both losses' rows."""
  names = ("classify", "domain_adversarial")
  for adversary, name in zip(("plain", "gamma3.33"), names, strict=True):
    config = dat.get_config(f"mfcc,depth1,{adversary},emodb,legacy")
    assert config.task.name == name and config.task.legacy_thesis_loss
    text = dat.get_config(f"mfcc,depth1,{adversary},emodb")
    assert config.paper == text.paper and config.paper


def test_the_speaker_head_of_the_code_knows_every_speaker(
  synthetic_shards, tmp_path
):
  """Of ten, seven are heard in training; the thesis' snippet 11 has ten."""
  for words, size in (("depth1,gamma2.5", 7), ("depth1,gamma2.5,legacy", 10)):
    config = small(synthetic_shards, words)
    found = assembly.make_experiment(config, tmp_path)
    state = initial_state(found, found.stages[-1], found.groups[0])
    *_, last = jax.tree.leaves(state.params["speaker_head"])
    assert last.shape[-1] == size


def test_what_is_not_padded_keeps_its_length(synthetic_shards):
  """The thesis pads every recording to the longest, before its features."""
  lengths = {}
  for words in ("mfcc", "mfcc,masked"):
    folder = synthetic_shards(dat.get_config(words).data.features)
    lengths[words] = list(open_shards(folder).table.frames["features"])
  padded, masked = lengths.values()
  assert len(set(padded)) == 1 and len(set(masked)) > 1
  # What the pauses at the ends had is trimmed.
  assert all(kept <= padded[0] for kept in masked)
  assert not dat.get_config("mfcc,masked,emodb").paper


@pytest.mark.parametrize("corpus", ["emodb", "ravdess"])
def test_all_classes_of_the_corpus_are_asked_for(corpus):
  classes = dat.get_config(f"depth1,{corpus}").data.classes
  assert len(classes) == {"emodb": 7, "ravdess": 8}[corpus]


@pytest.mark.parametrize(
  "words",
  [
    "best",
    "best,by_speaker",
    "best,no_copies",
    "best,no_course,no_copies,by_speaker",
  ],
)
def test_functionals_take_real_steps(
  synthetic_shards, tmp_path, words, opensmile_installed
):
  config = dat.get_config(words)
  # With copies, which no_copies leaves out.
  config.data.shards = str(synthetic_shards("dat_best", (0.95, 1.05)))
  config.protocol.folds = (0,)
  config.model.hidden = 8
  config.batch_size = 8
  config.epochs = 1
  config.parallel.data = 1
  train(config, tmp_path)
  found = json.loads((tmp_path / "report.json").read_text())
  assert found["transductive"] == ("by_speaker" in words)


def test_words_of_the_thesis_do_not_go_with_best():
  with pytest.raises(ValueError, match="mfcc does not go with it"):
    dat.get_config("best,mfcc")
  for word in ("by_speaker", "no_course"):
    with pytest.raises(ValueError, match=f"{word} goes with best"):
      dat.get_config(f"depth1,{word}")
