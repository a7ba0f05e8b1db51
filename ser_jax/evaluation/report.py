"""Predictions on disk -> report.json, report.md and figures; no device needed.

    predictions.npz + metrics.jsonl + report_info.json -> report

`write_report` stores what it is told, `rebuild` starts from the folder alone.
"""

import json
import pathlib

import numpy as np

from ser_jax import atomic
from ser_jax.errors import UserError
from ser_jax.evaluation import (
  contour_chains,
  contour_report,
  embeddings,
  markdown,
  metrics,
  statistics,
  training_log,
)

TINY = 10  # test utterances of a class under which a fold's recall is noise


def write_report(folder: pathlib.Path, info: dict) -> dict:
  """Saves what the report must know, and builds it.

  Args:
    folder: `--workdir`, with predictions and metrics; of several learning
      rates the folder of one, in it.
    info: system, variant, corpus, classes, protocol, paper, command, ...

  Returns:
    The report, with the Markdown under `text`.

  Raises:
    UserError: predictions are missing, damaged or not finite.
  """
  atomic.write_text(folder / "report_info.json", json.dumps(info, indent=2))
  return rebuild(folder)


def rebuild(folder: pathlib.Path) -> dict:
  """Builds the report from what a workdir holds.

  Raises:
    UserError: predictions are missing, damaged or not finite.
  """
  info = atomic.read_json(
    folder / "report_info.json", "--mode=evaluate writes it again."
  )
  history = training_log.read(folder)
  predictions = _read(folder / "predictions.npz")
  last = folder / "predictions_last.npz"
  in_time = info.get("frame_rate")  # None for one class an utterance
  kind = contour_report if in_time else markdown
  summary_of = contour_report.summarize if in_time else summarize
  found = summary_of(predictions, info, history)
  if last.exists():
    found["last_epoch"] = summary_of(_read(last), info, history)["summary"]
  if not in_time and len(np.unique(predictions["seed"])) > 1:
    averaged = average_seeds(predictions)
    found["averaged"] = summarize(averaged, info, history)["summary"]
  validation = folder / "predictions_validation.npz"
  if in_time and validation.exists():
    found["postprocessed"] = contour_chains.summarize(
      _read(validation), predictions, info
    )
    chains = contour_chains.by_run(found["postprocessed"], info.get("rate"))
    atomic.write_text(folder / "postprocess.json", json.dumps(chains, indent=2))
  embedded = embeddings.read(folder, info.get("rate"))
  if embedded:
    found["embeddings"] = embeddings.summarize(embedded)
  found["figures"] = _draw(folder, found, history, predictions)
  atomic.write_text(folder / "report.json", json.dumps(found, indent=2))
  atomic.write_text(
    folder / "report.md", kind.render(found) + contour_chains.render(found)
  )
  return found | {"text": kind.console(found, folder)}


def _draw(folder, found: dict, history: list[dict], predictions: dict):
  """Draws the figures that go with the predictions."""
  # matplotlib: only here
  from ser_jax.evaluation import contour_figures, embedding_figures, figures

  if found.get("frame_rate"):
    return contour_figures.draw(folder, found, history, predictions)
  return [
    *figures.draw(folder, found, history),
    *embedding_figures.draw(folder, found, history),
  ]


def average_seeds(predictions: dict) -> dict:
  """The predictions of an ensemble of all seeds: the mean of their scores.

  Args:
    predictions: arrays of `predictions.npz`.

  Returns:
    The same for each fold and utterance once, with seed 0.
  """
  pairs = np.stack([predictions["fold"], predictions["utterance"]], axis=1)
  _, first, inverse = np.unique(
    pairs, axis=0, return_index=True, return_inverse=True
  )
  inverse = inverse.reshape(-1)
  scores = np.zeros((len(first), predictions["scores"].shape[1]))
  np.add.at(scores, inverse, predictions["scores"])
  scores /= np.bincount(inverse)[:, None]
  kept = {
    name: predictions[name][first]
    for name in ("utterance", "speaker", "fold", "target")
  }
  return {
    **kept,
    "seed": np.zeros(len(first), int),
    "scores": scores,
    "classes": predictions["classes"],
  }


