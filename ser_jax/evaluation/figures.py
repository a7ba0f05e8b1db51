"""Figures of a report (matplotlib, drawn without a screen)."""

import pathlib

import matplotlib
import numpy as np

from ser_jax import atomic
from ser_jax.evaluation import training_log

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402

# Okabe and Ito's colours: told apart by colour-blind readers.
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#7F7F7F"
STYLE = {
  "figure.dpi": 150,
  "figure.facecolor": "white",
  "font.size": 10,
  "axes.spines.top": False,
  "axes.spines.right": False,
  "axes.titleweight": "bold",
  "axes.titlelocation": "left",
}


def draw(folder: pathlib.Path, found: dict, history: list[dict]) -> list[str]:
  """Draws every figure of a report.

  Args:
    folder: `--workdir`; figures go to `figures/` in it.
    found: the report's data.
    history: lines of the training log.

  Returns:
    Paths relative to the folder.
  """
  drawn = {"confusion": _confusion(found), "runs": _runs(found)}
  if history:
    drawn["learning_curves"] = _curves(found, history)
  return save(folder, drawn)


def save(folder: pathlib.Path, drawn: dict) -> list[str]:
  """Writes figures, each in one move, and closes them.

  Args:
    folder: `--workdir`; figures go to `figures/` in it.
    drawn: figures by name.

  Returns:
    Paths relative to the folder.
  """
  (folder / "figures").mkdir(exist_ok=True)
  paths = []
  for name, figure in drawn.items():
    path = f"figures/{name}.png"
    write(figure, folder / path)
    paths.append(path)
  return paths


def write(figure: plt.Figure, path: pathlib.Path) -> None:
  """Writes a PNG file in one move, and closes the figure."""
  with atomic.replacing(path) as temporary:
    figure.savefig(temporary, format="png", bbox_inches="tight")
  plt.close(figure)


def ends(summary: dict) -> list[float]:
  """Of a summary's interval; where it has none, NaN, which is not drawn."""
  return summary["ci95"] or [np.nan, np.nan]


@matplotlib.rc_context(STYLE)
def _confusion(found: dict):
  """Counts, coloured by the share of each true class."""
  counts = np.array(found["confusion"])
  share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
  names = list(found["per_class"])
  size = 1.6 + 0.75 * len(names)
  figure, axes = plt.subplots(figsize=(size + 1.2, size))
  image = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
  for (row, column), value in np.ndenumerate(share):
    axes.text(
      column,
      row,
      f"{100 * value:.0f} %\n{counts[row, column]}",
      ha="center",
      va="center",
      fontsize=9,
      color="white" if value > 0.55 else "black",
    )
  axes.set_xticks(range(len(names)), names, rotation=30, ha="right")
  axes.set_yticks(range(len(names)), names)
  axes.set_xlabel("predicted")
  axes.set_ylabel("true")
  axes.spines[:].set_visible(False)
  axes.set_title(f"Confusion, {found['corpus']}, all runs pooled")
  figure.colorbar(image, ax=axes, shrink=0.8, label="share of the true class")
  return figure


@matplotlib.rc_context(STYLE)
def _runs(found: dict):
  """UAR of every run by fold, with the mean and chance."""
  folds = list(dict.fromkeys(run["fold"] for run in found["runs"]))
  summary = found["summary"]["uar"]
  figure, axes = plt.subplots(figsize=(2.5 + 0.7 * len(folds), 3.6))
  for run in found["runs"]:
    axes.plot(folds.index(run["fold"]), 100 * run["uar"], "o", color=BLUE,
              alpha=0.75)  # fmt: skip
  if summary["ci95"] is not None:
    low, high = (100 * value for value in summary["ci95"])
    axes.axhspan(low, high, color=BLUE, alpha=0.12, label="pooled, 95 %")
  axes.axhline(100 * summary["mean"], color=BLUE, label="mean of runs")
  axes.axhline(100 * found["baseline"]["chance_uar"], color=GREY,
               linestyle="--", label="chance")  # fmt: skip
  axes.set_xticks(range(len(folds)), folds, rotation=30, ha="right")
  axes.set_xlim(-0.6, len(folds) - 0.4)
  axes.set_ylim(0, 100)
  axes.set_ylabel("UAR on test speakers (%)")
  axes.set_title("Every fold and seed")
  axes.legend(frameon=False, fontsize=8, loc="upper left",
              bbox_to_anchor=(1.0, 1.0))  # fmt: skip
  return figure


@matplotlib.rc_context(STYLE)
def _curves(found: dict, history: list[dict]):
  """Loss and validation UAR over epochs: runs thin, their mean bold."""
  figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4))
  history, stage = training_log.last_stage(history)
  runs = training_log.by_run(history)
  lines(left, runs, "train", "loss", BLUE, training_label(found))
  lines(left, runs, "validation", "loss", ORANGE, "validation")
  left.set_ylim(bottom=0)
  left.set_ylabel("cross-entropy (nats)")
  left.set_title(f"Loss{stage}")
  lines(right, runs, "validation", "uar", ORANGE, "validation", 100)
  for run in runs.values():
    best = [line for line in run if line["best"]]
    if best:
      right.plot(best[-1]["epoch"] + 1, 100 * best[-1]["validation"]["uar"],
                 "o", color=GREEN, markersize=5, zorder=3)  # fmt: skip
  right.plot([], [], "o", color=GREEN, markersize=5, label="epoch kept")
  right.set_ylim(0, 100)
  right.set_ylabel("UAR (%)")
  right.set_title(f"Validation speakers{stage}")
  for axes in (left, right):
    count_epochs(axes)
    axes.legend(frameon=False, fontsize=8)
  figure.tight_layout()
  return figure


def training_label(found: dict) -> str:
  """What the training loss is of, where validation's is of less.

  Args:
    found: the report's data; `training_loss` names what it has beside.

  Returns:
    The label of a curve.
  """
  more = ", ".join(found.get("training_loss", ()))
  return f"training ({more})" if more else "training"


def lines(axes, runs, part, metric, color, label, factor=1.0):
  """One thin line a run, and the mean of those that reach each epoch."""
  by_epoch = {}
  for run in runs.values():
    epochs = [line["epoch"] + 1 for line in run]
    values = [factor * line[part][metric] for line in run]
    axes.plot(epochs, values, style(epochs), color=color, alpha=0.25,
              linewidth=0.8)  # fmt: skip
    for epoch, value in zip(epochs, values, strict=True):
      by_epoch.setdefault(epoch, []).append(value)
  epochs = sorted(by_epoch)
  means = [np.mean(by_epoch[epoch]) for epoch in epochs]
  axes.plot(epochs, means, style(epochs), color=color, linewidth=2,
            label=label)  # fmt: skip


def style(epochs: list[int]) -> str:
  """A line; a single epoch is a point, which a line would not show."""
  return "-" if len(epochs) > 1 else "o"


def count_epochs(axes) -> None:
  """Labels an axis of epochs, by whole numbers even where there is one."""
  axes.set_xlabel("epoch")
  axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
