"""Adieu features (Trigeorgis et al. 2016): contours from raw samples.

  python -m ser_jax.main --config=configs/adieu.py             synthetic corpus
  python -m ser_jax.main --config=configs/adieu.py:emodb \
      --config.data.raw=DIR               loudness and F0 of Emo-DB's recordings

Words: a preset; an objective (ccc for 1 - CCC, mse); targets (ratings for the
corpus' arousal and valence, prosody for loudness and F0, which every recording
has); a corpus (synthetic, emodb, ravdess, recola, ...). Presets:

    bi128          2 x BLSTM 128, kernels of 5 ms (default); 1.25 M parameters
    uni256         2 x LSTM 256, which can run on a stream; 1.51 M
    depthwise500   bi128 with a second kernel of 500 ms, each channel alone;
                   1.35 M
    literal500     the same between all channels, as the paper prints; 7.59 M
    tzirakis2017   frames of 40 ms filtered on their own, 2 x LSTM 256; 2.16 M

The paper's recipe: Adam 2e-3, batches of 50, dropout .5; epochs are not told.

Its recurrent baseline, 3 x BLSTM 64 with noise on the inputs, early stopping
and SGD on batches of 5 (its rate and its momentum are ours), is a preset, too;
functionals are openSMILE's: pip install 'ser_jax[opensmile]'.

    blstm_egemaps  on eGeMAPS, 3 s around every 40 ms
    blstm_compare  on functionals of ComParE's descriptors, likewise

Its learning rate was tuned for each target and objective, and is not told.
"""

from configs import common

PRESETS = {
  "bi128": {},
  "uni256": {"hidden": 256, "bidirectional": False},
  "depthwise500": {"taps": (80, 4000), "depthwise": True},
  "literal500": {"taps": (80, 4000)},
  "tzirakis2017": {
    "taps": (20, 40),
    "pool_channels": 10,
    "framed": True,
    "hidden": 256,
    "bidirectional": False,
  },
}
# Functionals in time, which come with ratings or, as *_prosody, with prosody.
BASELINES = {
  "blstm_egemaps": "egemaps_windows",
  "blstm_compare": "compare_lld_windows",
}
TARGETS = {
  "ratings": ("adieu", ("arousal", "valence")),
  "prosody": ("adieu_prosody", ("loudness", "f0")),
}
RATED = ("synthetic", "recola")
OBJECTIVES = ("ccc", "mse")
# CCC of arousal and valence, on test and on development speakers (Table 1).
PAPER = {
  ("bi128", "ccc"): ((0.686, 0.261), (0.741, 0.325)),
  ("bi128", "mse"): ((0.684, 0.249), (0.728, 0.312)),
  ("blstm_egemaps", "ccc"): ((0.316, 0.195), (0.445, 0.190)),
  ("blstm_egemaps", "mse"): ((0.300, 0.192), (0.404, 0.187)),
  ("blstm_compare", "ccc"): ((0.382, 0.187), (0.478, 0.246)),
  ("blstm_compare", "mse"): ((0.132, 0.117), (0.221, 0.152)),
}


def get_config(words: str = "bi128,ccc"):
  given = common.read_words(
    words,
    {
      "preset": (*PRESETS, *BASELINES),
      "objective": OBJECTIVES,
      "targets": tuple(TARGETS),
      "corpus": (*common.CORPORA, "recola"),
    },
  )
  preset = given["preset"] or "bi128"
  objective = given["objective"] or "ccc"
  corpus = given["corpus"] or "synthetic"
  usual = "ratings" if corpus in RATED else "prosody"
  targets = given["targets"] or usual
  if targets == "ratings" and corpus not in RATED:
    raise ValueError(f"{corpus} is not rated in time: leave out ratings.")
  config = common.get_config()
  config.system = "adieu"
  config.variant = f"{preset}-{objective}-{targets}"
  _data(config, corpus, targets)
  if preset in PRESETS:
    _model(config, preset)
  config.task.update(
    {
      "name": "regress",
      "objective": objective,
      # The CCC of each utterance instead of the batch as a whole.
      "per_sequence": False,
    }
  )
  del config.task["label_smoothing"]
  _training(config)
  if preset in BASELINES:
    _baseline(config, preset, targets)
  if targets == "ratings" and (preset, objective) in PAPER:
    test, _ = PAPER[preset, objective]
    config.paper.update(
      {
        "source": "Trigeorgis et al. 2016, Table 1",
        "corpus": "recola",
        "protocol": "16/15/15 speakers, post-processed",
        "ccc_arousal": test[0],
        "ccc_valence": test[1],
      }
    )
  return config


def _data(config, corpus: str, targets: str) -> None:
  """Samples at zero mean and unit variance, and what to predict of them."""
  if corpus == "recola":
    config.data.corpus, config.protocol.name = corpus, "partition"
  else:
    common.use_corpus(config, corpus)
  config.data.features, config.data.classes = TARGETS[targets]
  config.data.target = "contours"
  common.add_input(config, "waveform", normalize="recording")


def _model(config, preset: str) -> None:
  config.model.update(
    {
      "name": "raw_waveform",
      "filters": (40, 40),
      # Samples at 16 kHz, then steps at 16 kHz / pool_time.
      "taps": (80, 40),
      "pool_time": 2,
      "pool_channels": 20,
      "framed": False,
      "depthwise": False,
      "rectify": (True, False),
      "hidden": 128,
      "layers": 2,
      "bidirectional": True,
      "dropout": 0.5,
    }
  )
  config.model.update(PRESETS[preset])
  # Kernels of thousands of taps are products of spectra anywhere.
  long = config.model.taps[1] > 1000
  common.computed(
    config,
    on_cpu={"forms": ("blocked", "fft"), "hoist": True},
    on_accelerator={
      "forms": ("direct", "fft" if long else "direct"),
      "hoist": True,
      "unroll": 4,
    },
  )


def _training(config) -> None:
  """The paper's recipe."""
  config.epochs = 60
  config.batch_size = 50
  config.optimizer.learning_rate = 2e-3
  config.selection.metric = "ccc"
  if config.data.corpus == "synthetic":
    config.protocol.folds = (0, 1)
    config.epochs = 4


def _baseline(config, preset: str, targets: str) -> None:
  """The recurrent baseline instead of convolutions."""
  suffix = "_prosody" if targets == "prosody" else ""
  config.data.features = BASELINES[preset] + suffix
  config.data.inputs = {}
  common.add_input(config, "windows", clip=10.0)
  config.model.update(
    {
      "name": "lstm_regressor",
      "hidden": 64,
      "layers": 3,
      "noise": 0.1,
    }
  )
  common.computed(
    config,
    on_cpu={"hoist": True},
    on_accelerator={"hoist": True, "unroll": 4},
  )
  config.optimizer.update(
    {"name": "sgd", "learning_rate": 1e-2, "kwargs": "momentum=0.9"}
  )
  config.batch_size = 5
  config.selection.patience = 10