def summarize(predictions: dict, info: dict, history: list[dict]) -> dict:
  """Everything but the figures, as plain data.

  Args:
    predictions: arrays of `predictions.npz`.
    info: see `write_report`.
    history: lines of `metrics.jsonl`.

  Returns:
    The content of `report.json`.
  """
  classes = len(predictions["classes"])
  metrics.check_scores(predictions["scores"], predictions["utterance"])
  predicted = predictions["scores"].argmax(axis=1)

  def confusion(where):
    return metrics.confusion_matrix(
      predictions["target"][where], predicted[where], classes
    )

  folds, seeds = predictions["fold"], predictions["seed"]
  pairs = sorted(set(zip(folds.tolist(), seeds.tolist(), strict=True)))
  runs = [
    _run(
      fold,
      seed,
      confusion((folds == fold) & (seeds == seed)),
      predictions["classes"],
      history,
    )
    for fold, seed in pairs
  ]
  speakers = np.unique(predictions["speaker"])
  by_speaker = np.stack(
    [confusion(predictions["speaker"] == s) for s in speakers]
  )
  total = by_speaker.sum(axis=0)
  by_seed = [confusion(seeds == seed) for seed in np.unique(seeds)]
  names = predictions["classes"].tolist()
  found = {
    **info,
    "speaker_independent": info["protocol"]["speaker_independent"],
    "runs": runs,
    "summary": {
      name: {
        **statistics.mean_and_std(np.array([run[name] for run in runs])),
        # The folds of one initialisation together, one figure each.
        "by_seed": [float(metric(counts)) for counts in by_seed],
        "pooled": float(metric(total)),
        "ci95": statistics.speaker_bootstrap(by_speaker, metric),
      }
      for name, metric in (("wa", metrics.wa), ("uar", metrics.uar))
    },
    "seeds": len({seed for _, seed in pairs}),
    "folds": len({fold for fold, _ in pairs}),
    "speakers": len(speakers),
    "per_class": dict(zip(names, metrics.per_class(total), strict=True)),
    "confusion": total.tolist(),
    "baseline": _baseline(total, names),
  }
  return found | {"warnings": _warnings(found)}


def _baseline(total: np.ndarray, names: list[str]) -> dict:
  """What needs no model: the classes' shares, and guessing by them."""
  shares = total.sum(axis=1) / total.sum()
  return {
    "majority_wa": float(shares.max()),
    "chance_uar": 1.0 / len(names),
    "shares": dict(zip(names, shares.tolist(), strict=True)),
  }


def _run(fold, seed, counts, classes, history) -> dict:
  """One row of the table of runs."""
  lines = [x for x in history if (x["fold"], x["seed"]) == (fold, seed)]
  last, _ = training_log.last_stage(lines)
  kept = [x for x in last if x["best"]]
  support = counts.sum(axis=1)
  return {
    "fold": fold,
    "seed": seed,
    "wa": float(metrics.wa(counts)),
    "uar": float(metrics.uar(counts)),
    "support": int(support.sum()),
    "absent_classes": classes[support == 0].tolist(),
    "smallest_class": int(support[support > 0].min()),
    "predicted_classes": classes[counts.sum(axis=0) > 0].tolist(),
    "best_epoch": kept[-1]["epoch"] + 1 if kept else None,
    "validation": kept[-1]["validation"] if kept else None,
    "epochs": max((x["epoch"] + 1 for x in last), default=None),
    "seconds": round(sum(x["seconds"] for x in lines), 1),
  }


def _warnings(found: dict) -> list[str]:
  """What a reader must know before quoting a number."""
  warnings = markdown.protocol_warnings(found)
  for run in found["runs"]:
    if run["absent_classes"]:
      warnings.append(
        f"Fold {run['fold']} has no test utterance of "
        f"{', '.join(run['absent_classes'])}; its UAR averages the others."
      )
    if len(run["predicted_classes"]) == 1 < len(found["classes"]):
      warnings.append(
        f"COLLAPSED: fold {run['fold']}, seed {run['seed']} predicts "
        f"{run['predicted_classes'][0]} for every test utterance."
      )
  small = sorted(
    {run["fold"] for run in found["runs"] if run["smallest_class"] < TINY}
  )
  if small:
    warnings.append(
      f"Fewer than {TINY} test utterances of some class in "
      f"{', '.join(small)}: single folds are noisy, quote the pooled figure."
    )
  return list(dict.fromkeys(warnings))


def _read(path: pathlib.Path) -> dict[str, np.ndarray]:
  """Arrays of a predictions file."""
  if not path.exists():
    raise UserError(
      f"{path} does not exist: finish the runs with --mode=train."
    )
  return atomic.read_arrays(
    path,
    "delete it and the folder runs/ beside it, then use --mode=evaluate to "
    "predict again from the checkpoints.",
  )
