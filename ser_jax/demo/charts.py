"""The app's figures: legible in light and dark, and to colour-blind readers.

Charts of Altair take the page's own colours for text; images are drawn on
nothing, with the text colour of the page's theme.
"""

import altair as alt
import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.figure import Figure

from ser_jax.features import spectral

# Okabe and Ito's colours; right and wrong are told by a sign too.
BLUE, GREEN, RED = "#56B4E9", "#009E73", "#D55E00"
PALETTE = (
  *("#E69F00", "#56B4E9", "#009E73", "#CC79A7"),
  *("#D55E00", "#0072B2", "#B8A800", "#8C8C8C"),
)
INK = {"light": "#31333F", "dark": "#FAFAFA"}
BINS = 600
COLUMNS = 24  # cells beside each other
RATE = 16000  # of the spectrogram


def confusion(counts: np.ndarray, classes: tuple[str, ...]) -> alt.LayerChart:
  """Counts, coloured by the share of each true class."""
  share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
  rows = pd.DataFrame(
    [
      {
        "true": classes[true],
        "predicted": classes[predicted],
        "share": share[true, predicted],
        "count": count,
        "percent": f"{100 * share[true, predicted]:.0f} %",
      }
      for (true, predicted), count in np.ndenumerate(counts)
    ]
  )
  order, axis = list(classes), alt.Axis(labelOverlap=False)
  turned = alt.Axis(labelOverlap=False, labelAngle=-30)
  base = alt.Chart(rows).encode(
    x=alt.X("predicted:N", sort=order, axis=turned),
    y=alt.Y("true:N", sort=order, axis=axis),
    tooltip=["true", "predicted", "count", alt.Tooltip("share", format=".1%")],
  )
  cells = base.mark_rect().encode(
    color=alt.Color(
      "share:Q",
      scale=alt.Scale(scheme="blues", domain=[0, 1]),
      legend=alt.Legend(format=".0%", title="of the true class"),
    )
  )
  ink = alt.condition(
    "datum.share > 0.55", alt.value("white"), alt.value("black")
  )
  shares = base.mark_text(fontSize=14, dy=-7).encode(text="percent", color=ink)
  numbers = base.mark_text(fontSize=11, dy=9).encode(text="count:N", color=ink)
  return (cells + shares + numbers).properties(height=70 + 48 * len(classes))


