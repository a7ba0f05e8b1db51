"""Pictures of the inside: t-SNE by emotion and speaker, attention, cosine.

One run stands for all: the first that `embeddings.npz` is there of.
"""

import pathlib

import matplotlib
import numpy as np
from jaxtyping import Float

from ser_jax import atomic
from ser_jax.evaluation import (
  embeddings,
  figures,
  generation_figures,
  training_log,
)
from ser_jax.evaluation.figures import BLUE, GREY, ORANGE, STYLE, plt

LEAST = 12  # utterances under which t-SNE has nothing to arrange
PAIR = ("embedding_raw", "embedding_features")  # of DCaEN


def draw(folder: pathlib.Path, found: dict, history: list[dict]) -> list[str]:
  """Draws what runs have to show of the inside.

  Args:
    folder: of the report.
    found: the report's data.
    history: lines of the training log.

  Returns:
    Paths relative to the folder.
  """
  drawn = {}
  compared = [line for line in history if "cosine" in line["train"]]
  if compared:
    drawn["cosine"] = _cosine(compared, found.get("threshold"))
  embedded = embeddings.read(folder, found.get("rate"))
  if embedded:
    path, run = next(iter(embedded.items()))
    drawn |= _of_run(run, path.name)
    generated = path / "generated.npz"
    if generated.exists():
      arrays = atomic.read_arrays(generated, embeddings.AGAIN)
      drawn |= generation_figures.draw(arrays, found["classes"], path.name)
  return figures.save(folder, drawn)


def _of_run(run: dict[str, np.ndarray], name: str) -> dict[str, plt.Figure]:
  """One map of each embedding, and attention where there is any."""
  drawn = {
    f"tsne_{key}": _maps(_tsne(x), run, f"{key}, {name}")
    for key, x in embeddings.vectors(run).items()
    if len(x) >= LEAST
  }
  if set(PAIR) <= run.keys() and len(run["split"]) >= LEAST:
    drawn["tsne_both"] = _both([run[key] for key in PAIR], name)
  attention = {k: x for k, x in run.items() if k.startswith("attention")}
  if attention:
    drawn["attention"] = _attention(attention, run["split"] == "test", name)
  return drawn


def _tsne(
  x: Float[np.ndarray, "utterances dim"],
) -> Float[np.ndarray, "utterances 2"]:
  """t-SNE from principal components (van der Maaten and Hinton 2008)."""
  from sklearn.manifold import TSNE
  from threadpoolctl import threadpool_limits

  perplexity = min(30.0, (len(x) - 1) / 3)
  centred = (x - x.mean(axis=0)) / max(float(x.std()), 1e-8)
  with threadpool_limits(1):  # see `embeddings.summarize`
    return TSNE(perplexity=perplexity, random_state=0).fit_transform(
      centred.astype(np.float32)
    )


@matplotlib.rc_context(STYLE)
def _maps(places: np.ndarray, run: dict[str, np.ndarray], title: str):
  """The same places twice, test speakers with dark edges."""
  figure, panels = plt.subplots(1, 2, figsize=(11.5, 4.4))
  test = run["split"] == "test"
  for axes, kind in zip(panels, ("emotion", "speaker"), strict=True):
    words = np.unique(run[kind])
    colours = plt.get_cmap("tab10" if len(words) <= 10 else "gist_ncar")
    for number, word in enumerate(words):
      share = number if len(words) <= 10 else (number + 0.5) / len(words)
      for side, edge, size in ((~test, "none", 16), (test, "black", 26)):
        here = (run[kind] == word) & side
        axes.scatter(*places[here].T, s=size, color=colours(share),
                     edgecolors=edge, linewidths=0.7)  # fmt: skip
      axes.scatter([], [], s=20, color=colours(share), label=word)
    axes.scatter([], [], s=26, color="white", edgecolors="black",
                 label="test speaker")  # fmt: skip
    axes.set(xticks=[], yticks=[])
    axes.set_title(f"by {kind}")
    axes.legend(frameon=False, fontsize=7, loc="center left",
                bbox_to_anchor=(1.0, 0.5),
                ncols=1 if len(words) < 14 else 2)  # fmt: skip
  figure.suptitle(f"t-SNE of {title}", fontsize=10)
  figure.tight_layout()
  return figure


