"""Speaker-invariant emotion recognition by domain-adversarial training.

  python -m ser_jax.main --config=configs/dat.py               synthetic corpus
  python -m ser_jax.main --config=configs/dat.py:mfcc,depth1,gamma3.33,emodb \
      --config.data.raw=DIR                                    Emo-DB

The systems of Tables 1-3 (Leow, NTU 2021). Words: a feature set (mfcc, lms,
logmfb_pitch), the depth of the 2D CNN (depth1 ... depth4) or another encoder
(tdnn_bilstm, cnn_gru: their sizes are this project's, none are published), the
adversary (plain for none, gamma1.25, gamma2.5, gamma3.33), legacy (the loss of
the thesis' code, which has no reversal and one softmax too many), a corpus
(synthetic, emodb, ravdess), masked (recordings are not padded with silence that
the network takes for speech, as they are in the thesis). Whole tables come from
configs/tables/dat_table1.py and its neighbours; benchmarks/results/ has the
figures.

`best` is this project's own answer on the same folds: one hidden layer over
openSMILE's functionals (IS13 and IS10) of trimmed audio and, beside it, one
over the course of cepstra from beginning to end, trained by plain gradient
descent on the recordings and on copies at 0.95 and 1.05 times the speed.
Without the copies (`no_copies`) and without the course (`no_course`) one sees
what either brings; with `by_speaker`, inputs are standardised by each speaker's
own utterances, those of the test speakers included (transductive).
configs/tables/dat_best.py has all of them.

  python -m ser_jax.main --config=configs/dat.py:best,emodb \
      --config.data.raw=DIR
"""

from configs import common

GAMMAS = {"plain": None, "gamma1.25": 1.25, "gamma2.5": 2.5, "gamma3.33": 3.33}
DEPTHS = {"depth1": 1, "depth2": 2, "depth3": 3, "depth4": 4}
ENCODERS = ("tdnn_bilstm", "cnn_gru")
FEATURES = ("mfcc", "lms", "logmfb_pitch")
# Accuracy and its deviation over folds: Emo-DB, then RAVDESS. The columns are
# plain, gamma 1.25, 2.5 and 3.33.
TABLE_1 = {
  "depth1": ("67.3 6.5, 72.1 8.4, 70.6 5.9, 73.6 7.1",
             "56.3 8.1, 60.6 10.3, 61.2 8.4, 60.6 10.6"),
  "depth2": ("68.3 9.6, 68.0 8.0, 71.0 7.6, 67.6 7.4",
             "56.3 9.8, 59.4 7.6, 60.9 8.5, 60.5 9.9"),
  "depth3": ("65.7 10.6, 65.1 7.2, 66.0 5.5, 66.6 5.6",
             "55.8 8.8, 53.7 6.7, 59.4 7.6, 58.9 8.5"),
  "depth4": ("59.6 5.3, 66.0 6.9, 62.9 9.6, 65.2 7.2",
             "54.0 11.3, 54.2 8.7, 54.1 9.3, 51.3 11.1"),
}  # fmt: skip
TABLE_2 = {
  "depth1": ("38.6 8.5, 45.1 7.3, 43.8 4.0, 45.9 3.9",
             "43.3 6.2, 41.6 8.0, 43.3 6.9, 41.3 8.6"),
  "depth2": ("52.4 9.6, 48.5 9.1, 52.4 4.3, 49.2 3.2",
             "46.0 6.2, 44.2 6.6, 43.2 9.2, 41.9 8.3"),
  "depth3": ("50.5 5.6, 51.6 5.6, 52.6 5.9, 51.6 5.5",
             "42.9 5.9, 43.2 6.5, 45.2 4.8, 47.0 8.0"),
  "depth4": ("52.3 6.3, 55.3 8.4, 54.3 9.6, 55.8 8.8",
             "46.5 6.1, 45.3 9.0, 45.4 7.8, 45.3 9.0"),
}  # fmt: skip
WITHOUT = ("no_copies", "no_course")  # of best
# With the adversary; the thesis does not say which gamma.
TABLE_3 = {
  ("mfcc", "tdnn_bilstm"): ("61.4 8.7", "52.4 10.9"),
  ("logmfb_pitch", "cnn_gru"): ("44.2 4.7", "30.5 4.6"),
}


def paper(
  corpus: str, features: str, encoder: str, gamma: str
) -> tuple[float, float] | None:
  """The thesis' accuracy and deviation, in per cent, or None."""
  column = {"emodb": 0, "ravdess": 1}.get(corpus)
  table = {"mfcc": TABLE_1, "lms": TABLE_2}.get(features, {})
  cells = None
  if column is not None and encoder in table:
    cells = table[encoder][column].split(", ")[list(GAMMAS).index(gamma)]
  elif column is not None and (features, encoder) in TABLE_3:
    cells = TABLE_3[features, encoder][column] if gamma != "plain" else None
  if cells is None:
    return None
  mean, deviation = map(float, cells.split())
  return mean, deviation


