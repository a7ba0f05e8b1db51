"""Windows that overlap, or leave gaps, as one contour of their recording."""

import dataclasses

import numpy as np
import pytest

from ser_jax.demo import files
from ser_jax.demo.clips import Clip
from ser_jax.errors import UserError
from tests.demo.clips_test import RECIPE

# Of one target, ten frames a second; windows of four frames, two apart.
CONTOURS = dataclasses.replace(
  RECIPE,
  classes=("arousal",),
  contour_rate=10.0,
  inputs={"x": {"dim": 1, "frame_rate": 10.0, "dtype": "float32"}},
  plans={"x": {"standardize": False, "normalize": "train", "stored": 4}},
)


def joined(heard, last=4):
  """The contour where the windows heard say 1, 2, 3 and so on."""
  windows = [
    Clip(
      0.2 * number,
      0.2 * number + 0.1 * (4 if number < len(heard) - 1 else last),
      {"x": np.zeros((4 if number < len(heard) - 1 else last, 1))}
      if known
      else None,
      "" if known else "silent",
    )
    for number, known in enumerate(heard)
  ]
  scores = [
    np.full((4, 1), 1 + number, np.float32)
    for number, known in enumerate(heard)
    if known
  ]
  return files.join_contour(CONTOURS, windows, scores, "x")[:, 0]


def test_windows_are_weighed_where_they_overlap():
  # Weights are 1, 2, 2, 1.
  np.testing.assert_allclose(
    joined([True, True]), [1, 1, 4 / 3, 5 / 3, 2, 2], rtol=1e-6
  )


@pytest.mark.parametrize(
  "heard, unknown, contour",
  [
    # What the first window heard alone starts where it does.
    ([False, True], [0, 1], [2, 2, 2, 2]),
    ([True, False], [4, 5], [1, 1, 1, 1]),
    (
      [True, False, False, True, True],
      [4, 5],
      [1, 1, 1, 1, 4, 4, 13 / 3, 14 / 3, 5, 5],
    ),
    # Every frame of the silent window is one of its neighbours', too.
    ([True, False, True], [], [1, 1, 1, 1, 3, 3, 3, 3]),
  ],
)
def test_frames_of_no_window_are_nan(heard, unknown, contour):
  found = joined(heard)
  np.testing.assert_array_equal(np.flatnonzero(np.isnan(found)), unknown)
  np.testing.assert_allclose(found[~np.isnan(found)], contour, rtol=1e-6)


def test_a_silent_end_counts_the_frame_begun():
  assert len(joined([True, False], last=2.5)) == 5


def test_a_diverged_model_is_told():
  with pytest.raises(UserError, match="contour of x is not finite"):
    files.join_contour(
      CONTOURS,
      [Clip(0.0, 0.4, {"x": np.zeros((4, 1))})],
      [np.full((4, 1), np.nan, np.float32)],
      "x",
    )