@matplotlib.rc_context(STYLE)
def _both(pair: list[Float[np.ndarray, "utterances dim"]], name: str):
  """Two embeddings of every utterance on one map (Huang et al., figure 2)."""
  # The cosine is what training moves: sizes are left out.
  places = _tsne(
    np.concatenate(
      [x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-8)
       for x in pair]
    )
  )  # fmt: skip
  figure, axes = plt.subplots(figsize=(6.2, 4.2))
  for part, key, colour in zip(
    np.split(places, 2), PAIR, (BLUE, ORANGE), strict=True
  ):
    axes.scatter(*part.T, s=12, color=colour, alpha=0.7, linewidths=0,
                 label=key.replace("_", " of ", 1))  # fmt: skip
  axes.set(xticks=[], yticks=[])
  axes.set_title(f"t-SNE of both embeddings, {name}", fontsize=10)
  axes.legend(frameon=False, fontsize=8, loc="center left",
              bbox_to_anchor=(1.0, 0.5))  # fmt: skip
  return figure


@matplotlib.rc_context(STYLE)
def _attention(
  weights: dict[str, Float[np.ndarray, "utterances frames"]],
  test: np.ndarray,
  name: str,
):
  """Weights of every test utterance, and their mean, over the frames.

  They are multiplied by the utterance's frames: uniform attention is 1.
  """
  figure, panels = plt.subplots(
    2, len(weights), figsize=(1 + 4.6 * len(weights), 5.4), squeeze=False,
    sharex=True, height_ratios=(3, 1.3), layout="constrained",
  )  # fmt: skip
  for column, (key, x) in enumerate(weights.items()):
    x = x[test & (x > 0).any(axis=1)]
    frames = (x > 0).sum(axis=1)
    x = np.where(x > 0, x * frames[:, None], np.nan)[np.argsort(frames)]
    above, below = panels[:, column]
    far = float(np.nanquantile(np.abs(x - 1.0), 0.98))
    image = above.imshow(x, aspect="auto", cmap="RdBu_r", vmin=1.0 - far,
                         vmax=1.0 + far, interpolation="nearest")  # fmt: skip
    figure.colorbar(image, ax=above, label="weight × frames")
    above.set_ylabel("test utterance")
    above.set_title(key)
    # Where few utterances are left, their mean is that of one or two.
    many = (~np.isnan(x)).sum(axis=0) >= min(5, len(x))
    x = x[:, many]
    below.plot(np.flatnonzero(many), np.nanmean(x, axis=0), color=BLUE,
               label="mean")  # fmt: skip
    low, high = np.nanquantile(x, [0.1, 0.9], axis=0)
    below.fill_between(np.flatnonzero(many), low, high, color=BLUE, alpha=0.15,
                       linewidth=0, label="10–90 %")  # fmt: skip
    below.axhline(1.0, color=GREY, linestyle="--", linewidth=1,
                  label="uniform")  # fmt: skip
    below.set_xlabel("frame")
    below.legend(frameon=False, fontsize=7)
  figure.suptitle(f"Attention, {name}", fontsize=10)
  return figure


@matplotlib.rc_context(STYLE)
def _cosine(history: list[dict], threshold: float | None):
  """The cosine of two embeddings over training, against its threshold."""
  figure, axes = plt.subplots(figsize=(5.4, 3.4))
  for lines in training_log.by_run(history).values():
    epochs = [x["epoch"] + 1 for x in lines]
    axes.plot(epochs, [x["train"]["cosine"] for x in lines],
              figures.style(epochs), color=BLUE, alpha=0.4,
              linewidth=1)  # fmt: skip
  axes.plot([], [], color=BLUE, label="every run")
  if threshold is not None:
    axes.axhline(threshold, color=ORANGE, linestyle="--",
                 label=f"threshold {threshold}")  # fmt: skip
  axes.set_ylim(-1.05, 1.05)
  figures.count_epochs(axes)
  axes.set_ylabel("mean cosine in training")
  axes.set_title("Cosine of the embeddings")
  axes.legend(frameon=False, fontsize=8)
  return figure
