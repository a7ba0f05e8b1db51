"""Table 1 of Trigeorgis et al. 2016: eight rows, MSE and CCC objectives.

  python -m ser_jax.reproduce --table=configs/tables/adieu_table1.py \
      --corpus=recola --raw=DIR --seeds=3

On corpora that are not rated in time the targets are loudness and F0. Every
row that minimises 1 - CCC is tested against the same predictor with MSE. The
support vector machine minimises neither, and stands with MSE as in the paper.
"""

from configs import adieu

# CCC of arousal and valence, on test and on development speakers.
SVR = {
  "egemaps_windows": ((0.318, 0.169), (0.489, 0.210)),
  "compare_lld_windows": ((0.366, 0.180), (0.491, 0.178)),
}
SETS = {"egemaps_windows": "eGeMAPS", "compare_lld_windows": "ComParE"}
NETWORKS = {
  "blstm_egemaps": "BLSTM, eGeMAPS",
  "blstm_compare": "BLSTM, ComParE",
  "bi128": "convolutions and BLSTM, samples",
}


def get_table(corpus: str) -> dict:
  """Three predictors; every corpus that configs/adieu.py knows."""
  rows = [_svr(features, corpus) for features in SVR]
  for objective in ("mse", "ccc"):
    rows += [_network(preset, objective, corpus) for preset in NETWORKS]
  return {
    "title": "Trigeorgis et al. 2016, Table 1",
    "paper_corpus": "recola",
    "metric": "ccc",
    "rows": rows,
    "x": "predictor",
  }


def _paper(numbers) -> dict:
  return dict(zip(("test", "development"), numbers, strict=True))


def _svr(features: str, corpus: str) -> dict:
  config = adieu.get_config(corpus)
  prosody = config.data.features.endswith("_prosody")
  return {
    "name": f"svr-{features}",
    "label": f"linear SVR, {SETS[features]}",
    "baseline": features + ("_prosody" if prosody else ""),
    "config": config,
    "paper": _paper(SVR[features]),
    "against": None,
    "curve": None,
    "x": None,
  }


def _network(preset: str, objective: str, corpus: str) -> dict:
  kind = {"mse": "MSE", "ccc": "1 - CCC"}[objective]
  return {
    "name": f"{preset}-{objective}",
    "label": f"{NETWORKS[preset]}, {kind}",
    "config": adieu.get_config(f"{preset},{objective},{corpus}"),
    "paper": _paper(adieu.PAPER[preset, objective]),
    "against": None if objective == "mse" else f"{preset}-mse",
    "curve": None,
    "x": None,
  }
