"""The figure of a published table: our pooled figures beside the paper's."""

import itertools
import pathlib

import numpy as np

from ser_jax.evaluation.tables import NAMES


def draw(
  found: dict,
  path: pathlib.Path,
  title: str,
  x_label: str,
  corpus: str,
  paper_corpus: str,
) -> None:
  """Every curve over x, with intervals, and the paper's beside it.

  Nothing as long as there is no figure at all.

  Args:
    found: see `compare`.
    path: the PNG file to write.
    title: of the table.
    x_label: what x is.
    corpus: what ours is measured on.
    paper_corpus: what the paper's is.
  """
  import matplotlib

  from ser_jax.evaluation import figures

  plt, metric = figures.plt, found["metric"]
  curves = {}
  for row in found["rows"]:
    if row["curve"]:
      curves.setdefault(row["curve"], []).append(row)
  curves = {
    curve: mine
    for curve, mine in curves.items()
    if any(row["paper"] or "summary" in row for row in mine)
  }
  if not curves:
    return
  most = max(len(mine) for mine in curves.values())
  width = 1.2 + max(2.6, 0.45 * most) * len(curves)
  with matplotlib.rc_context(figures.STYLE):
    figure, panels = plt.subplots(
      1, len(curves), figsize=(width, 3.4), sharey=True, squeeze=False
    )
    for axes, (curve, mine) in zip(panels[0], curves.items(), strict=True):
      places = list(dict.fromkeys(row["x"] for row in mine))
      _paper(axes, mine, places, f"paper on {paper_corpus}")
      _ours(axes, mine, places, metric, f"ours on {corpus}")
      _yardsticks(axes, found["rows"], metric, curve)
      axes.set_xticks(range(len(places)), places)
      if max(map(len, places)) > 6:
        plt.setp(axes.get_xticklabels(), rotation=30, ha="right",
                 rotation_mode="anchor")  # fmt: skip
      axes.set_xlabel(x_label)
      axes.set_title(curve, fontsize=9)
    panels[0][0].set_ylabel(f"pooled {NAMES[metric]} (%)")
    _chance(panels[0], curves, found["rows"], metric)
    named = {}
    for axes in panels[0]:
      handles, labels = axes.get_legend_handles_labels()
      named |= dict(zip(labels, handles, strict=True))
    figure.suptitle(f"{title}, on {corpus}", fontsize=10)
    figure.tight_layout()
    figure.legend(
      named.values(), named.keys(), frameon=False, fontsize=8,
      loc="center left", bbox_to_anchor=(1.0, 0.5),
    )  # fmt: skip
    figures.write(figure, path)


def _of_panel(rows: list[dict], curve: str) -> list[dict]:
  """The baselines that a panel shows."""
  return [
    row
    for row in rows
    if not row["curve"] and "summary" in row and row["panel"] in (None, curve)
  ]


def _yardsticks(axes, rows: list[dict], metric: str, curve: str) -> None:
  """A level line for each trained baseline, told apart by its dashes."""
  from ser_jax.evaluation import figures

  trained = [row for row in rows if not (row["curve"] or row["chance"])]
  styles = itertools.cycle(("-", "--", "-.", ":"))
  of_row = {row["name"]: s for row, s in zip(trained, styles, strict=False)}
  for row in _of_panel(rows, curve):
    if row["chance"]:
      continue
    axes.axhline(
      100 * row["summary"][metric]["pooled"], color=figures.GREY,
      linewidth=1, linestyle=of_row[row["name"]], label=row["label"],
    )  # fmt: skip


def _chance(
  panels, curves: dict[str, list], rows: list[dict], metric: str
) -> None:
  """Chance as a line where what is shown reaches down to it, else in words.

  Panels share their range, which is that of what they show already.
  """
  low, high = panels[0].get_ylim()
  for axes, curve in zip(panels, curves, strict=True):
    for row in _of_panel(rows, curve):
      value = 100 * row["summary"][metric]["pooled"]
      if not row["chance"]:
        continue
      if low <= value <= high:
        axes.axhline(
          value, color="black", linewidth=1, linestyle=(0, (1, 3)),
          label=row["label"],
        )  # fmt: skip
      else:
        where = "below" if value < low else "above"
        label = f"{row['label']}: {value:.1f}, {where}"
        axes.plot([], [], " ", label=label)


def _number(place: str) -> float | None:
  """What a place on the axis says, if that has an order."""
  try:
    return float(place.rstrip("%"))
  except ValueError:
    return None


def _join(axes, at: list[float], values, rows: list[dict], **style) -> None:
  """A line through points whose places are numbers: nothing else has an order.

  Args:
    axes: of the panel.
    at: where the points are drawn.
    values: how high.
    rows: what they are of.
    **style: of the line.
  """
  points = [
    (_number(row["x"]), x, y)
    for row, x, y in zip(rows, at, values, strict=True)
    if _number(row["x"]) is not None
  ]
  if len(points) > 1:
    _, xs, ys = zip(*sorted(points), strict=True)
    axes.plot(xs, ys, **style)


def _paper(axes, rows: list[dict], places: list[str], label: str) -> None:
  """The paper's figures, with deviations."""
  from ser_jax.evaluation import figures

  rows = [row for row in rows if row["paper"]]
  if any(row["paper"][1] for row in rows):
    label += " ± deviation"
  if rows:
    at = [places.index(row["x"]) + 0.08 for row in rows]
    values = [row["paper"][0] for row in rows]
    axes.errorbar(
      at, values, [row["paper"][1] or 0.0 for row in rows],
      fmt="s", color=figures.ORANGE, capsize=3, label=label,
    )  # fmt: skip
    _join(axes, at, values, rows, color=figures.ORANGE, linestyle="--")


def _ours(
  axes, rows: list[dict], places: list[str], metric: str, label: str
) -> None:
  """Our pooled figures, with the intervals over speakers that are theirs."""
  from ser_jax.evaluation import figures

  rows = [row for row in rows if "summary" in row]
  if not rows:
    return
  summaries = [row["summary"][metric] for row in rows]
  if any(summary["ci95"] for summary in summaries):
    label += ", 95 %"
  pooled = np.array([summary["pooled"] for summary in summaries])
  ends = np.array([figures.ends(summary) for summary in summaries])
  at = [places.index(row["x"]) - 0.08 for row in rows]
  axes.errorbar(
    at, 100 * pooled, 100 * np.abs(ends.T - pooled),
    fmt="o", color=figures.BLUE, capsize=3, label=label,
  )  # fmt: skip
  _join(axes, at, 100 * pooled, rows, color=figures.BLUE)
