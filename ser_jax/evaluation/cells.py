"""What recurrent cells follow: their correlation with prosody (Figure 2).

Trigeorgis et al. 2016, section 4: of every cell, on a recording of a speaker
that was not trained on, with the range of the RMS energy, the loudness and the
mean F0.
"""

import pathlib

import matplotlib
import numpy as np
from jaxtyping import Float

from ser_jax.evaluation import figures
from ser_jax.evaluation.figures import GREY, ORANGE, STYLE, plt

FEATURES = ("range of RMS energy", "loudness", "mean F0")
AROUND = 1.0  # seconds over which ranges and means are taken; the paper: silent

Frames = Float[np.ndarray, "frames"]


def prosody(
  samples: Float[np.ndarray, "frames samples"],
  loudness: Frames,
  f0: Frames,
  *,
  rate: float,
) -> Float[np.ndarray, "frames 3"]:
  """The features of `FEATURES`, a row for each frame.

  Args:
    samples: of each frame.
    loudness: of each frame.
    f0: likewise, of any scale.
    rate: frames a second.

  Returns:
    The range of the RMS of quarters of a frame, and the mean F0, either over
    `AROUND` seconds around the frame; between them the loudness of the frame.
  """
  quarters = samples.reshape(len(samples), 4, -1).astype(np.float64)
  rms = np.sqrt(np.mean(np.square(quarters), axis=-1))
  high, low = (
    _around(edge, rate, pick)
    for edge, pick in (
      (rms.max(axis=1), np.max),
      (rms.min(axis=1), np.min),
    )
  )
  return np.column_stack([high - low, loudness, _around(f0, rate, np.mean)])


def _around(values: Frames, rate: float, pick) -> Frames:
  """A figure of the frames around each, fewer at the ends."""
  half = round(AROUND * rate / 2)
  return np.array(
    [
      pick(values[max(frame - half, 0) : frame + half + 1])
      for frame in range(len(values))
    ]
  )


def correlations(
  cells: Float[np.ndarray, "frames cells"],
  features: Float[np.ndarray, "frames features"],
) -> Float[np.ndarray, "cells features"]:
  """Pearson's coefficients; 0 for what is constant.

  Args:
    cells: activations.
    features: what they are compared with.

  Returns:
    Of every cell with every feature.
  """
  one, other = (
    x.astype(np.float64) - x.mean(axis=0, dtype=np.float64)
    for x in (cells, features)
  )
  sizes = np.outer(np.linalg.norm(one, axis=0), np.linalg.norm(other, axis=0))
  defined = sizes > 1e-12
  return np.where(defined, one.T @ other / np.where(defined, sizes, 1.0), 0.0)


def summarize(
  found: Float[np.ndarray, "cells features"], units: int
) -> list[dict]:
  """The cell that follows each feature most closely, either way.

  Args:
    found: see `correlations`.
    units: cells in a layer.

  Returns:
    For each of `FEATURES` its name, the layer and the cell in it, counted from
    0, their correlation, and the median absolute one of all cells.
  """
  best = np.abs(found).argmax(axis=0)
  return [
    {
      "feature": name,
      "layer": int(cell // units),
      "cell": int(cell % units),
      "correlation": float(found[cell, column]),
      "median": float(np.median(np.abs(found[:, column]))),
    }
    for column, (name, cell) in enumerate(zip(FEATURES, best, strict=True))
  ]


@matplotlib.rc_context(STYLE)
def draw(
  folder: pathlib.Path,
  cells: Float[np.ndarray, "frames cells"],
  features: Float[np.ndarray, "frames 3"],
  best: list[dict],
  *,
  units: int,
  rate: float,
  title: str,
) -> str:
  """Draws the best cells over their features.

  Args:
    folder: `--workdir`; the figure goes to `figures/` in it.
    cells: activations.
    features: see `prosody`.
    best: see `summarize`.
    units: cells in a layer.
    rate: frames a second.
    title: of the recording.

  Returns:
    The path relative to the folder.
  """
  figure, rows = plt.subplots(len(best), 1, figsize=(8, 2.2 * len(best)),
                              sharex=True)  # fmt: skip
  time = np.arange(len(cells)) / rate
  for column, (row, axes) in enumerate(zip(best, rows, strict=True)):
    value, sign = row["correlation"], -1 if row["correlation"] < 0 else 1
    activation = cells[:, units * row["layer"] + row["cell"]]
    axes.plot(time, _scaled(features[:, column]), color=GREY,
              label=row["feature"])  # fmt: skip
    axes.plot(time, _scaled(sign * activation), color=ORANGE,
              label=f"layer {row['layer']}, cell {row['cell']}"
              + (", inverted" if sign < 0 else ""))  # fmt: skip
    axes.set_ylabel("deviations")
    axes.set_title(f"{row['feature']} (r = {value:.2f})", fontsize=10)
    axes.legend(frameon=False, fontsize=8, loc="upper left",
                bbox_to_anchor=(1.0, 1.0))  # fmt: skip
  rows[-1].set_xlabel("time (s)")
  figure.suptitle(title, x=0.01, ha="left", fontsize=10)
  figure.tight_layout()
  return figures.save(folder, {"cells": figure})[0]


def _scaled(values: Frames) -> Frames:
  """Zero mean, unit deviation; 0 for a constant."""
  deviation = values.std()
  return (values - values.mean()) / (deviation if deviation > 1e-12 else 1.0)
