"""Predicted contours -> summary, Markdown and console lines.

CCC is that of all test recordings one after another, as in the challenges, for
each run and with the runs pooled; the mean of each recording's own stands
beside it.
"""

import pathlib

import numpy as np

from ser_jax.evaluation import contours, statistics, training_log
from ser_jax.evaluation.markdown import (
  decimals,
  folds,
  interval,
  protocol_warnings,
  spread,
  table,
  title,
)


def summarize(predictions: dict, info: dict, history: list[dict]) -> dict:
  """Everything but the figures, as plain data.

  Args:
    predictions: arrays of `predictions.npz`.
    info: see `report.write_report`; `frame_rate` among it.
    history: lines of `metrics.jsonl`.

  Returns:
    The content of `report.json`.
  """
  names = predictions["classes"].tolist()
  pairs = sorted(
    set(
      zip(
        predictions["fold"].tolist(), predictions["seed"].tolist(), strict=True
      )
    )
  )
  parts = {pair: of_run(predictions, *pair, info) for pair in pairs}
  every = [r for part in parts.values() for r in part]
  origin = np.concatenate([r.wanted for r in every]).mean(axis=0)
  sums = {
    pair: contours.of_recordings(part, origin) for pair, part in parts.items()
  }
  runs = [_run(pair, sums[pair], names, history) for pair in pairs]
  whole = np.concatenate(list(sums.values()))
  by_speaker = contours.by_speaker(whole, np.array([r.speaker for r in every]))
  found = {
    **info,
    "speaker_independent": info["protocol"]["speaker_independent"],
    "runs": runs,
    "summary": _summary(runs, whole, by_speaker, names),
    "seeds": len({seed for _, seed in pairs}),
    "folds": len({fold for fold, _ in pairs}),
    "speakers": len(by_speaker),
    "recordings": len({r.name for r in every}),
  }
  return found | {"warnings": _warnings(found)}


def of_run(
  predictions: dict, fold: str, seed: int, info: dict
) -> list[contours.Recording]:
  """The recordings of one run that a file of predictions holds."""
  rows = (predictions["fold"] == fold) & (predictions["seed"] == seed)
  part = {
    name: predictions[name][rows]
    for name in ("utterance", "speaker", "frames", "scores", "target")
  }
  return contours.recordings(part, info["frame_rate"])


def _run(pair, sums: np.ndarray, names: list[str], history: list[dict]) -> dict:
  """One row of the table of runs."""
  fold, seed = pair
  lines = [x for x in history if (x["fold"], x["seed"]) == pair]
  last, _ = training_log.last_stage(lines)
  best = [x["epoch"] + 1 for x in last if x["best"]]
  total = sums.sum(axis=0)
  ccc, rmse = contours.ccc(total), contours.rmse(total)
  return {
    "fold": fold,
    "seed": seed,
    "ccc": float(ccc.mean()),
    **{f"ccc_{n}": float(v) for n, v in zip(names, ccc, strict=True)},
    **{f"rmse_{n}": float(v) for n, v in zip(names, rmse, strict=True)},
    "recordings": len(sums),
    "frames": int(total[0, 0]),
    "constant": [
      n for n, row in zip(names, total, strict=True) if _constant(row)
    ],
    "best_epoch": best[-1] if best else None,
    "epochs": max((x["epoch"] + 1 for x in last), default=None),
    "seconds": round(sum(x["seconds"] for x in lines), 1),
  }


def _constant(row: np.ndarray) -> bool:
  """Whether predictions vary by less than a thousandth of what is wanted."""
  n, x, y, xx, yy, _ = row
  found, wanted = xx / n - (x / n) ** 2, yy / n - (y / n) ** 2
  return bool(found < 1e-6 * wanted)


def _summary(
  runs: list[dict], whole: np.ndarray, by_speaker: np.ndarray, names: list[str]
) -> dict:
  """Mean and deviation over runs, the pooled value and its interval."""
  metrics = {"ccc": lambda sums: contours.ccc(sums).mean(axis=-1)}
  for number, name in enumerate(names):
    for kind, metric in (("ccc", contours.ccc), ("rmse", contours.rmse)):
      metrics[f"{kind}_{name}"] = lambda sums, metric=metric, number=number: (
        metric(sums)[..., number]
      )
  total = by_speaker.sum(axis=0)
  summary = {
    name: {
      **statistics.mean_and_std(np.array([run[name] for run in runs])),
      "pooled": float(metric(total)),
      "ci95": statistics.speaker_bootstrap(by_speaker, metric),
    }
    for name, metric in metrics.items()
  }
  each = contours.ccc(whole).mean(axis=0)
  for name, value in zip(names, each, strict=True):
    summary[f"ccc_{name}"]["per_recording"] = float(value)
  summary["ccc"]["per_recording"] = float(each.mean())
  return summary


