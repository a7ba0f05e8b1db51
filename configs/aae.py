"""Adversarial autoencoder (Parthasarathy et al. 2019): the rows of Table 1.

  python -m ser_jax.main --config=configs/aae.py               synthetic corpus
  python -m ser_jax.main --config=configs/aae.py:utt_aae,activation,emodb \
      --config.data.raw=DIR                                     Emo-DB

Words: a row (utt_base, utt_aae_vanilla, utt_aae, fr_base, fr_aae), an attribute
(activation, valence, dominance) or emotion, a binning of its ratings (strict,
middle, round, circumplex; see ser_jax/data/labels.py), an ablation
(no_regularization: no discriminators), usual_folds (the corpus' usual protocol
instead of the paper's, where one speaker of a pair validates, the other tests,
and then they swap), a corpus. Features are openSMILE's: pip install
'ser_jax[opensmile]'.

Fewer labels: --config.data.labelled_fraction=0.1; the others join every phase
but classification.
"""

from configs import common

LEVELS = ("low", "neutral", "high")
RATED = ("synthetic", "iemocap")
# Unweighted accuracy and deviation over 10 runs, in per cent: activation,
# valence, dominance. The paper does not say whether that is the mean recall.
PAPER = {
  "utt_base": "77.74 0.35, 61.92 0.22, 63.94 0.48",
  "utt_aae_vanilla": "75.30 0.53, 60.94 0.53, 63.53 0.36",
  "utt_aae": "78.08 0.23, 63.66 0.42, 65.32 0.33",
  "fr_base": "78.19 0.50, 62.14 0.64, 64.64 0.72",
  "fr_aae": "78.42 0.38, 64.45 0.37, 65.45 0.24",
}
ATTRIBUTES = ("activation", "valence", "dominance")
PHASES = ("reconstruction", "discriminators", "generator", "classification")


def get_config(words: str = "utt_aae"):
  given = common.read_words(
    words,
    {
      "row": tuple(PAPER),
      "target": (*ATTRIBUTES, "emotion"),
      "binning": ("strict", "middle", "round", "circumplex"),
      "ablation": ("no_regularization",),
      "protocol": ("usual_folds",),
      "corpus": tuple(common.CORPORA),
    },
  )
  row, target = given["row"] or "utt_aae", given["target"] or "activation"
  corpus = given["corpus"] or "synthetic"
  usual = "middle" if corpus in RATED else "circumplex"
  config = common.get_config()
  common.use_corpus(config, corpus)
  if not given["protocol"] and corpus not in ("crema_d", "table"):  # no pairs
    config.protocol.name = "leave_one_pair_out"
  config.system = "aae"
  parts = [row, target, given["binning"], given["ablation"]]
  parts.append(given["protocol"])
  config.variant = "-".join(part for part in parts if part)
  config.data.target = target
  config.data.binning = given["binning"] or usual
  categories = common.CORPORA[corpus]["classes"]
  config.data.classes = categories if target == "emotion" else LEVELS
  config.data.labelled_fraction = 1.0
  _model(config, row)
  _phases(config, row, regularize=given["ablation"] is None)
  _training(config, corpus)
  if target in ATTRIBUTES and not given["ablation"]:
    _paper(config, PAPER[row].split(", ")[ATTRIBUTES.index(target)])
  return config


def _model(config, row: str) -> None:
  """Functionals, or ten seconds of low-level descriptors."""
  frames = 1024 if row.startswith("fr") else 0
  name = "descriptors" if frames else "functionals"
  config.data.features = "is13_lld" if frames else "is13_functionals"
  config.data.max_frames = frames
  # The set's ranges span thirteen decades: outliers are cut at ten deviations
  # of the training part.
  common.add_input(config, name, clip=10.0)
  if frames:
    config.model.channels = (128, 128, 256, 256)
  vanilla = row == "utt_aae_vanilla"
  config.model.update(
    {
      "name": "adversarial_autoencoder",
      "autoencoder": not row.endswith("base"),
      "frames": frames,
      "latent": 100,
      "hidden": 256,
      "dropout": 0.5,
      "discriminator_dropout": 0.0 if vanilla else 0.5,
      "batch_norm": not (vanilla or row.endswith("base")),
    }
  )


def _phases(config, row: str, *, regularize: bool) -> None:
  """The phases of a step, and their shares of the learning rate."""
  phases = PHASES
  if row.endswith("base"):
    if not regularize:
      raise ValueError(f"{row} has no discriminators to leave out.")
    phases = ("classification",)
  elif not regularize:
    phases = ("reconstruction", "classification")
  config.task.update(
    {
      "name": "adversarial_autoencoder",
      "phases": phases,
      "rates": dict.fromkeys(PHASES, 1.0),
    }
  )
  if row != "utt_aae_vanilla":
    # The paper's strengthened generator.
    config.task.rates.discriminators = 0.1


def _training(config, corpus: str) -> None:
  """The paper's epochs; its optimizer and batch are unsaid.

  Batches are smaller on corpora of a few hundred utterances.
  """
  config.epochs = 100
  config.optimizer.learning_rate = 1e-3
  config.batch_size = 128 if corpus in ("iemocap", "crema_d") else 32
  if corpus == "synthetic":
    config.protocol.folds = (0, 1)
    config.epochs = 10


def _paper(config, figures: str) -> None:
  """What Table 1 has for the row and attribute."""
  mean, deviation = map(float, figures.split())
  config.paper.update(
    {
      "source": "Parthasarathy et al. 2019, Table 1",
      "corpus": "iemocap",
      "uar": mean,
      "uar_std": deviation,
      "protocol": "leave one session out",
    }
  )
