"""Fewer labels: UAR over the share of training utterances that have one.

  python -m ser_jax.reproduce --table=configs/tables/aae_labels.py \
      --corpus=emodb --raw=DIR --seeds=3

The paper names this as its future work and has no figures. The classifier
learns from the labelled utterances alone; the autoencoder sees the others too,
in every phase but classification. Smaller shares lie within the larger ones.
The linear SVM, a level line in the figure, has all labels.
"""

from configs import aae
from configs.tables import rows

FRACTIONS = (0.05, 0.1, 0.25, 0.5, 1.0)
NAMES = {"utt_base": "classifier", "utt_aae": "adversarial autoencoder"}


def get_table(corpus: str) -> dict:
  """Two systems at five shares; every corpus that configs/aae.py knows."""
  cells = [
    _row(name, fraction, corpus) for name in NAMES for fraction in FRACTIONS
  ]
  every_label = _row("utt_base", 1.0, corpus)["config"]
  return {
    "title": "Activation from fewer labels",
    "paper_corpus": corpus,
    "metric": "uar",
    "rows": [
      *rows.baselines(every_label, ("is13_functionals",)),
      *cells,
    ],
    "by": "seed",
    "x": "labelled training utterances",
  }


def _row(name: str, fraction: float, corpus: str) -> dict:
  config = aae.get_config(f"{name},activation,{corpus}")
  config.data.labelled_fraction = fraction
  config.variant += f"-labels{fraction}"
  base = config.variant.replace(name, "utt_base")
  return {
    "name": config.variant,
    "label": f"{NAMES[name]}, {fraction:.0%} labelled",
    "config": config,
    "paper": None,
    "against": None if name == "utt_base" else base,
    "curve": NAMES[name],
    "x": f"{fraction:.0%}",
  }
