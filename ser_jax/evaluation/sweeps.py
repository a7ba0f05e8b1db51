"""Optimizers and learning rates side by side: time to a target, and the end.

    lr-RATE/{metrics.jsonl,report.json} of each row -> table.{json,md,png}

Rates and targets are chosen on validation speakers; test figures only told.
"""

import itertools
import json
import pathlib
from collections.abc import Collection

import numpy as np

from ser_jax import atomic
from ser_jax.evaluation import conditions, training_log
from ser_jax.evaluation.markdown import (
  decimals,
  percent,
  pooled,
  spread,
  table,
)

TARGET = 0.95  # of the best epoch of all
NOTES = """\
Validation: the mean over runs (fold and seed) in the epoch where it is the
highest. Of each optimizer the learning rate where that is the highest; the
other rates are below. One that is the lowest or the highest tried may have a
better one beyond it; one at which a run diverged is chosen only where that
befell all. Target: {share} of the highest validation of all,
{target} %; reached in the first epoch whose mean is there. Fewest epochs: to
the target at any of the rates. Seconds are those of the program, which trains
all rates and folds at once: all optimizers on one machine, one after the other,
and worth as much as the machine was quiet. Test: all test utterances of all
runs together (pooled; 95 %: speakers drawn with replacement), and mean ± sd
over runs, of the weights of each run's best validation epoch; last epoch: the
same mean without selection.
"""


def rate_folder(workdir: pathlib.Path, rate: float) -> pathlib.Path:
  """Where the report of a learning rate lies."""
  return workdir / f"lr-{rate:g}"


def copy_history(
  workdir: pathlib.Path, folder: pathlib.Path, rate: float
) -> None:
  """Gives the report of a learning rate its own lines of the log."""
  folder.mkdir(parents=True, exist_ok=True)
  own = [line for line in training_log.read(workdir) if line["rate"] == rate]
  atomic.write_text(
    folder / training_log.FILE, "".join(f"{json.dumps(line)}\n" for line in own)
  )


def console(
  reports: dict[float, dict],
  workdir: pathlib.Path,
  metric: str,
  diverged: Collection[str],
) -> str:
  """The lines that end a training of several learning rates.

  Args:
    reports: by rate.
    workdir: of the training.
    metric: that epochs were chosen by.
    diverged: names of runs that are not in the reports.

  Returns:
    A line a rate, and where to look.
  """
  name, shown = metric.upper(), decimals if metric == "ccc" else percent
  lines = ["", f"learning rate   best validation {name}   test {name}", ""]
  for rate, report in reports.items():
    own = summarize(rate_folder(workdir, rate), report, metric)
    test = report["summary"][metric]
    lines.append(
      f"  {rate:<12g}  {shown(own['validation']):>8}             "
      f"{spread(test, len(report['runs']), shown)}"
    )
  if diverged:
    lines += ["", f"  diverged, and left out: {', '.join(diverged)}"]
  return "\n".join([*lines, "", f"  {workdir}/lr-*/report.md"])


def summarize(folder: pathlib.Path, report: dict, metric: str) -> dict:
  """The course of one learning rate, in the last stage.

  Args:
    folder: of the rate, with its lines of the log.
    report: of the rate, whose runs are taken and no others.
    metric: of validation.

  Returns:
    `curve` and `loss`, means over runs of the validation metric and of the
    training loss at each epoch; `validation`, the highest of the curve;
    `seconds`, passed at the end of each epoch.
  """
  last, _ = training_log.last_stage(training_log.read(folder))
  logged = training_log.by_run(last)
  runs = [logged[run["fold"], run["seed"]] for run in report["runs"]]
  # Runs that stop early keep what they have.
  epochs = max(map(len, runs))
  padded = [lines + lines[-1:] * (epochs - len(lines)) for lines in runs]

  def mean(value) -> list[float]:
    found = np.array([[value(line) for line in lines] for lines in padded])
    return found.mean(axis=0).tolist()

  curve = mean(lambda line: line["validation"][metric])
  return {
    "validation": max(curve),
    "curve": curve,
    "loss": mean(lambda line: line["train"]["loss"]),
    "seconds": np.cumsum(mean(lambda line: line["seconds"])).tolist(),
  }


