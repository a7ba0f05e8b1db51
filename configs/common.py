"""What every config has, the corpora's defaults, and how arguments are read.

A config file is chosen with `--config=configs/FILE.py:WORD,WORD,...`: the words
name a row of the paper's table, a preset, ablations and a corpus. Every field
can be overridden on the command line, `--config.optimizer.name=lion`; a field
that does not exist is refused.
"""

import difflib

from ml_collections import ConfigDict

FOUR_CLASSES = ("angry", "happy", "neutral", "sad")
# The protocol with which each corpus is usually reported, and all categories
# that it has enough of.
CORPORA = {
  "synthetic": {"protocol": "leave_one_session_out", "classes": FOUR_CLASSES},
  "emodb": {
    "protocol": "leave_two_speakers_out",
    "classes": (
      *("angry", "boredom", "disgust", "fear", "happy", "neutral", "sad"),
    ),
  },
  "ravdess": {
    "protocol": "leave_two_speakers_out",
    "classes": (
      *("angry", "calm", "disgust", "fear"),
      *("happy", "neutral", "sad", "surprise"),
    ),
  },
  "iemocap": {"protocol": "leave_one_session_out", "classes": FOUR_CLASSES},
  "crema_d": {
    "protocol": "speaker_folds",
    "classes": ("angry", "disgust", "fear", "happy", "neutral", "sad"),
  },
  # Of one's own: see data_prep/corpora/table.py, and set config.data.classes.
  "table": {"protocol": "speaker_folds", "classes": FOUR_CLASSES},
}


def get_config() -> ConfigDict:
  """The fields that all systems share, with their defaults."""
  config = ConfigDict()
  config.system = ""
  config.variant = ""
  config.model = ConfigDict({"name": ""})
  config.task = ConfigDict({"name": "classify", "label_smoothing": 0.0})
  config.data = ConfigDict(
    {
      "corpus": "synthetic",
      "features": "",
      # Folder of shards; empty for shards/CORPUS-FEATURES.
      "shards": "",
      # Raw corpus, to build missing shards from (synthetic: generated).
      "raw": "",
      # resident: the corpus in device memory; stream: tf.data.
      "source": "resident",
      # emotion, or an attribute in the classes low, neutral, high: valence,
      # activation, dominance; and where these part, see data/labels.py.
      "target": "emotion",
      "binning": "middle",
      "classes": FOUR_CLASSES,
      # Labels counted as another before classes are chosen.
      "merge": {"excited": "happy"},
      "inputs": {},
      # Of copies that join training parts, played so many times as fast.
      "speeds": (),
      # Longer utterances are cut here, in frames of each input; 0 for never.
      "max_frames": 0,
    }
  )
  config.protocol = ConfigDict(
    {
      "name": "leave_one_session_out",
      # Folds to run, by name or number; empty for all.
      "folds": (),
      # random and speaker_folds: how many; random: their seed.
      "count": 5,
      "seed": 0,
      # fixed: speakers of each side.
      "train": (),
      "validation": (),
      "test": (),
    }
  )
  config.optimizer = ConfigDict(
    {
      "name": "adam",
      "learning_rate": 1e-3,
      # Several, each a run of its own beside folds and seeds, and a report.
      "learning_rates": (),
      # Keyword arguments of optax's factory: 'momentum=0.9,nesterov=True'.
      "kwargs": "",
      # constant, or an optax schedule; its times are in epochs.
      "schedule": "constant",
      "schedule_kwargs": "",
      "clip_norm": 0.0,
      # What weight decay reaches: all, or kernels.
      "decay": "all",
    }
  )
  config.epochs = 50
  config.batch_size = 32
  # Microbatches that a step's gradient is accumulated over, to save memory.
  config.accumulate = 1
  # Training steps that one call of a program takes, of a resident corpus: for
  # steps so small that starting them takes the time. Programs round otherwise,
  # hence resuming with another number is another experiment. Modes analyze and
  # profile look at a single step.
  config.steps_per_execution = 1
  # float32, tf32 (the device's faster products of float32, if it has any), or
  # bfloat16 (with float32 parameters, statistics and losses).
  config.precision = "tf32"
  # What is done to training batches, see data/augment.py; nothing by default.
  config.augment = ConfigDict(
    {
      **{"time_masks": 0, "time_width": 0.0},
      **{"frequency_masks": 0, "frequency_width": 0.0},
      **{"speed": 0.0, "noise": 0.0, "gain": 0.0},
    }
  )
  config.seeds = (0,)
  config.selection = ConfigDict(
    {
      # Best validation epoch by this metric; ties go to the lower loss.
      "metric": "uar",
      # Epochs without a new best before a run stops; 0 for never.
      "patience": 0,
    }
  )
  config.parallel = ConfigDict(
    {
      # jit on a mesh, or pmap.
      "backend": "jit",
      # loop: one run a program; vmap: all in one; shard: runs over devices.
      "runs": "loop",
      # Runs in a program, where they share one; 0 for all of the experiment.
      # The runs of one seed follow each other.
      "stack": 0,
      # Devices along each axis; data = 0 takes as many as run leaves and the
      # batch divides by. With runs = shard, run = 1 takes as many as the runs
      # divide by.
      "run": 1,
      "data": 0,
      # replicated, or sharded: each device of the data axis keeps its share.
      "optimizer_state": "replicated",
    }
  )
  config.checkpoint = ConfigDict({"every_epochs": 5})
  config.analysis = ConfigDict(
    {
      # Without shards: seconds of every utterance, or frames of some inputs:
      # 'mfcc=400,s1=500'.
      "seconds": 4.0,
      "frames": "",
      # Roofline: empty for this device, a name such as TPU v4, or
      # 'flops=67e12,bytes=4.8e12,link=450e9', all a second.
      "peaks": "",
      # Empty for the devices at hand, or others to compile for: 'v5e:2x4',
      # 'NVIDIA H200:8'.
      "target": "",
      # Whether to write StableHLO and optimized HLO.
      "save_hlo": False,
    }
  )
  config.profile = ConfigDict(
    {
      # Steps to trace, and steps before them.
      "steps": 10,
      "skip": 5,
      # Whether --mode=train traces them too.
      "during_training": False,
    }
  )
  config.report = ConfigDict(
    {
      # Whether to save what embeds utterances (every fold of the first seed),
      # probe it for speaker and emotion, and draw it.
      "embeddings": False,
    }
  )
  # What the paper reports for this row, for the report.
  config.paper = ConfigDict({})
  return config


