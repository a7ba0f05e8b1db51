"""DS-LSTM (Wang et al. 2020): the eight rows of Table 1, and cell ablations.

  python -m ser_jax.main --config=configs/ds_lstm.py           synthetic corpus
  python -m ser_jax.main --config=configs/ds_lstm.py:dual,emodb \
      --config.data.raw=DIR                                     Emo-DB

Words: a row (base1 ... base6, ds_lstm, dual), a preset (paper, code), ablations
of the rows that have a DS-LSTM (no_rbn or pre_rbn, no_output_bn or
shared_output_bn), a corpus (synthetic, emodb, ravdess, iemocap, crema_d; table,
of one's own), a protocol (random). benchmarks/results/ has the measured figures
beside the paper's.
"""

from configs import common

# WA and UA of Table 1, in per cent, with one standard deviation over 5 folds.
PAPER = {
  "base1": (64.7, 1.4, 65.5, 1.7),
  "base2": (63.5, 1.6, 64.5, 1.5),
  "base3": (62.9, 1.0, 64.3, 0.9),
  "base4": (64.4, 1.8, 65.2, 1.8),
  "base5": (68.3, 1.3, 69.3, 1.2),
  "base6": (68.5, 0.8, 68.9, 1.2),
  "ds_lstm": (69.4, 0.6, 69.5, 1.1),
  "dual": (72.7, 0.7, 73.3, 0.8),
}
# Inputs that each row reads.
INPUTS = {
  "base1": ("mfcc",),
  "base2": ("s1",),
  "base3": ("s2",),
  "base4": ("s1", "s2"),
  "base5": ("mfcc", "s1", "s2"),
  "base6": ("mfcc", "s1"),
  "ds_lstm": ("s1", "s2"),
  "dual": ("mfcc", "s1", "s2"),
}
# Of the cell, by the field of the model that they change.
ABLATIONS = {
  "rbn": {"no_rbn": "none", "pre_rbn": "pre"},
  "output_bn": {"no_output_bn": "none", "shared_output_bn": "shared"},
}
WITH_CELL = ("ds_lstm", "dual")


def get_config(words: str = "dual"):
  given = common.read_words(
    words,
    {
      "row": tuple(PAPER),
      "preset": ("paper", "code"),
      **{field: tuple(changes) for field, changes in ABLATIONS.items()},
      "corpus": tuple(common.CORPORA),
      "protocol": ("random",),
    },
  )
  row, preset = given["row"] or "dual", given["preset"] or "paper"
  ablations = {field: given[field] for field in ABLATIONS if given[field]}
  if ablations and row not in WITH_CELL:
    raise ValueError(
      f"--config=...:{words} has {' and '.join(ablations.values())}, which "
      f"change the cell of {' and '.join(WITH_CELL)}; {row} has none: leave "
      "them out."
    )
  config = common.get_config()
  config.system = "ds_lstm"
  config.variant = "-".join(
    [row, *ablations.values(), *([preset] if preset != "paper" else [])]
  )
  config.model.update({"name": "ds_lstm", "variant": row, "preset": preset})
  config.model.update(
    {
      "rbn": "post",
      "output_bn": "per_step",
      "hidden": 200,
      "channels": (64, 16),
    }
  )
  common.computed(
    config,
    on_cpu={"forms": ("patches", "blocked"), "hoist": False},
    on_accelerator={
      "forms": ("direct", "direct"),
      "hoist": True,
      "unroll": 4,
    },
  )
  for field, word in ablations.items():
    config.model[field] = ABLATIONS[field][word]
  _data(config, row, preset)
  common.use_corpus(config, given["corpus"] or "synthetic")
  if given["protocol"]:
    config.protocol.name = given["protocol"]
  _training(config, preset)
  if ablations:  # The paper has none.
    return config
  wa, wa_std, ua, ua_std = PAPER[row]
  config.paper.update(
    {
      "source": "Wang et al. 2020, Table 1",
      "corpus": "iemocap",
      "wa": wa,
      "wa_std": wa_std,
      "uar": ua,
      "uar_std": ua_std,
      "protocol": "5-fold, speakers on both sides",
    }
  )
  return config


def _data(config, row, preset):
  """The feature set, and how each input gets its length."""
  config.data.features = "ds_lstm" if preset == "paper" else "ds_lstm_code"
  for name in INPUTS[row]:
    common.add_input(
      config,
      name,
      # Spectrograms are brought to the training part's median length.
      resample=name != "mfcc",
      # The authors' code normalises nothing.
      standardize=preset == "paper",
      buckets=(384, 640) if name == "mfcc" else (),
    )


def _training(config, preset):
  """The paper's recipe on IEMOCAP; fewer, larger steps on small corpora."""
  if config.data.corpus == "iemocap":
    config.batch_size = 128
    config.epochs = 50
    config.optimizer.learning_rate = 1e-4
    if preset == "code":
      config.optimizer.learning_rate = 1e-3
      config.optimizer.schedule = "piecewise_constant_schedule"
      config.optimizer.schedule_kwargs = (
        "boundaries_and_scales={10: 0.5, 20: 0.5, 30: 0.5}"
      )
  elif config.data.corpus == "synthetic":
    # Small enough to see the whole pipeline work in a coffee break.
    config.protocol.folds = (0, 1)
    config.epochs = 8
    config.batch_size = 16
  else:
    # A few hundred utterances: more steps an epoch, the authors' code's rate.
    config.batch_size = 32
    config.epochs = 15
    config.optimizer.schedule = "piecewise_constant_schedule"
    config.optimizer.schedule_kwargs = "boundaries_and_scales={8: 0.5, 12: 0.5}"