def compare(rows: list[dict], folder: pathlib.Path, metric: str) -> dict:
  """Every optimizer at every learning rate, as far as there are reports.

  Args:
    rows: `name` and `label` of each optimizer, and its `rates`.
    folder: with a folder for each row.
    metric: `uar` or `wa`.

  Returns:
    Plain data: `target`, and `rows`, each with its `rates`, of which the first
    is the chosen one, and those `lost`, at which every run diverged.
  """
  found = []
  for row in rows:
    reports, lost = _reports(row, folder)
    if reports:
      found.append(_row(row, reports, lost, folder, metric))
  comparable = itertools.chain(*(_comparable(row["rates"]) for row in found))
  best = max((each["validation"] for each in comparable), default=0.0)
  for each in itertools.chain(*(row["rates"] for row in found)):
    each["reached"] = _reached(each, TARGET * best)
  found.sort(key=lambda row: -row["rates"][0]["validation"])
  return {"metric": metric, "target": TARGET * best, "rows": found}


def _reports(
  row: dict, folder: pathlib.Path
) -> tuple[dict[float, dict], list[float]]:
  """Reports of an optimizer by rate, and the rates that left no run."""
  reports, lost = {}, []
  for rate in row["rates"]:
    own = rate_folder(folder / row["name"], rate)
    if (own / "report.json").exists():
      reports[rate] = atomic.read_json(
        own / "report.json",
        "delete it and repeat the command, which rebuilds it.",
      )
    elif own.exists():  # with its lines of the log
      lost.append(rate)
  return reports, lost


def _row(
  row: dict,
  reports: dict[float, dict],
  lost: list[float],
  folder: pathlib.Path,
  metric: str,
) -> dict:
  """An optimizer at its rates, the chosen one first."""
  rates = [
    {"rate": rate}
    | summarize(rate_folder(folder / row["name"], rate), report, metric)
    | {
      "test": report["summary"][metric],
      "last_epoch": report["last_epoch"][metric],
      "runs": len(report["runs"]),
      "diverged": len(report.get("diverged", ())),
    }
    for rate, report in reports.items()
  ]
  rates.sort(key=lambda each: (each["diverged"] > 0, -each["validation"]))
  diverged = itertools.chain(
    *(report.get("diverged", ()) for report in reports.values()),
    (f"every run at {rate:g}" for rate in lost),
  )
  chosen = reports[rates[0]["rate"]] | {"diverged": list(diverged)}
  entry = {"label": row["label"], "rates": rates, "lost": lost}
  return entry | conditions.told(row, chosen)


def _comparable(rates: list[dict]) -> list[dict]:
  """Rates of which every run is there, if there are any such."""
  return [each for each in rates if not each["diverged"]] or rates


def _reached(each: dict, target: float) -> dict | None:
  """Epochs and seconds until the mean over runs is at the target."""
  for epoch, value in enumerate(each["curve"]):
    if value >= target:
      return {"epochs": epoch + 1, "seconds": each["seconds"][epoch]}
  return None


def render(found: dict, title: str) -> str:
  """The comparison as Markdown."""
  name = found["metric"].upper()
  chosen = [
    [
      *(row["label"], *_cells(row["rates"][0], _edge(row))),
      _fastest(row["rates"]),
    ]
    for row in found["rows"]
  ]
  every = [cells for row in found["rows"] for cells in _every(row)]
  header = [
    *("optimizer", "learning rate", f"validation {name} %"),
    *("epochs to target", "seconds to target"),
    *(f"test {name} %, pooled (95 %)", "mean ± sd over runs"),
    *("last epoch %", "runs"),
  ]
  notes = NOTES.format(
    share=f"{100 * TARGET:.0f} %", target=percent(found["target"])
  )
  parts = [
    *(f"# {title}", table([*header, "fewest epochs"], chosen)),
    conditions.render(found["rows"]) + notes,
    *("![curves](table.png)", "## Every learning rate", table(header, every)),
  ]
  return "\n\n".join(parts) + "\n"