def add_input(config: ConfigDict, name: str, **changes) -> None:
  """Names an array of the feature set that the model reads.

  Args:
    config: whose model it is.
    name: as in the feature set.
    **changes: of the fields below.
  """
  config.data.inputs[name] = {
    # Interpolate to the training part's median length.
    "resample": False,
    # By the mean and deviation of: train (the training part), speaker
    # (transductive), recording or utterance (each by itself).
    "standardize": True,
    "normalize": "train",
    # Bound of standardised values; 0 for none.
    "clip": 0.0,
    # A batch is padded to the smallest of these frames that holds it.
    "buckets": (),
  } | changes


def use_corpus(config: ConfigDict, name: str) -> None:
  """Sets a corpus and the protocol it is usually reported with."""
  config.data.corpus = name
  config.protocol.name = CORPORA[name]["protocol"]


def computed(config: ConfigDict, **devices: dict) -> None:
  """Sets how a model is computed, which never changes what it computes.

  Args:
    config: whose model it is.
    **devices: `on_cpu` and `on_accelerator`, each the options of the model that
      hold there: forms of convolutions (`ser_jax/nn/conv.py`, `waveform.py`),
      whether recurrences project their inputs before they begin (`hoist`), and
      how many of their steps are one iteration of a loop (`unroll`).
  """
  config.model.update(devices)


def read_words(words: str, choices: dict[str, tuple[str, ...]]) -> dict:
  """Reads a config's argument.

  Args:
    words: comma-separated, in any order.
    choices: kind to its words; a kind ending in `*` may be given repeatedly.

  Returns:
    Kind to the word given, or to a list of words.

  Raises:
    ValueError: an unknown word, or two of one kind.
  """
  kinds = {word: kind for kind, known in choices.items() for word in known}
  found = {kind: [] for kind in choices}
  for word in filter(None, words.split(",")):
    if word not in kinds:
      near = difflib.get_close_matches(word, kinds, n=3) or sorted(kinds)
      raise ValueError(
        f"--config=...:{words} has the unknown word {word!r}: did you mean "
        f"{', '.join(near)}?"
      )
    found[kinds[word]].append(word)
  for kind, given in found.items():
    if len(given) > 1 and not kind.endswith("*"):
      raise ValueError(
        f"--config=...:{words} has {' and '.join(given)}, which are two of one "
        f"kind ({kind}): give one."
      )
  return {
    kind.rstrip("*"): given if kind.endswith("*") else (given or [None])[0]
    for kind, given in found.items()
  }
