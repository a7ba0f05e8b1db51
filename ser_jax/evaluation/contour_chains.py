"""Post-processed contours of every run: summary and Markdown.

A run's chain is chosen on its own validation part and applied to its test part
unchanged; both parts' CCC, before and after, are told.
"""

import dataclasses

import numpy as np

from ser_jax.evaluation import contour_report, contours, postprocess, statistics
from ser_jax.evaluation.markdown import decimals, table
from ser_jax.run_names import run_name

STEPS = ("median", "centring", "scaling", "shift")


def summarize(development: dict, test: dict, info: dict) -> dict:
  """Chains of all runs and what they did, as plain data.

  Args:
    development: arrays of `predictions_validation.npz`.
    test: arrays of `predictions.npz`.
    info: see `report.write_report`; `frame_rate` among it.

  Returns:
    `runs`, each with its `chains` by target and CCC by part, and `summary`: of
    each target and of their mean on `development` and `test`, before and
    after, mean and deviation over runs, and of the test part after all, the
    pooled value and its interval over speakers.
  """
  names = tuple(test["classes"].tolist())
  pairs = set(zip(test["fold"].tolist(), test["seed"].tolist(), strict=True))
  runs, after = [], []
  for pair in sorted(pairs):
    parts = {
      "development": contour_report.of_run(development, *pair, info),
      "test": contour_report.of_run(test, *pair, info),
    }
    chains = postprocess.choose(parts["development"], names, info["frame_rate"])
    run = {"fold": pair[0], "seed": pair[1], "chains": _plain(chains)}
    for part, recordings in parts.items():
      changed = [postprocess.apply(chains, r) for r in recordings]
      run[part] = {
        "before": _ccc(recordings, names),
        "after": _ccc(changed, names),
      }
      if part == "test":
        after += changed
    runs.append(run)
  return {"runs": runs, "summary": _summary(runs, after, names)}


def by_run(found: dict, rate: float | None = None) -> dict[str, dict]:
  """The chains alone, by run as folders of runs are called.

  Args:
    found: see `summarize`.
    rate: of the runs, where it is in their names.

  Returns:
    Of each run its steps by target, the fields of `postprocess.Step`.
  """
  return {
    run_name(run["fold"], run["seed"], rate): run["chains"]
    for run in found["runs"]
  }


def _plain(chains: dict[str, list[postprocess.Step]]) -> dict:
  return {
    name: [dataclasses.asdict(step) for step in steps]
    for name, steps in chains.items()
  }


def _ccc(recordings: list, names: tuple[str, ...]) -> dict[str, float]:
  """Of all recordings one after another: each target, and their mean."""
  origin = np.concatenate([r.wanted for r in recordings]).mean(axis=0)
  each = contours.ccc(contours.of_recordings(recordings, origin).sum(axis=0))
  found = {f"ccc_{n}": float(v) for n, v in zip(names, each, strict=True)}
  return found | {"ccc": float(each.mean())}


def _summary(runs: list[dict], after: list, names: tuple[str, ...]) -> dict:
  summary = {
    part: {
      when: {
        metric: statistics.mean_and_std(
          np.array([run[part][when][metric] for run in runs])
        )
        for metric in runs[0][part][when]
      }
      for when in ("before", "after")
    }
    for part in ("development", "test")
  }
  origin = np.concatenate([r.wanted for r in after]).mean(axis=0)
  by_speaker = contours.by_speaker(
    contours.of_recordings(after, origin), np.array([r.speaker for r in after])
  )
  for number, name in enumerate(names):

    def metric(sums, number=number):
      return contours.ccc(sums)[..., number]

    summary["test"]["after"][f"ccc_{name}"] |= {
      "pooled": float(metric(by_speaker.sum(axis=0))),
      "ci95": statistics.speaker_bootstrap(by_speaker, metric),
    }
  return summary


def render(report: dict) -> str:
  """What each step gained, and CCC before and after.

  Args:
    report: the content of `report.json`.

  Returns:
    A section of Markdown; empty where nothing was post-processed.
  """
  if "postprocessed" not in report:
    return ""
  found, rows = report["postprocessed"], []
  runs = found["runs"]
  for name in report["classes"]:
    cells = [name, _part(found, "development", "before", name)]
    for number in range(len(STEPS)):
      steps = [run["chains"][name][number] for run in runs]
      gains = [step["gain"] for step in steps if step["kept"]]
      cells.append(f"{sum(gains) / len(runs):+.3f} ({len(gains)})")
    cells += [
      _part(found, "development", "after", name),
      _part(found, "test", "before", name),
      _part(found, "test", "after", name),
    ]
    rows.append(cells)
  header = ["target", "validation", *STEPS, "validation, after"]
  return f"""
## Post-processing

{table([*header, "test", "test, after"], rows)}

CCC, means over runs. Each step is kept where it raises the CCC of the run's own
validation part, and is then applied to its test part as it is: in brackets, by
how many of {len(runs)} runs. The steps are in `postprocess.json`.
"""


def _part(found: dict, part: str, when: str, name: str) -> str:
  summary = found["summary"][part][when][f"ccc_{name}"]
  return decimals(summary["mean"])
