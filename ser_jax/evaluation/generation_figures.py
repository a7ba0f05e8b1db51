"""Pictures of a decoder: reconstructions, samples, a walk through z."""

import matplotlib
import numpy as np

from ser_jax.evaluation.figures import BLUE, GREY, ORANGE, STYLE, plt

SHOWN = 3  # utterances drawn as frames
MOVING = 30  # features drawn of a traversal, those that move most


def draw(
  found: dict[str, np.ndarray], classes: list[str], name: str
) -> dict[str, plt.Figure]:
  """The pictures of what one run decodes.

  Args:
    found: arrays of its `generated.npz`.
    classes: names of y.
    name: of the run, for titles.

  Returns:
    Figures by name.
  """
  frames = found["input"].ndim == 3
  reconstructed = _of_frames if frames else _of_functionals
  return {
    "reconstruction": reconstructed(found, name),
    "samples": _samples(found, classes, name),
    "traversal": _traversal(found, classes, name),
  }


@matplotlib.rc_context(STYLE)
def _of_functionals(found: dict[str, np.ndarray], name: str):
  """Reconstructed against given values, and what share is explained."""
  given, made = found["input"], found["reconstruction"]
  figure, (left, right) = plt.subplots(1, 2, figsize=(9.6, 3.8))
  image = left.hexbin(given.ravel(), made.ravel(), gridsize=70, bins="log",
                      extent=(-4, 4, -4, 4), cmap="Blues",
                      linewidths=0)  # fmt: skip
  left.plot([-4, 4], [-4, 4], color=GREY, linewidth=1)
  left.set_xlabel("functional of a test utterance (deviations)")
  left.set_ylabel("reconstructed")
  figure.colorbar(image, ax=left, label="count")
  explained = _explained(given, made)
  right.plot(np.linspace(0, 100, len(explained)), np.sort(explained)[::-1],
             color=BLUE)  # fmt: skip
  right.axhline(0, color=GREY, linewidth=1, linestyle="--")
  right.axhline(float(np.median(explained)), color=ORANGE, linewidth=1,
                label=f"median {np.median(explained):.2f}")  # fmt: skip
  right.set_ylim(-1, 1)
  right.set_xlabel("functionals, best first (%)")
  right.set_ylabel("share of variance explained")
  right.legend(frameon=False, fontsize=8)
  figure.suptitle(f"Reconstruction of {len(given)} test utterances, {name}",
                  fontsize=10)  # fmt: skip
  figure.tight_layout()
  return figure


def _explained(given: np.ndarray, made: np.ndarray) -> np.ndarray:
  """1 - error / variance of each functional that varies at all."""
  variance = given.var(axis=0)
  error = np.square(given - made).mean(axis=0)
  varies = variance > 1e-6
  return 1.0 - error[varies] / variance[varies]


@matplotlib.rc_context(STYLE)
def _of_frames(found: dict[str, np.ndarray], name: str):
  """Descriptors over time, given above, reconstructed below."""
  count = min(SHOWN, len(found["input"]))
  figure, panels = plt.subplots(2, count, figsize=(3.6 * count, 4.6),
                                sharex="col", sharey=True,
                                squeeze=False)  # fmt: skip
  for column in range(count):
    valid = int(np.abs(found["input"][column]).sum(axis=1).nonzero()[0].max())
    for axes, key in zip(
      panels[:, column], ("input", "reconstruction"), strict=True
    ):
      image = axes.imshow(found[key][column, : valid + 1].T, aspect="auto",
                          origin="lower", cmap="RdBu_r", vmin=-3,
                          vmax=3)  # fmt: skip
      axes.set_title(f"{key} {column + 1}", fontsize=9)
      axes.spines[:].set_visible(False)
    panels[1, column].set_xlabel("frame")
  for axes in panels[:, 0]:
    axes.set_ylabel("descriptor")
  figure.suptitle(f"Reconstruction of test utterances, {name}", fontsize=10)
  figure.colorbar(image, ax=panels, label="deviations", shrink=0.8)
  return figure


@matplotlib.rc_context(STYLE)
def _samples(found: dict[str, np.ndarray], classes: list[str], name: str):
  """Decoded draws among test utterances, in the plane of the draws."""
  made, given = _flat(found["samples"]), _flat(found["input"])
  centre = made.mean(axis=0)
  _, _, axes_of = np.linalg.svd(made - centre, full_matrices=False)
  figure, axes = plt.subplots(figsize=(6.4, 4.4))
  axes.scatter(*((given - centre) @ axes_of[:2].T).T, s=14, color=GREY,
               label="test utterances")  # fmt: skip
  colours = plt.get_cmap("tab10")
  for number, word in enumerate(classes):
    of_class = made[found["sample_class"] == number] - centre
    axes.scatter(*(of_class @ axes_of[:2].T).T, s=22, marker="x",
                 color=colours(number), label=f"decoded as {word}")  # fmt: skip
  axes.set_xlabel("first principal axis of the samples")
  axes.set_ylabel("second")
  axes.set_title(f"Samples of the prior, {name}")
  axes.legend(frameon=False, fontsize=8, loc="center left",
              bbox_to_anchor=(1.0, 0.5))  # fmt: skip
  return figure


def _flat(x: np.ndarray) -> np.ndarray:
  """One vector an utterance: frames are averaged."""
  return x.mean(axis=1) if x.ndim == 3 else x


@matplotlib.rc_context(STYLE)
def _traversal(found: dict[str, np.ndarray], classes: list[str], name: str):
  """The features that move most while z walks along its main direction."""
  walk, steps = found["traversal"], found["steps"]
  if walk.ndim == 4:
    walk = walk.mean(axis=2)
  middle = walk[:, len(steps) // 2].mean(axis=0)
  moves = np.ptp(walk.mean(axis=0), axis=0)
  chosen = np.argsort(-moves)[:MOVING]
  rise = walk.mean(axis=0)[-1, chosen] - walk.mean(axis=0)[0, chosen]
  chosen = chosen[np.argsort(rise)]
  figure, panels = plt.subplots(1, len(classes), sharey=True, squeeze=False,
                                figsize=(2 + 2.1 * len(classes), 5.2),
                                layout="constrained")  # fmt: skip
  shown = (walk - middle)[:, :, chosen]
  limit = float(np.abs(shown).max())
  for axes, word, values in zip(panels[0], classes, shown, strict=True):
    image = axes.imshow(values.T, aspect="auto", cmap="RdBu_r", vmin=-limit,
                        vmax=limit, interpolation="nearest", extent=(
                          steps[0], steps[-1], len(chosen), 0
                        ))  # fmt: skip
    axes.set_title(f"y = {word}", fontsize=9)
    axes.set_xlabel("z (deviations)")
    axes.spines[:].set_visible(False)
  panels[0][0].set_yticks(np.arange(len(chosen)) + 0.5, chosen, fontsize=6)
  panels[0][0].set_ylabel("number of the feature")
  figure.colorbar(image, ax=panels, label="change (deviations)")
  figure.suptitle(f"Along the first principal axis of z, {name}", fontsize=10)
  return figure
