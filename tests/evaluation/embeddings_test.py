import pathlib

import numpy as np
import pytest

from ser_jax.evaluation import embedding_figures, embeddings

HERE = pathlib.Path("runs/one")
SPEAKERS, EMOTIONS = ("a", "b", "c", "d"), ("angry", "sad")


FOUND = {"classes": list(EMOTIONS), "threshold": -0.5}


def run(of_speaker=5.0, of_emotion=5.0, per_cell=12, dim=6):
  """Gaussian clouds, moved by speaker and emotion; d tests."""
  rng = np.random.default_rng(0)
  speaker, emotion = np.repeat(
    [(s, e) for s in SPEAKERS for e in EMOTIONS], per_cell, axis=0
  ).T
  who = np.searchsorted(SPEAKERS, speaker)
  what = np.searchsorted(EMOTIONS, emotion)
  x = rng.normal(size=(len(who), dim))
  x[:, :4] += of_speaker * np.eye(4)[who]
  x[:, 4:] += of_emotion * np.eye(2)[what]
  weights = rng.random((len(who), 9))
  return {
    "utterance": np.arange(len(who)).astype(str),
    "speaker": speaker,
    "emotion": emotion,
    "split": np.where(speaker == "d", "test", "train"),
    "target": what,
    "scores": np.eye(2)[what],
    "embedding": x,
    "attention_0": weights / weights.sum(axis=1, keepdims=True),
  }


@pytest.mark.parametrize(
  ("of_speaker", "of_emotion", "speaker", "emotion"),
  [(5.0, 5.0, (0.95, 1.0), (0.95, 1.0)), (0.0, 0.0, (0.1, 0.6), (0.2, 0.8))],
)
def test_probes_find_what_is_there_and_nothing_else(
  of_speaker, of_emotion, speaker, emotion
):
  found = embeddings.summarize({HERE: run(of_speaker, of_emotion)})
  assert set(found) == {"embedding"}  # neither scores nor attention
  probes = found["embedding"]
  assert speaker[0] <= probes["speaker"]["accuracy"] <= speaker[1]
  assert emotion[0] <= probes["emotion"]["uar"] <= emotion[1]
  assert probes["speaker"]["chance"] == pytest.approx(1 / 3)  # d is not asked
  assert probes["emotion"]["chance"] == 0.5


def test_the_emotion_is_asked_of_test_speakers():
  """Their emotions look like one another's: the probe is always wrong."""
  clouds = run()
  test = clouds["split"] == "test"
  clouds["embedding"][test, 4:] = clouds["embedding"][test, :3:-1]
  probes = embeddings.summarize({HERE: clouds})["embedding"]
  assert probes["emotion"]["uar"] < 0.05
  assert probes["speaker"]["accuracy"] > 0.95


def test_probes_are_averaged_over_runs():
  known, unknown = run(), run(0.0, 0.0)
  each = [
    embeddings.summarize({HERE: x})["embedding"]["emotion"]["uar"]
    for x in (known, unknown)
  ]
  both = embeddings.summarize({HERE: known, HERE / "y": unknown})["embedding"]
  assert both["runs"] == 2
  assert both["emotion"]["uar"] == pytest.approx(np.mean(each))
  assert both["emotion"]["std"] == pytest.approx(np.std(each, ddof=1))


def test_a_probe_that_errs_is_scored_by_hand():
  x = np.array([[0.0], [1.0]] * 10)
  words = np.array(["low", "high"] * 10)
  x_test = np.array([[0.0], [0.0], [1.0]])
  truth = np.array(["low", "high", "high"])
  found = embeddings.probe_emotion(x, words, x_test, truth)
  assert found == {"uar": pytest.approx((1.0 + 0.5) / 2), "chance": 0.5}


def test_pictures_of_what_a_folder_holds(tmp_path):
  assert embedding_figures.draw(tmp_path, FOUND, []) == []
  folder = tmp_path / "runs" / "fold0-seed0"
  folder.mkdir(parents=True)
  clouds = run()
  clouds["embedding_raw"] = clouds.pop("embedding")
  clouds["embedding_features"] = -clouds["embedding_raw"]
  np.savez(folder / "embeddings.npz", **clouds)
  rng = np.random.default_rng(0)
  np.savez(
    folder / "generated.npz",
    input=rng.normal(size=(5, 8)),
    reconstruction=rng.normal(size=(5, 8)),
    sample_class=np.repeat([0, 1], 3),
    samples=rng.normal(size=(6, 8)),
    steps=np.linspace(-3, 3, 5),
    traversal=rng.normal(size=(2, 5, 8)),
  )
  history = [
    {"fold": "fold0", "seed": 0, "epoch": epoch, "train": {"cosine": -0.1}}
    for epoch in range(3)
  ]
  drawn = embedding_figures.draw(tmp_path, FOUND, history)
  names = ("cosine", "tsne_embedding_raw", "tsne_embedding_features")
  names += ("tsne_both", "attention")
  names += ("reconstruction", "samples", "traversal")
  assert drawn == [f"figures/{name}.png" for name in names]
  for path in drawn:
    assert (tmp_path / path).read_bytes()[:4] == b"\x89PNG"


def test_a_learning_rate_has_its_own_runs(tmp_path):
  for name in ("fold0-seed0-lr0.1", "fold0-seed0-lr0.01", "fold1-seed0-lr0.1"):
    folder = tmp_path / "runs" / name
    folder.mkdir(parents=True)
    np.savez(folder / "embeddings.npz", x=np.zeros(1))
  found = embeddings.read(tmp_path / "lr-0.1", 0.1)
  names = ["fold0-seed0-lr0.1", "fold1-seed0-lr0.1"]
  assert list(found) == [tmp_path / "runs" / name for name in names]


def test_frames_are_drawn_as_images(tmp_path):
  folder = tmp_path / "runs" / "fold0-seed0"
  folder.mkdir(parents=True)
  few = run(per_cell=1)  # too few for t-SNE
  one = {k: x for k, x in few.items() if not k.startswith("attention")}
  np.savez(folder / "embeddings.npz", **one)
  rng = np.random.default_rng(0)
  np.savez(
    folder / "generated.npz",
    input=rng.normal(size=(2, 16, 3)),
    reconstruction=rng.normal(size=(2, 16, 3)),
    sample_class=np.repeat([0, 1], 2),
    samples=rng.normal(size=(4, 16, 3)),
    steps=np.linspace(-3, 3, 5),
    traversal=rng.normal(size=(2, 5, 16, 3)),
  )
  drawn = embedding_figures.draw(tmp_path, FOUND, [])
  names = ("reconstruction", "samples", "traversal")
  assert drawn == [f"figures/{name}.png" for name in names]
