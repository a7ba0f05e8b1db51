"""Every row of the adversarial autoencoder takes real steps from real audio."""

import json

import numpy as np
import pytest

from configs import aae, common
from ser_jax import experiment
from ser_jax.data.dataset import load_dataset
from ser_jax.errors import UserError

pytestmark = pytest.mark.usefixtures("opensmile_installed")
# Rows, and between them every kind of label, data source and program.
STEPS = {
  "utt_base,valence,strict": {"backend": "pmap"},
  "utt_aae_vanilla,dominance,round": {"source": "stream"},
  "utt_aae,emotion": {"runs": "vmap", "fraction": 0.5, "embeddings": True},
  "utt_aae,valence,circumplex,no_regularization": {},
  "fr_base,activation": {},
  "fr_aae,activation": {"embeddings": True},
}
WORDS = [
  *aae.PAPER,
  *(f"utt_aae,{target}" for target in (*aae.ATTRIBUTES, "emotion")),
  *(f"fr_aae,valence,{word}" for word in ("strict", "middle", "round")),
  *(f"utt_aae,activation,{corpus}" for corpus in common.CORPORA),
  *(f"fr_base,emotion,{corpus}" for corpus in common.CORPORA),
  "utt_aae,no_regularization",
  "utt_aae,usual_folds",
]


def small(synthetic_shards, words):
  """A config that trains in seconds."""
  config = aae.get_config(words)
  config.data.shards = str(synthetic_shards(config.data.features))
  config.protocol.folds = (0,)
  config.model.update({"hidden": 8, "latent": 4})
  if "emotion" not in words:  # random bits are half of what is compiled
    config.model.update({"dropout": 0.0, "discriminator_dropout": 0.0})
  if config.model.frames:
    config.model.frames = config.data.max_frames = 256
    config.model.channels = (4, 4, 4, 4)
    config.model.batch_norm = False  # those of utterances have it
  config.batch_size = 8
  config.epochs = 1
  config.parallel.data = 1
  return config


def train(config, workdir):
  return experiment.train(config, workdir, should_stop=lambda: False)


@pytest.mark.parametrize("words", STEPS)
def test_every_row_takes_real_steps(synthetic_shards, tmp_path, words):
  config, ways = small(synthetic_shards, words), STEPS[words]
  config.data.source = ways.get("source", "resident")
  config.data.labelled_fraction = ways.get("fraction", 1.0)
  config.parallel.runs = ways.get("runs", "loop")
  config.report.embeddings = ways.get("embeddings", False)
  if ways.get("runs"):
    config.seeds = (0, 1)
  if ways.get("backend"):
    config.parallel.update({"backend": ways["backend"], "data": 2})
  report = train(config, tmp_path)
  assert 0 <= report["summary"]["uar"]["mean"] <= 1
  assert sum(report["baseline"]["shares"].values()) == pytest.approx(1)
  line = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[0])
  measured = {"loss", "wa"}
  if "aae" in words:
    measured |= {"reconstruction_loss"}
    if "no_regularization" not in words:
      measured |= {"y_entropy", "y_mean_entropy", "z_mean", "z_variance"}
      measured |= {"z_covariance"} | {
        f"{who}_{what}_loss"
        for who in ("discriminator", "generator")
        for what in "yz"
      }
  assert set(line["train"]) == measured
  assert set(line["learning_rate"]) == set(config.task.phases)
  text = (tmp_path / "report.md").read_text()
  assert "share %" in text
  if ways.get("fraction"):
    assert "50.0% of the training utterances are labelled" in text
  if ways.get("embeddings"):
    check_embeddings(tmp_path, config, report)
  assert list(tmp_path.glob("runs/*/embeddings.npz")) == list(
    tmp_path.glob("runs/*-seed0/embeddings.npz")
  )


def check_embeddings(folder, config, report):
  """Everyone is embedded, and decoding y and z gives what training sees."""
  (file,) = folder.glob("runs/*/embeddings.npz")
  with (
    np.load(file) as stored,
    np.load(file.with_name("generated.npz")) as made,
    np.load(file.with_name("predictions.npz")) as predicted,
  ):
    test = stored["split"] == "test"
    assert (stored["utterance"][test] == predicted["utterance"]).all()
    np.testing.assert_allclose(
      stored["scores"][test], predicted["scores"], rtol=1e-5, atol=1e-6
    )
    assert len(np.unique(stored["utterance"])) == len(stored["utterance"])
    assert stored["hidden"].shape == (len(test), config.model.hidden)
    assert stored["z"].shape == (len(test), config.model.latent)
    assert made["input"].shape == made["reconstruction"].shape
    assert made["traversal"].shape[2:] == made["input"].shape[1:]
    assert np.isfinite(made["samples"]).all()
    error = np.square(made["input"] - made["reconstruction"]).mean()
    assert 0 < error < 100
  assert set(report["embeddings"]) == {"hidden", "y", "z"}
  for name in ("tsne_z", "reconstruction", "samples", "traversal"):
    assert f"figures/{name}.png" in report["figures"]


@pytest.mark.parametrize("words", WORDS)
def test_words_make_configs_that_are_accepted(words):
  config = aae.get_config(words)
  experiment.check(config)
  plain = aae.get_config().to_json()
  if words not in (
    "utt_aae",
    "utt_aae,activation",
    "utt_aae,activation,synthetic",
  ):
    assert config.to_json() != plain


def test_published_numbers_stand_beside_ours():
  config = aae.get_config("fr_aae,valence,iemocap")
  assert (config.paper.uar, config.paper.uar_std) == (64.45, 0.37)
  assert not aae.get_config("utt_aae,emotion").paper
  assert not aae.get_config("utt_aae,no_regularization").paper


def test_a_baseline_has_no_discriminators_to_leave_out():
  with pytest.raises(ValueError, match="utt_base has no discriminators"):
    aae.get_config("utt_base,no_regularization")


def test_labels_of_a_corpus_with_ratings(synthetic_shards):
  config = small(synthetic_shards, "utt_aae,valence")
  dataset = load_dataset(config)
  ratings = dataset.shards.table.attributes[:, 0]
  np.testing.assert_array_equal(dataset.labels == 2, ratings > 3.5)
  np.testing.assert_array_equal(dataset.labels == 0, ratings < 2.5)
  assert "binned middle" in dataset.protocol.notes[-1]
  assert dataset.examples.targets["labelled"].all()


def test_a_class_without_labelled_examples_is_refused(synthetic_shards):
  config = small(synthetic_shards, "utt_aae,valence")
  config.data.labelled_fraction = 0.01
  config.protocol.folds = ()
  with pytest.raises(UserError, match="leaves a class without a labelled"):
    load_dataset(config)


def test_inputs_are_standardised_within_the_bound(synthetic_shards):
  config = small(synthetic_shards, "utt_aae")
  plans = load_dataset(config).examples.plans
  assert plans["functionals"].clip == 10.0
  config.data.inputs.functionals.standardize = False
  with pytest.raises(UserError, match="functionals.clip=10.0"):
    load_dataset(config)
