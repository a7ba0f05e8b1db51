"""A profile as a picture: where the time goes, and how near the roof it is."""

import collections

import matplotlib
import numpy as np

from ser_jax.analysis.categories import CATEGORIES, DATA_MOVEMENT
from ser_jax.analysis.markdown import short
from ser_jax.evaluation.figures import BLUE, GREEN, GREY, ORANGE, STYLE, plt

_COLOURS = {
  **{"matmul": BLUE, "convolution": ORANGE, "elementwise": GREEN},
  **{"reduction": "#CC79A7", "fft": "#E69F00", DATA_MOVEMENT: "#56B4E9"},
}
_NAMED = 5  # instructions with their names beside the roofline
_LEAST = 1e-3  # share of the time of what is drawn under it
_OTHER = "not counted"  # of the trace, but not of the program


@matplotlib.rc_context(STYLE)
def draw(found: dict) -> plt.Figure:
  """Draws a profile.

  Args:
    found: the content of `profile.json`.

  Returns:
    For each stage the time by category, and its instructions under the
    roofline: those above it are fed by caches.
  """
  stages = found["stages"]
  figure, axes = plt.subplots(
    *(len(stages), 2),
    figsize=(10, 3.6 * len(stages)),
    width_ratios=(1, 2),
    squeeze=False,
    layout="constrained",
  )
  for (name, stage), (left, right) in zip(stages.items(), axes, strict=True):
    rows = stage["traced"]["instructions"]
    _times(left, rows)
    _roofline(right, rows, stage["achieved"]["peaks"])
    left.set_title(f"{name}: time by category")
    right.set_title(f"{stage['achieved']['peaks']['name']}")
  return figure


def _times(axis: plt.Axes, rows: list[dict]) -> None:
  """A bar for each category, the longest on top."""
  shares = collections.Counter()
  for row in rows:
    shares[row["category"] or _OTHER] += row["share"]
  rising = shares.most_common()[::-1]
  bars = axis.barh(
    [name for name, _ in rising],
    [100 * share for _, share in rising],
    color=[_COLOURS.get(name, GREY) for name, _ in rising],
  )
  axis.bar_label(bars, fmt=" %.0f %%")
  axis.margins(x=0.2)
  axis.set_xlabel("share of the time (%)")


def _roofline(axis: plt.Axes, rows: list[dict], peaks: dict) -> None:
  """Instructions by FLOP/byte and FLOP/s, as large as their time."""
  seen = [
    row
    for row in rows
    if row["flops"] and row["bytes"] and row["share"] >= _LEAST
  ]
  x = np.array([row["flops"] / row["bytes"] for row in seen])
  y = np.array(
    [row["flops"] * row["executed"] / row["seconds"] for row in seen]
  )
  top = max(peaks["flops"].values())
  reach = top / peaks["bytes"]
  ends = np.array([min([*x, reach / 10]), max([*x, reach * 10])])
  for dtype, peak in peaks["flops"].items():
    if peak in (top, peaks["flops"]["f32"]):
      corner = np.sort([*ends, np.clip(peak / peaks["bytes"], *ends)])
      roof = np.minimum(corner * peaks["bytes"], peak)
      style = "-" if dtype == "f32" else "--"
      axis.plot(corner, roof, style, color=GREY, label=f"peak, {dtype}")
  for category in (*CATEGORIES, DATA_MOVEMENT):
    chosen = [n for n, row in enumerate(seen) if row["category"] == category]
    axis.scatter(
      *(x[chosen], y[chosen]),
      s=[20 + 1500 * seen[n]["share"] for n in chosen],
      color=_COLOURS.get(category, GREY),
      alpha=0.6,
      linewidths=0,
    )
  named = []
  for n, row in enumerate(seen[:_NAMED]):
    axis.annotate(str(n + 1), (x[n], y[n]), ha="center", va="center", size=7)
    source = "/".join(short(row["source"]).split("/")[-2:]) or row["name"]
    named.append(f"{n + 1}  {100 * row['share']:.0f} %  {source}")
  axis.set(xscale="log", yscale="log", xlabel="FLOP/byte", ylabel="FLOP/s")
  axis.legend(
    frameon=False, loc="lower right", title="\n".join(named), title_fontsize=7
  )