def grid(table: pd.DataFrame) -> alt.LayerChart:
  """Every utterance a cell, green and ticked, or red and crossed."""
  number = np.arange(len(table))
  rows = table.assign(
    number=number,
    column=number % COLUMNS,
    row=number // COLUMNS,
    sign=np.where(table["correct"], "✓", "✗"),
    result=np.where(table["correct"], "right", "wrong"),
  )
  base = alt.Chart(rows).encode(
    x=alt.X("column:O", axis=None),
    y=alt.Y("row:O", axis=None),
    tooltip=[
      *("number", "utterance", "speaker", "true", "predicted"),
      *("fold", "seed"),
    ],
  )
  cells = base.mark_rect(stroke="white", strokeWidth=1).encode(
    color=alt.Color(
      "result:N",
      scale=alt.Scale(domain=["right", "wrong"], range=[GREEN, RED]),
      legend=alt.Legend(orient="top", title=None),
    )
  )
  text = base.mark_text(color="white", fontSize=13, fontWeight="bold").encode(
    text="sign:N"
  )
  # The page fits legend and margins into the height, too.
  return (cells + text).properties(height=90 + 26 * -(-len(rows) // COLUMNS))


def probabilities(
  scores: Float[np.ndarray, "classes"], classes: tuple[str, ...]
) -> alt.LayerChart:
  """A bar a class."""
  rows = pd.DataFrame({"emotion": classes, "probability": scores})
  base = alt.Chart(rows).encode(
    x=alt.X(
      "probability:Q",
      scale=alt.Scale(domain=[0, 1]),
      axis=alt.Axis(format=".0%"),
    ),
    y=alt.Y(
      "emotion:N",
      sort=list(classes),
      title=None,
      axis=alt.Axis(labelOverlap=False),
    ),
    tooltip=["emotion", alt.Tooltip("probability", format=".1%")],
  )
  return base.mark_bar(color=BLUE).properties(height=90 + 26 * len(classes))


def windows(
  times: list[tuple[float, float]],
  scores: Float[np.ndarray, "windows classes"],
  classes: tuple[str, ...],
) -> alt.Chart:
  """Probabilities of every window of a long recording, stacked."""
  rows = pd.DataFrame(
    [
      {
        "start": start,
        "end": end,
        "emotion": name,
        "probability": p,
        "order": n,
      }
      for (start, end), row in zip(times, scores, strict=True)
      for n, (name, p) in enumerate(zip(classes, row, strict=True))
    ]
  )
  return (
    alt.Chart(rows)
    .mark_bar(stroke=None)
    .encode(
      x=alt.X("start:Q", title="seconds"),
      x2="end",
      y=alt.Y("probability:Q", stack="zero", scale=alt.Scale(domain=[0, 1])),
      color=alt.Color(
        "emotion:N",
        scale=alt.Scale(domain=list(classes), range=list(PALETTE)),
      ),
      order="order:O",
      tooltip=[
        "start",
        "end",
        "emotion",
        alt.Tooltip("probability", format=".1%"),
      ],
    )
    .properties(height=220)
  )


def contour(
  values: Float[np.ndarray, "frames targets"],
  rate: float,
  names: tuple[str, ...],
) -> alt.Chart:
  """Each target over time, in a row of its own: their units differ.

  A line has a gap where values are NaN.
  """
  rows = pd.DataFrame(values, columns=list(names)).assign(
    seconds=np.arange(len(values)) / rate
  )
  return (
    alt.Chart(rows.melt("seconds", var_name="target"))
    .mark_line(color=BLUE)
    .encode(
      x="seconds:Q",
      y=alt.Y("value:Q", scale=alt.Scale(zero=False), title=None),
      row=alt.Row("target:N", sort=list(names), title=None),
    )
    .resolve_scale(y="independent")
    .properties(height=120)
  )


def waveform(samples: Float[np.ndarray, "samples"], rate: int) -> alt.Chart:
  """The lowest and the highest sample of each of some hundred stretches."""
  edges = np.linspace(0, len(samples), min(BINS, len(samples)) + 1).astype(int)
  low = np.minimum.reduceat(samples, edges[:-1])
  high = np.maximum.reduceat(samples, edges[:-1])
  rows = pd.DataFrame({"seconds": edges[:-1] / rate, "low": low, "high": high})
  return (
    alt.Chart(rows)
    .mark_area(color=BLUE)
    .encode(
      x=alt.X("seconds:Q"),
      y=alt.Y("low:Q", title="amplitude"),
      y2="high",
    )
    .properties(height=140)
  )


def mel_spectrogram(
  samples: Float[np.ndarray, "samples"], theme: str
) -> Figure:
  """A log-mel spectrogram of samples at `RATE`."""
  mel = spectral.log_mel(samples, RATE, n_fft=512, n_mels=64, floor=1e-10)
  figure, axes = _figure(theme)
  image = axes.imshow(
    np.maximum(mel, mel.max() - 80).T,
    origin="lower",
    aspect="auto",
    cmap="viridis",
    extent=(0, len(samples) / RATE, 0, mel.shape[1]),
  )
  axes.set_xlabel("seconds")
  axes.set_ylabel("mel band")
  _colorbar(figure, image, "dB", theme)
  return figure


def activations(values: Float[np.ndarray, "time units"], theme: str) -> Figure:
  """What the units of a layer put out, time to the right."""
  figure, axes = _figure(theme)
  most = max(float(np.abs(values).max()), 1e-6)
  image = axes.imshow(
    values.T,
    aspect="auto",
    cmap="cividis",
    vmin=-most,
    vmax=most,
    interpolation="nearest",
  )
  axes.set_xlabel("step")
  axes.set_ylabel("unit")
  _colorbar(figure, image, "output", theme)
  return figure


def attention(weights: Float[np.ndarray, "time"]) -> alt.Chart:
  """How much each step counts."""
  rows = pd.DataFrame({"step": np.arange(len(weights)), "weight": weights})
  return (
    alt.Chart(rows)
    .mark_area(color=BLUE)
    .encode(x="step:Q", y="weight:Q")
    .properties(height=140)
  )


def _figure(theme: str):
  """Axes without a ground, in the theme's ink."""
  figure = Figure(figsize=(9, 2.6), dpi=110, layout="constrained")
  figure.patch.set_alpha(0)
  axes = figure.subplots()
  axes.patch.set_alpha(0)
  axes.tick_params(colors=INK[theme])
  axes.xaxis.label.set_color(INK[theme])
  axes.yaxis.label.set_color(INK[theme])
  axes.spines[:].set_visible(False)
  return figure, axes


def _colorbar(figure: Figure, image, label: str, theme: str) -> None:
  bar = figure.colorbar(image)
  bar.set_label(label, color=INK[theme])
  bar.ax.tick_params(colors=INK[theme])
  bar.outline.set_visible(False)
