"""One system under many optimizers, each at several learning rates.

  python -m ser_jax.reproduce --table=configs/tables/optimizers.py \
      --corpus=emodb --raw=DIR

The plain classifier of configs/aae.py (three dense layers) on eGeMAPS'
functionals: an epoch takes a moment, and what is learnt of optimizers is
theirs. A row's learning rates and folds train as one program, the rates as
values of its state. Gradients are clipped at a norm of 10, which only a rate
that is far too high meets: no run overflows.
"""

from collections.abc import Callable

from ml_collections import ConfigDict

from configs import aae

# Middle of the rates, and keyword arguments where the defaults are no choice.
OPTIMIZERS = {
  "sgd": ("sgd", 1e-1, ""),
  "momentum": ("sgd", 3e-2, "momentum=0.9"),
  "nesterov": ("sgd", 3e-2, "momentum=0.9,nesterov=True"),
  "rmsprop": ("rmsprop", 1e-3, ""),
  "adam": ("adam", 1e-3, ""),
  "adamw": ("adamw", 1e-3, "weight_decay=0.01"),
  "nadamw": ("nadamw", 1e-3, "weight_decay=0.01"),
  "radam": ("radam", 1e-3, ""),
  "adabelief": ("adabelief", 1e-3, ""),
  "schedule_free": ("schedule_free_adamw", 3e-3, "weight_decay=0.01"),
  "lamb": ("lamb", 3e-3, ""),
  "lion": ("lion", 3e-4, ""),
  "adafactor": ("adafactor", 3e-3, ""),
  "adopt": ("adopt", 1e-3, ""),
  "muon": ("muon", 3e-3, ""),
  "prodigy": ("prodigy", 1.0, ""),
}
AROUND = (0.1, 0.3, 1.0, 3.0, 10.0)


def get_table(corpus: str) -> dict:
  """One row an optimizer; every corpus that configs/aae.py knows."""

  def dense():
    # One speaker alone may lack a class.
    config = aae.get_config(f"utt_base,emotion,usual_folds,{corpus}")
    config.data.features = "egemaps"
    config.epochs = 40
    return config

  return table("Optimizers: three dense layers on eGeMAPS", dense)


def table(title: str, make_config: Callable[[], ConfigDict]) -> dict:
  """A system under all of `OPTIMIZERS`.

  Args:
    title: of the table.
    make_config: gives the system's config, to be changed.

  Returns:
    The table as `ser_jax.reproduce` reads it.
  """
  return {
    "title": title,
    "paper_corpus": None,
    "metric": "uar",
    "rows": [_row(name, make_config()) for name in OPTIMIZERS],
    "x": "optimizer",
    "sweep": True,
  }


def _row(label: str, config: ConfigDict) -> dict:
  name, middle, kwargs = OPTIMIZERS[label]
  config.variant = label
  config.parallel.runs = "vmap"
  config.parallel.data = 1
  config.checkpoint.every_epochs = config.epochs
  rates = tuple(float(f"{middle * each:.3g}") for each in AROUND)
  config.optimizer.update(
    {
      "name": name,
      "learning_rate": middle,
      "learning_rates": rates,
      "kwargs": kwargs,
      "schedule": "constant",
      "schedule_kwargs": "",
      "clip_norm": 10.0,
    }
  )
  return {
    "name": label,
    "label": label,
    "config": config,
    "rates": rates,
    "paper": None,
    "against": None,
    "curve": None,
    "x": None,
  }
