"""Contours of utterances -> contours of recordings -> CCC; NumPy, float64.

Long recordings are predicted in windows, utterances called `RECORDING@SECONDS`,
that overlap. Near its ends a window knows least of what was said before and
after, so where windows overlap their predictions are averaged, each weighed by
its distance from the window's nearer end: the contour has no step at the seams.
"""

import dataclasses

import numpy as np
from jaxtyping import Float, Shaped

from ser_jax.data.recordings import recording_of, start_of
from ser_jax.errors import UserError

Values = Float[np.ndarray, "frames targets"]
Moments = Float[np.ndarray, "*axes targets six"]


@dataclasses.dataclass(frozen=True)
class Recording:
  """What was found and wanted of one recording.

  Attributes:
    name: of the recording.
    speaker: who speaks.
    found: predictions.
    wanted: the gold standard.
  """

  name: str
  speaker: str
  found: Values
  wanted: Values


def recordings(predictions: dict, rate: float) -> list[Recording]:
  """Joins the utterances of one run into recordings.

  Args:
    predictions: `utterance`, `speaker`, `frames`, and `scores` and `target`
      `[utterances, frames, targets]`.
    rate: frames a second.

  Returns:
    Recordings by name.

  Raises:
    UserError: windows that leave frames out, or scores that are not finite.
  """
  names = predictions["utterance"]
  rows = {}
  for row, name in enumerate(names):
    rows.setdefault(recording_of(str(name)), []).append(row)
  found = []
  for name, windows in sorted(rows.items()):
    starts = [start_of(str(names[row]), rate) for row in windows]
    sizes = predictions["frames"][windows]
    both = [
      merge(
        [
          predictions[key][row][:size]
          for row, size in zip(windows, sizes, strict=True)
        ],
        starts,
        name,
      )
      for key in ("scores", "target")
    ]
    found.append(
      Recording(name, str(predictions["speaker"][windows[0]]), *both)
    )
  return found


def merge(
  windows: list[Float[np.ndarray, "_ targets"]], starts: list[int], name: str
) -> Values:
  """One contour of windows that overlap, weighed as the module tells.

  Args:
    windows: values of each window.
    starts: the recording's frame that each starts with.
    name: of the recording, for messages.

  Returns:
    Values of every frame, from the first window's start on.

  Raises:
    UserError: frames that no window has, or values that are not finite.
  """
  first = min(starts)
  end = max(s + len(w) for s, w in zip(starts, windows, strict=True)) - first
  total = np.zeros((end, windows[0].shape[-1]))
  weight = np.zeros((end, 1))
  for start, window in zip(starts, windows, strict=True):
    if not np.isfinite(window).all():
      raise UserError(
        f"predictions: the contour of {name} is not finite: the model "
        "diverged. Train again with a lower config.optimizer.learning_rate or "
        "with clip_norm."
      )
    place = np.arange(len(window))
    near = 1.0 + np.minimum(place, place[::-1])[:, None]
    inside = slice(start - first, start - first + len(window))
    total[inside] += near * window
    weight[inside] += near
  if not weight.all():
    raise UserError(
      f"predictions: {name} has frames that lie in none of its windows: build "
      "the shards of the whole recording again."
    )
  return total / weight


def moments(
  found: Values, wanted: Values, origin: Float[np.ndarray, "targets"]
) -> Float[np.ndarray, "targets six"]:
  """Sums from which CCC and RMSE follow, and which add up.

  Args:
    found: predictions.
    wanted: the gold standard.
    origin: of either, near their means, for the sake of precision.

  Returns:
    `[targets, 6]`: frames, sums of both, of their squares, of their products.
  """
  x, y = found.astype(np.float64) - origin, wanted.astype(np.float64) - origin
  sums = (np.ones_like(x), x, y, x * x, y * y, x * y)
  return np.stack([s.sum(axis=0) for s in sums], axis=-1)


def ccc(sums: Moments) -> Float[np.ndarray, "*axes targets"] | np.float64:
  """Concordance correlation coefficients (Lin 1989), of the population.

  0 where both contours are one constant.
  """
  n, x, y, xx, yy, xy = np.moveaxis(sums, -1, 0)
  mean_x, mean_y = x / n, y / n
  spread = (xx + yy) / n - mean_x**2 - mean_y**2 + (mean_x - mean_y) ** 2
  covariance = xy / n - mean_x * mean_y
  defined = spread > 1e-12
  return np.where(defined, 2 * covariance / np.where(defined, spread, 1.0), 0.0)


def rmse(sums: Moments) -> Float[np.ndarray, "*axes targets"] | np.float64:
  """Root mean squared errors, in the targets' units."""
  n, _, _, xx, yy, xy = np.moveaxis(sums, -1, 0)
  return np.sqrt(np.maximum(xx + yy - 2 * xy, 0.0) / n)


def of_recordings(
  found: list[Recording], origin: Float[np.ndarray, "targets"]
) -> Float[np.ndarray, "recordings targets six"]:
  """The moments of every recording."""
  return np.stack([moments(r.found, r.wanted, origin) for r in found])


def score(
  predictions: dict, names: tuple[str, ...], rate: float
) -> dict[str, float]:
  """Metrics of one run's validation part.

  Args:
    predictions: see `recordings`.
    names: of the targets.
    rate: frames a second.

  Returns:
    `ccc` over all frames, averaged over targets, that of each target as
    `ccc_NAME`, and `loss`, the mean squared error in units of each target's
    deviation.
  """
  found = recordings(predictions, rate)
  wanted = np.concatenate([r.wanted for r in found])
  sums = of_recordings(found, wanted.mean(axis=0)).sum(axis=0)
  each = ccc(sums)
  relative = rmse(sums) / np.maximum(wanted.std(axis=0), 1e-8)
  return {
    "loss": float(np.mean(relative**2)),
    "ccc": float(each.mean()),
    **{f"ccc_{n}": float(v) for n, v in zip(names, each, strict=True)},
  }


def by_speaker(
  sums: Float[np.ndarray, "recordings targets six"],
  speakers: Shaped[np.ndarray, "recordings"],
) -> Float[np.ndarray, "speakers targets six"]:
  """The moments of every speaker."""
  _, who = np.unique(speakers, return_inverse=True)
  total = np.zeros((who.max() + 1, *sums.shape[1:]))
  np.add.at(total, who, sums)
  return total
