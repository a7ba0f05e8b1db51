"""DCaEN (Huang et al.): the rows of Table I, and the thresholds of Table II.

  python -m ser_jax.main --config=configs/dcaen.py             synthetic corpus
  python -m ser_jax.main --config=configs/dcaen.py:e_nc,emodb \
      --config.data.raw=DIR                                     Emo-DB

Words: a row (raw, ftr_eg, ftr_em, e_nc, e_ceg, e_uf, e_c0, r_c, dcaen), a
threshold for the cosine of the row dcaen (thr_m0.5 ... thr_m0.8), a
normalisation of the functionals (train_norm: by the training part; else by each
speaker, test speakers included, as in the paper: transductive), a corpus.
Functionals are openSMILE's: pip install 'ser_jax[opensmile]'; of ftr_em they
are IS10's 1582, which stand for emobase2010's.

The paper's w = 0.6 is config.task.weight.
"""

from ml_collections import config_dict

from configs import common

# Recall of sad, happy, angry and neutral, and their mean, in per cent.
PAPER = {
  "raw": (72.05, 27.81, 55.85, 55.56, 52.82),
  "ftr_eg": (64.11, 52.87, 54.67, 57.79, 57.36),
  "ftr_em": (66.70, 51.89, 59.11, 52.93, 57.66),
  "e_nc": (66.14, 49.69, 54.67, 57.44, 56.99),
  "e_ceg": (71.22, 54.16, 47.96, 52.93, 56.57),
  "e_uf": (68.63, 49.39, 54.49, 56.03, 57.14),
  "e_c0": (64.21, 49.82, 54.49, 59.66, 57.04),
  "r_c": (71.22, 25.31, 57.75, 60.25, 53.63),
  "dcaen": (68.45, 50.12, 58.30, 60.36, 59.31),
}
THRESHOLDS = {
  "thr_m0.5": (-0.5, 57.49),
  "thr_m0.6": (-0.6, 57.82),
  "thr_m0.7": (-0.7, 58.21),
  "thr_m0.8": (-0.8, 58.57),
}
# The networks of each row, see ser_jax/models/complementary.py; else dual.
VARIANTS = {
  "raw": "raw",
  "ftr_eg": "features",
  "ftr_em": "features",
  "e_ceg": "dual_projected",
  "r_c": "dual_raw",
}
FEATURES = {
  "raw": "waveform_6s",
  "ftr_eg": "egemaps",
  "ftr_em": "is10_functionals",
}


def get_config(words: str = "dcaen"):
  given = common.read_words(
    words,
    {
      "row": tuple(PAPER),
      "threshold": tuple(THRESHOLDS),
      "normalisation": ("train_norm",),
      "corpus": tuple(common.CORPORA),
    },
  )
  row, threshold = given["row"] or "dcaen", given["threshold"]
  if threshold and row != "dcaen":
    raise ValueError(f"{threshold} is for the row dcaen, not for {row}.")
  if given["normalisation"] and row == "raw":
    raise ValueError("train_norm is of functionals, which raw does not read.")
  config = common.get_config()
  common.use_corpus(config, given["corpus"] or "synthetic")
  config.system = "dcaen"
  config.variant = "-".join(
    word for word in (row, threshold, given["normalisation"]) if word
  )
  _data(config, row, "train" if given["normalisation"] else "speaker")
  _model(config, row)
  _task(config, row, threshold)
  _training(config)
  if given["normalisation"]:  # The paper has no such row.
    return config
  config.paper.update(
    {
      "source": f"Huang et al., Table {'II' if threshold else 'I'}",
      "corpus": "iemocap",
      "uar": THRESHOLDS[threshold][1] if threshold else PAPER[row][-1],
      "protocol": "leave one session out",
    }
  )
  return config


def _data(config, row: str, normalize: str) -> None:
  """The inputs that a row reads, in the smallest set that has them."""
  config.data.features = FEATURES.get(row, "dcaen")
  if not row.startswith("ftr"):
    # The paper is silent; so are recordings, to a network, at levels of a
    # hundredth. Loudness is among the functionals.
    common.add_input(config, "waveform", normalize="utterance")
  if row != "raw":
    common.add_input(config, "functionals", normalize=normalize)


def _model(config, row: str) -> None:
  config.model.update(
    {
      "name": "complementary",
      "variant": VARIANTS.get(row, "dual"),
      "frozen": row != "e_uf",
      "embedding": 64,
      "hidden": 256,
      "dropout": 0.5,
      "filters": (40, 40),
      # Each frame is convolved on its own, or the utterance as a whole.
      "framed": True,
    }
  )
  common.computed(
    config,
    on_cpu={"forms": ("blocked", "fft"), "hoist": True},
    on_accelerator={
      "forms": ("direct", "direct"),
      "hoist": True,
      "unroll": 4,
    },
  )


def _task(config, row: str, threshold: str | None) -> None:
  """L = w cos + (1 - w) CE; of e_c0, w |cos| + (1 - w) CE."""
  compares = row not in ("raw", "ftr_eg", "ftr_em", "e_nc")
  config.task.name = "complementary"
  config.task.weight = 0.6 if compares else 0.0
  # What the cosine is held at; none: as low as it gets.
  config.task.threshold = config_dict.placeholder(float)
  if threshold or row == "e_c0":
    config.task.threshold = THRESHOLDS[threshold][0] if threshold else 0.0
  # Epochs of the stage that trains the feature network.
  staged = config.model.variant in ("dual", "dual_raw")
  config.task.feature_epochs = 20 if staged else 0


def _training(config) -> None:
  """The paper's recipe."""
  config.epochs = 20
  config.batch_size = 32
  config.optimizer.learning_rate = 1e-3
  if config.data.corpus == "synthetic":
    config.protocol.folds = (0, 1)
    config.epochs = 4