def _every(row: dict) -> list[list[str]]:
  """Lines of an optimizer, a line a rate, those that were lost too."""
  lines = {each["rate"]: [row["label"], *_cells(each)] for each in row["rates"]}
  for rate in row["lost"]:
    lines[rate] = [row["label"], f"{rate:g}", "diverged", *[""] * 5, "0"]
  return [lines[rate] for rate in sorted(lines)]


def _edge(row: dict) -> str:
  """Whether the chosen rate ends the grid of those that were tried."""
  chosen, *others = (each["rate"] for each in row["rates"])
  others += row["lost"]
  if others and chosen < min(others):
    return " (lowest)"
  return " (highest)" if others and chosen > max(others) else ""


def _fastest(rates: list[dict]) -> str:
  """The fewest epochs to the target, and the rate that takes them."""
  there = [each for each in _comparable(rates) if each["reached"]]
  if not there:
    return "not reached"
  best = min(there, key=lambda each: each["reached"]["epochs"])
  return f"{best['reached']['epochs']} at {best['rate']:g}"


def _cells(each: dict, edge: str = "") -> list[str]:
  reached = each["reached"]
  return [
    f"{each['rate']:g}{edge}",
    percent(each["validation"]),
    str(reached["epochs"]) if reached else "not reached",
    f"{reached['seconds']:.1f}" if reached else "",
    pooled(each["test"]),
    spread(each["test"], each["runs"]),
    percent(each["last_epoch"]["mean"]),
    str(each["runs"]),
  ]


def draw(found: dict, path: pathlib.Path, title: str) -> None:
  """Draws each optimizer at its chosen rate, and what rates do to it."""
  import matplotlib.pyplot as plt

  from ser_jax.evaluation import figures  # sets matplotlib up without a display

  rows, name = found["rows"], found["metric"].upper()
  colors = plt.colormaps["tab20"](np.arange(len(rows)) % 20)
  with plt.rc_context(figures.STYLE):
    figure, axes = plt.subplots(1, 3, figsize=(14, 4.4))
    for row, color in zip(rows, colors, strict=True):
      best = row["rates"][0]
      epochs = np.arange(1, len(best["curve"]) + 1)
      axes[0].plot(epochs, best["loss"], color=color)
      axes[1].plot(epochs, 100 * np.array(best["curve"]), color=color)
      rates = sorted(row["rates"], key=lambda each: each["rate"])
      axes[2].plot(
        [each["rate"] for each in rates],
        [100 * each["validation"] for each in rates],
        *("o-",), color=color, markersize=4,
        label=f"{row['label']} ({best['rate']:g})",
      )  # fmt: skip
    axes[1].axhline(100 * found["target"], color=figures.GREY, linestyle="--")
    for each, label, heading in zip(
      axes,
      ("training loss (nats)", f"{name} (%)", f"{name} (%)"),
      ("Loss", "Validation, target dashed", "Best validation epoch"),
      strict=True,
    ):
      each.set_ylabel(label)
      each.set_title(heading)
      each.set_xlabel("epoch")
    axes[0].set_yscale("log")
    axes[2].set_xscale("log")
    axes[2].set_xlabel("learning rate")
    axes[2].legend(frameon=False, fontsize=8, loc="center left",
                   bbox_to_anchor=(1.0, 0.5), title="chosen rate")  # fmt: skip
    figure.suptitle(title)
    figure.tight_layout()
    figures.write(figure, path)


def write(
  rows: list[dict], folder: pathlib.Path, metric: str, title: str
) -> str:
  """Writes the comparison of a folder of rows; returns its Markdown."""
  found = compare(rows, folder, metric)
  text = render(found, title)
  atomic.write_text(folder / "table.json", json.dumps(found, indent=1))
  atomic.write_text(folder / "table.md", text)
  draw(found, folder / "table.png", title)
  return text
