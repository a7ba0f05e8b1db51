"""Post-processing of contours, chosen on development speakers and then frozen.

Median filter, centring, scaling, delay, in this order (Trigeorgis et al. 2016,
section 3): each is kept if it raises the CCC over all development recordings
one after another, and is applied to test recordings as it was found. Every
target has a chain of its own.
"""

import dataclasses

import numpy as np
from jaxtyping import Float

from ser_jax.evaluation import contours
from ser_jax.evaluation.contours import Recording

Contour = Float[np.ndarray, "frames"]
# Recordings differ in length.
Contours = list[Float[np.ndarray, "_"]]

MEDIAN_SECONDS = (0.4, 20.0, 0.4)  # least, most, step
SHIFT_SECONDS = (0.04, 10.0, 0.04)
# Less is rounding.
LEAST_GAIN = 1e-6


@dataclasses.dataclass(frozen=True)
class Step:
  """One step of a chain; plain data.

  Attributes:
    name: `median`, `centring`, `scaling` or `shift`.
    frames: of the filter's window, or of the delay.
    factor: of centring and scaling: factor * contour + offset.
    offset: likewise, in the target's units.
    gain: in CCC on the development recordings; not positive if left out.
    kept: whether the step is applied.
  """

  name: str
  frames: int = 0
  factor: float = 1.0
  offset: float = 0.0
  gain: float = 0.0
  kept: bool = False


def choose(
  development: list[Recording], names: tuple[str, ...], rate: float
) -> dict[str, list[Step]]:
  """Finds the chain of every target.

  Args:
    development: predictions and gold standard of recordings that did not train.
    names: of the targets.
    rate: frames a second.

  Returns:
    The four steps of each target, those that are left out among them.
  """
  return {
    name: _choose_one(
      [r.found[:, number].astype(np.float64) for r in development],
      [r.wanted[:, number].astype(np.float64) for r in development],
      rate,
    )
    for number, name in enumerate(names)
  }


def apply(chains: dict[str, list[Step]], recording: Recording) -> Recording:
  """A recording with its predictions post-processed.

  Args:
    chains: see `choose`, in the order of the targets.
    recording: of any part of the corpus.

  Returns:
    Another recording.
  """
  columns = []
  for number, steps in enumerate(chains.values()):
    contour = recording.found[:, number].astype(np.float64)
    for step in steps:
      if step.kept:
        contour = apply_step(step, contour)
    columns.append(contour)
  return dataclasses.replace(recording, found=np.stack(columns, axis=1))


def apply_step(step: Step, contour: Contour) -> Contour:
  """One step on one contour, whether it is kept or not."""
  if step.name == "median":
    return median(contour, step.frames)
  if step.name == "shift":
    return shifted(contour, np.array([step.frames]))[:, 0]
  return step.factor * contour + step.offset


def median(contour: Contour, frames: int) -> Contour:
  """Running median; beyond its ends the contour stays where it was.

  Args:
    contour: in time.
    frames: of the window, odd.
  """
  import scipy.ndimage

  return scipy.ndimage.median_filter(contour, size=frames, mode="nearest")


def shifted(
  contour: Contour, delays: np.ndarray
) -> Float[np.ndarray, "frames delays"]:
  """The contour later by each delay, preceded by its first value.

  Ratings lag behind what they rate: predictions are moved towards them.
  """
  place = np.arange(len(contour))[:, None] - delays
  return contour[np.maximum(place, 0)]


def _choose_one(found: Contours, wanted: Contours, rate: float) -> list[Step]:
  """Steps of one target, each given those before it."""
  steps = []
  best = float(_ccc([x[:, None] for x in found], wanted)[0])
  for propose in (_medians, _centring, _scaling, _shifts):
    candidates, tried = propose(found, wanted, rate)
    reached = _ccc(tried, wanted)
    winner = int(reached.argmax())
    gain = float(reached[winner]) - best
    step = dataclasses.replace(
      candidates[winner], gain=gain, kept=gain > LEAST_GAIN
    )
    steps.append(step)
    if step.kept:
      best += gain
      found = [x[:, winner] for x in tried]
  return steps


# Candidates, and what each makes of every recording: [frames, candidates].
Proposal = tuple[list[Step], list[Float[np.ndarray, "_ candidates"]]]


def _medians(found: Contours, wanted: Contours, rate: float) -> Proposal:
  sizes = _grid(MEDIAN_SECONDS, rate) // 2 * 2 + 1
  candidates = [Step("median", frames=int(size)) for size in sizes]
  tried = [
    np.stack([median(x, int(size)) for size in sizes], axis=1) for x in found
  ]
  return candidates, tried


def _centring(found: Contours, wanted: Contours, rate: float) -> Proposal:
  """By the bias of all development frames."""
  bias = np.concatenate(wanted).mean() - np.concatenate(found).mean()
  step = Step("centring", offset=float(bias))
  return [step], [apply_step(step, x)[:, None] for x in found]


def _scaling(found: Contours, wanted: Contours, rate: float) -> Proposal:
  """By the ratio of deviations, about the mean: what is centred stays so."""
  predicted = np.concatenate(found)
  spread = predicted.std()
  factor = np.concatenate(wanted).std() / spread if spread > 1e-8 else 1.0
  offset = (1.0 - factor) * predicted.mean()
  step = Step("scaling", factor=float(factor), offset=float(offset))
  return [step], [apply_step(step, x)[:, None] for x in found]


def _shifts(found: Contours, wanted: Contours, rate: float) -> Proposal:
  delays = _grid(SHIFT_SECONDS, rate)
  candidates = [Step("shift", frames=int(delay)) for delay in delays]
  return candidates, [shifted(x, delays) for x in found]


def _grid(seconds: tuple[float, float, float], rate: float) -> np.ndarray:
  """Different numbers of frames, each at least one."""
  least, most, step = seconds
  grid = np.arange(least, most + step / 2, step)
  return np.unique(np.maximum(np.round(grid * rate), 1).astype(int))


def _ccc(
  tried: list[Float[np.ndarray, "_ candidates"]], wanted: Contours
) -> Float[np.ndarray, "candidates"]:
  """CCC of every candidate over all recordings one after another."""
  origin = np.full(tried[0].shape[1], np.concatenate(wanted).mean())
  total = sum(
    contours.moments(x, np.repeat(y[:, None], x.shape[1], axis=1), origin)
    for x, y in zip(tried, wanted, strict=True)
  )
  return contours.ccc(total)
