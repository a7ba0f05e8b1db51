"""What is drawn, read back from the axes."""

import numpy as np
import pytest

from ser_jax.evaluation import contour_figures, embedding_figures, figures


def history_of(*stages):
  """One run; `stages` are names and lengths."""
  return [
    {
      **{"fold": "fold0", "seed": 0, "stage": stage, "epoch": epoch},
      "train": {"loss": 1.0, "ccc_loss": 1.0, "mse": 1.0, "cosine": 0.5},
      "validation": {"loss": 1.0, "uar": 0.5, "ccc_f0": 0.5},
      "best": epoch == 0,
    }
    for stage, epochs in stages
    for epoch in range(epochs)
  ]


def draw_classes(history):
  return figures._curves({}, history)


def draw_contours(history):
  return contour_figures._curves({"classes": ["f0"]}, history)


@pytest.mark.parametrize("draw", [draw_classes, draw_contours])
def test_learning_curves_are_of_the_last_stage(draw):
  left, right = draw(history_of(("features", 4), ("joint", 2))).axes
  for axes in (left, right):
    assert axes.get_title("left").endswith(", stage joint")
    np.testing.assert_array_equal(axes.lines[0].get_xdata(), [1, 2])
  left, right = draw(history_of(("train", 3))).axes
  assert "stage" not in left.get_title("left") + right.get_title("left")
  np.testing.assert_array_equal(left.lines[0].get_xdata(), [1, 2, 3])


def draw_cosine(history):
  return embedding_figures._cosine(history, None)


@pytest.mark.parametrize("draw", [draw_classes, draw_contours, draw_cosine])
@pytest.mark.parametrize("epochs", [1, 2, 3])
def test_short_trainings_are_seen(draw, epochs):
  figure = draw(history_of(("train", epochs)))
  figure.canvas.draw()
  for axes in figure.axes:
    lines = [line for line in axes.lines if len(line.get_xdata()) == epochs]
    assert lines
    seen = "o" if epochs == 1 else "None"
    assert {line.get_marker() for line in lines} == {seen}
    low, high = axes.get_xlim()
    ticks = [tick for tick in axes.get_xticks() if low <= tick <= high]
    assert ticks == list(range(1, epochs + 1))


def test_a_training_loss_that_is_of_more_says_so():
  """Smoothed and dropped out, it lies above validation's on the same axis."""
  history, labels = history_of(("train", 3)), []
  for more in ([], ["smoothed labels", "dropout"]):
    left, _ = figures._curves({"training_loss": more}, history).axes
    labels.append(left.get_legend_handles_labels()[1])
  assert labels == [
    ["training", "validation"],
    ["training (smoothed labels, dropout)", "validation"],
  ]