def get_config(words: str = "mfcc,depth1,gamma3.33"):
  given = common.read_words(
    words,
    {
      "features": FEATURES,
      "encoder": (*DEPTHS, *ENCODERS),
      "adversary": tuple(GAMMAS),
      "loss": ("legacy",),
      "padding": ("masked",),
      "ours": ("best",),
      "normalize": ("by_speaker",),
      "without*": WITHOUT,
      "corpus": tuple(common.CORPORA),
    },
  )
  if given["ours"]:
    return _best(given)
  for word in filter(None, (given["normalize"], *given["without"])):
    raise ValueError(f"{word} goes with best: the thesis has nothing like it.")
  encoder = given["encoder"] or "depth1"
  usual = "logmfb_pitch" if encoder == "cnn_gru" else "mfcc"
  features = given["features"] or usual
  gamma = given["adversary"] or "gamma3.33"
  corpus = given["corpus"] or "synthetic"
  config = common.get_config()
  common.use_corpus(config, corpus)
  config.system = "dat"
  masked = given["padding"]
  parts = [features, encoder, gamma, given["loss"], masked]
  config.variant = "-".join(part for part in parts if part)
  config.data.features = f"dat_{features}" + (f"_{masked}" if masked else "")
  config.data.classes = common.CORPORA[corpus]["classes"]
  # The thesis normalises nothing.
  common.add_input(config, "features", standardize=False)
  _model(config, encoder, adversary=gamma != "plain")
  _task(config, GAMMAS[gamma], legacy=given["loss"] == "legacy")
  config.epochs = 100
  config.batch_size = 32
  config.selection.metric = "wa"
  if corpus == "synthetic":
    config.protocol.folds = (0, 1)
    config.epochs = 10
  found = paper(corpus, features, encoder, gamma)
  if found and not masked:
    config.paper.update(
      {
        "source": "Leow 2021, Tables 1-3",
        "corpus": corpus,
        "wa": found[0],
        "wa_std": found[1],
        "protocol": "leave two speakers out",
      }
    )
  return config


def _best(given: dict) -> common.ConfigDict:
  """Functionals; what validation speakers chose."""
  extra = [
    given[k] for k in ("features", "encoder", "adversary", "loss", "padding")
  ]
  if any(extra):
    raise ValueError(
      f"best is one system: {', '.join(filter(None, extra))} does not go "
      "with it."
    )
  corpus = given["corpus"] or "synthetic"
  config = common.get_config()
  common.use_corpus(config, corpus)
  config.system = "dat"
  without = [word for word in WITHOUT if word in given["without"]]
  parts = ("best", *without, given["normalize"])
  config.variant = "-".join(filter(None, parts))
  config.data.features = "dat_best"
  if "no_copies" not in without:
    config.data.speeds = (0.95, 1.05)
  config.data.classes = common.CORPORA[corpus]["classes"]
  normalize = "speaker" if given["normalize"] else "train"
  course = () if "no_course" in without else ("course",)
  for name in ("is13", "is10", *course):
    common.add_input(config, name, clip=5.0, normalize=normalize)
  config.model.update(
    {
      "name": "functionals",
      "hidden": 512,
      "dropout": 0.5,
      "beside": "".join(course),
      "share": 0.3 if course else 0.0,
    }
  )
  config.task.label_smoothing = 0.1
  config.optimizer.update(
    {
      "name": "sgd",
      "learning_rate": 0.3,
      "kwargs": "momentum=0.9",
      "schedule": "cosine_decay_schedule",
    }
  )
  config.epochs = 20
  config.batch_size = 32
  if corpus == "synthetic":
    config.protocol.folds = (0, 1)
    config.epochs = 10
  return config


def _model(config, encoder: str, *, adversary: bool) -> None:
  """The thesis' sizes; for the other encoders, ours."""
  config.model.update(
    {
      "name": "speaker_invariant",
      "encoder": "cnn_bigru" if encoder in DEPTHS else encoder,
      "adversary": adversary,
      "depth": DEPTHS.get(encoder, 1),
      "channels": 512 if encoder == "tdnn_bilstm" else 64,
      "kernel": 2,
      "stride": 1,
      "hidden": 256,
      "conv_dropout": 0.1,
      "head": 128,
      "head_dropout": 0.5,
    }
  )
  common.computed(
    config,
    on_cpu={"forms": ("patches", "blocked"), "hoist": True},
    on_accelerator={
      "forms": ("direct", "direct"),
      "hoist": True,
      "unroll": 4,
    },
  )


def _task(config, gamma: float | None, *, legacy: bool) -> None:
  """Classification, against the speakers or not."""
  if gamma is None:
    if legacy:
      config.task.legacy_thesis_loss = True
    return
  config.task.update(
    {
      "name": "domain_adversarial",
      "gamma": gamma,
      "legacy_thesis_loss": legacy,
    }
  )
