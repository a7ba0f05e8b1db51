"""Figures of predicted contours: over the gold standard, by run, by epoch."""

import pathlib

import matplotlib
import numpy as np

from ser_jax.evaluation import contour_report, contours, figures, training_log
from ser_jax.evaluation.figures import BLUE, GREEN, GREY, ORANGE, STYLE, plt
from ser_jax.evaluation.markdown import decimals


def draw(
  folder: pathlib.Path, found: dict, history: list[dict], predictions: dict
) -> list[str]:
  """Draws every figure of a report.

  Args:
    folder: `--workdir`; figures go to `figures/` in it.
    found: the report's data.
    history: lines of the training log.
    predictions: arrays of `predictions.npz`.

  Returns:
    Paths relative to the folder.
  """
  first = found["runs"][0]
  part = contour_report.of_run(predictions, first["fold"], first["seed"], found)
  drawn = {"contours": _contours(found, part), "runs": _runs(found)}
  if history:
    drawn["learning_curves"] = _curves(found, history)
  return figures.save(folder, drawn)


def typical(part: list[contours.Recording]) -> contours.Recording:
  """The recording of median CCC, the mean of targets."""
  origin = np.concatenate([r.wanted for r in part]).mean(axis=0)
  each = contours.ccc(contours.of_recordings(part, origin)).mean(axis=-1)
  return part[int(np.argsort(each)[len(each) // 2])]


@matplotlib.rc_context(STYLE)
def _contours(found: dict, part: list[contours.Recording]):
  """Prediction over gold standard in a recording of median CCC."""
  shown, names = typical(part), found["classes"]
  figure, rows = plt.subplots(
    len(names), 1, figsize=(8, 2.2 * len(names)), sharex=True, squeeze=False
  )
  time = np.arange(len(shown.wanted)) / found["frame_rate"]
  sums = contours.moments(shown.found, shown.wanted, shown.wanted.mean(axis=0))
  for number, (name, axes) in enumerate(zip(names, rows[:, 0], strict=True)):
    axes.plot(time, shown.wanted[:, number], color=GREY, label="gold standard")
    axes.plot(time, shown.found[:, number], color=ORANGE, label="prediction")
    value = decimals(float(contours.ccc(sums)[number]))
    axes.set_ylabel(f"{name}\n(CCC {value})")
  rows[0, 0].set_title(f"{shown.name}, speaker {shown.speaker}: median CCC")
  rows[0, 0].legend(frameon=False, fontsize=8, ncols=2, loc="lower right",
                    bbox_to_anchor=(1.0, 1.0))  # fmt: skip
  rows[-1, 0].set_xlabel("time (s)")
  figure.tight_layout()
  return figure


@matplotlib.rc_context(STYLE)
def _runs(found: dict):
  """CCC of every run by fold, a panel for each target."""
  names = found["classes"]
  folds = list(dict.fromkeys(run["fold"] for run in found["runs"]))
  figure, panels = plt.subplots(
    1,
    len(names),
    figsize=((2.0 + 0.6 * len(folds)) * len(names), 3.4),
    sharey=True,
    squeeze=False,
  )
  for name, axes in zip(names, panels[0], strict=True):
    summary = found["summary"][f"ccc_{name}"]
    for run in found["runs"]:
      axes.plot(folds.index(run["fold"]), run[f"ccc_{name}"], "o", color=BLUE,
                alpha=0.75)  # fmt: skip
    if summary["ci95"] is not None:
      axes.axhspan(*summary["ci95"], color=BLUE, alpha=0.12)
    axes.axhline(summary["mean"], color=BLUE)
    axes.axhline(0.0, color=GREY, linestyle="--")
    axes.set_xticks(range(len(folds)), folds, rotation=30, ha="right")
    axes.set_xlim(-0.6, len(folds) - 0.4)
    axes.set_title(name)
  panels[0, 0].set_ylabel("CCC on test speakers")
  panels[0, -1].plot([], [], color=BLUE, label="mean of runs")
  if summary["ci95"] is not None:
    panels[0, -1].fill_between([], [], color=BLUE, alpha=0.12,
                               label="pooled, 95 %")  # fmt: skip
  panels[0, -1].legend(frameon=False, fontsize=8, loc="upper left",
                       bbox_to_anchor=(1.0, 1.0))  # fmt: skip
  figure.tight_layout()
  return figure


@matplotlib.rc_context(STYLE)
def _curves(found: dict, history: list[dict]):
  """Training loss, and validation CCC of each target, over epochs."""
  figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4))
  history, stage = training_log.last_stage(history)
  runs = training_log.by_run(history)
  figures.lines(left, runs, "train", "ccc_loss", BLUE, "1 - CCC")
  figures.lines(left, runs, "train", "mse", GREEN, "mean squared error")
  left.set_ylim(bottom=0)
  left.set_ylabel("of standardised targets")
  left.set_title(f"Training{stage}")
  for name, color in zip(found["classes"], (ORANGE, BLUE, GREEN), strict=False):
    figures.lines(right, runs, "validation", f"ccc_{name}", color, name)
  right.axhline(0.0, color=GREY, linestyle="--")
  right.set_ylabel("CCC")
  right.set_title(f"Validation speakers{stage}")
  for axes in (left, right):
    figures.count_epochs(axes)
    axes.legend(frameon=False, fontsize=8)
  figure.tight_layout()
  return figure