def _warnings(found: dict) -> list[str]:
  """What a reader must know before quoting a number."""
  warnings = protocol_warnings(found)
  for run in found["runs"]:
    if run["constant"]:
      warnings.append(
        f"COLLAPSED: fold {run['fold']}, seed {run['seed']} predicts constant "
        f"{' and '.join(run['constant'])}."
      )
  return warnings


def _headline(found: dict) -> str:
  """CCC and RMSE of each target, beside the paper's."""
  paper, rows = found["paper"], []
  for source, label in ((found, ""), (found.get("last_epoch"), ", last epoch")):
    if source is None:
      continue
    summary = source["summary"] if source is found else source
    for name in found["classes"]:
      ccc, rmse = summary[f"ccc_{name}"], summary[f"rmse_{name}"]
      rows.append(
        [
          f"{name}{label}",
          spread(ccc, len(found["runs"]), decimals),
          decimals(ccc["pooled"]),
          interval(ccc, decimals, " to "),
          decimals(ccc["per_recording"]),
          f"{rmse['pooled']:.3g}",
          paper.get(f"ccc_{name}", "") if source is found else "",
        ]
      )
  header = ["target", "CCC of a run", "pooled", "95 % interval"]
  return table([*header, "mean recording", "RMSE", "paper's CCC"], rows)


def _runs(found: dict) -> str:
  names = found["classes"]
  rows = [
    [
      run["fold"],
      run["seed"],
      *[decimals(run[f"ccc_{name}"]) for name in names],
      run["recordings"],
      f"{run['best_epoch']} / {run['epochs']}",
      f"{run['seconds']:.0f}",
    ]
    for run in found["runs"]
  ]
  header = ["fold", "seed", *(f"CCC {name}" for name in names), "recordings"]
  return table([*header, "best epoch", "s"], rows)


def render(found: dict) -> str:
  """The report as Markdown.

  Args:
    found: the content of `report.json`.

  Returns:
    The text; figures are linked by relative paths.
  """
  protocol, paper = found["protocol"], found["paper"]
  warnings = "".join(f"> **Note.** {w}\n>\n" for w in found["warnings"])
  figures = "\n\n".join(
    f"![{pathlib.Path(path).stem.replace('_', ' ')}]({path})"
    for path in found["figures"]
  )
  source = (
    f"The paper's: {paper['source']} ({paper['corpus']}, {paper['protocol']}). "
    if paper
    else ""
  )
  return f"""# {title(found)}

{_headline(found)}

{folds(found)} folds × {found["seeds"]} seeds, {found["recordings"]} test
recordings of {found["speakers"]} speakers, {found["parameters"]:,} parameters.
Protocol `{protocol["name"]}`: {" ".join(protocol["notes"])}
CCC of all test recordings one after another: mean ± standard deviation (ddof 1)
over runs, and of all runs pooled; interval: bootstrap over speakers. Then the
mean of each recording's own. Overlapping windows are averaged, each weighed by
the distance from its ends. RMSE in the target's units.
{source}The weights tested are those of each run's best validation epoch.

{warnings}
{figures}

## Runs

{_runs(found)}

## Again

```
{found["command"]}
```
"""


def console(found: dict, folder: pathlib.Path) -> str:
  """What the command line ends with.

  Args:
    found: the content of `report.json`.
    folder: `--workdir`.

  Returns:
    A few lines: table, warnings, where to look.
  """
  lines = ["", title(found), ""]
  for run in found["runs"]:
    each = "   ".join(
      f"CCC {name} {decimals(run[f'ccc_{name}']):>6}"
      for name in found["classes"]
    )
    lines.append(f"  {run['fold']:<12} seed {run['seed']}   {each}")
  for name in found["classes"]:
    summary = found["summary"][f"ccc_{name}"]
    lines.append(
      f"  {name:<10} CCC {spread(summary, len(found['runs']), decimals)}"
      f"   pooled {decimals(summary['pooled'])}   95 % "
      f"{interval(summary, decimals, ' to ')}"
    )
  lines += [f"  note: {warning}" for warning in found["warnings"]]
  lines += ["", f"  {folder / 'report.md'}"]
  lines += [f"  {folder / path}" for path in found["figures"]]
  return "\n".join(lines)
