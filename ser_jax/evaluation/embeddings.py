"""What embeddings know: linear probes of speaker and emotion, and pictures.

    runs/*/embeddings.npz -> probes for the report, figures

A probe is a logistic regression on standardised embeddings. That of the speaker
is cross-validated on the fold's training utterances, since no test speaker is
among them; that of the emotion learns there and is scored on test speakers.
"""

import pathlib
import warnings

import numpy as np
from jaxtyping import Float, Shaped

from ser_jax import atomic
from ser_jax.evaluation import metrics, statistics
from ser_jax.run_names import rate_suffix

AGAIN = (
  "delete it; --mode=evaluate with config.report.embeddings writes it again."
)
FILE = "embeddings.npz"
DESCRIPTIONS = ("utterance", "speaker", "emotion", "split", "target")
SPLITS = 5  # of the cross-validation
Vectors = Float[np.ndarray, "utterances dim"]
Words = Shaped[np.ndarray, "utterances"]


def read(
  folder: pathlib.Path, rate: float | None = None
) -> dict[pathlib.Path, dict[str, np.ndarray]]:
  """The embeddings of every run that has some.

  Args:
    folder: of the report.
    rate: of its runs, which then are beside the folder, among those of other
      rates.

  Returns:
    Arrays by the run's folder.
  """
  found = {}
  runs = (folder if rate is None else folder.parent) / "runs"
  for path in sorted(runs.glob(f"*{rate_suffix(rate)}/{FILE}")):
    found[path.parent] = atomic.read_arrays(path, AGAIN)
  return found


def vectors(run: dict[str, np.ndarray]) -> dict[str, Vectors]:
  """The arrays of a run that embed utterances, by name.

  What describes utterances is none, nor are scores, nor what is above two axes;
  attention has frames, not dimensions.
  """
  return {
    name: x
    for name, x in run.items()
    if name not in (*DESCRIPTIONS, "scores")
    and x.ndim == 2
    and not name.startswith("attention")
  }


def probe_speaker(x: Vectors, speakers: Words) -> dict[str, float]:
  """How well a line tells the speakers.

  Args:
    x: embeddings of training utterances.
    speakers: who says each.

  Returns:
    `accuracy`, cross-validated, and `chance`, the largest speaker's share.
  """
  from sklearn.model_selection import StratifiedKFold, cross_val_score

  _, counts = np.unique(speakers, return_counts=True)
  folds = StratifiedKFold(
    min(SPLITS, int(counts.min())), shuffle=True, random_state=0
  )
  scores = cross_val_score(_probe(), x, speakers, cv=folds)
  return {
    "accuracy": float(scores.mean()),
    "chance": float(counts.max() / counts.sum()),
  }


def probe_emotion(
  x: Vectors,
  emotions: Words,
  x_test: Float[np.ndarray, "tests dim"],
  emotions_test: Shaped[np.ndarray, "tests"],
) -> dict[str, float]:
  """How well a line tells the emotions of speakers that it has not heard.

  Args:
    x: embeddings of training utterances.
    emotions: of each.
    x_test: embeddings of test utterances.
    emotions_test: of each; those not among `emotions` are left out.

  Returns:
    `uar` on the test utterances, and `chance`.
  """
  known = np.unique(emotions)
  heard = np.isin(emotions_test, known)
  x_test, emotions_test = x_test[heard], emotions_test[heard]
  predicted = _probe().fit(x, emotions).predict(x_test)
  confusion = metrics.confusion_matrix(
    np.searchsorted(known, emotions_test),
    np.searchsorted(known, predicted),
    len(known),
  )
  present = len(np.unique(emotions_test))
  return {"uar": float(metrics.uar(confusion)), "chance": 1.0 / present}


def _probe():
  from sklearn.linear_model import LogisticRegression
  from sklearn.pipeline import make_pipeline
  from sklearn.preprocessing import StandardScaler

  return make_pipeline(
    StandardScaler(), LogisticRegression(C=0.1, max_iter=200)
  )


def summarize(
  found: dict[pathlib.Path, dict[str, np.ndarray]],
) -> dict[str, dict]:
  """Probes of every embedding, averaged over runs.

  Args:
    found: see `read`.

  Returns:
    By embedding, `speaker` (`accuracy`, its deviation `std` over runs,
    `chance`) and `emotion` (`uar`, `std`, `chance`), and the number of `runs`.
  """
  from sklearn.exceptions import ConvergenceWarning
  from threadpoolctl import threadpool_limits

  every = {}
  # On so little data, threads that wait for one another cost time.
  with threadpool_limits(1), warnings.catch_warnings():
    # Separable classes have no best line: any of them serves a probe.
    warnings.simplefilter("ignore", ConvergenceWarning)
    for run in found.values():
      train, test = (run["split"] == side for side in ("train", "test"))
      for name, x in vectors(run).items():
        speaker = probe_speaker(x[train], run["speaker"][train])
        emotion = probe_emotion(
          *(x[train], run["emotion"][train], x[test], run["emotion"][test])
        )
        every.setdefault(name, []).append((speaker, emotion))
  return {
    name: {
      "runs": len(probes),
      "speaker": _average([s for s, _ in probes], "accuracy"),
      "emotion": _average([e for _, e in probes], "uar"),
    }
    for name, probes in every.items()
  }


def _average(probes: list[dict], metric: str) -> dict[str, float]:
  spread = statistics.mean_and_std(np.array([p[metric] for p in probes]))
  chance = float(np.mean([p["chance"] for p in probes]))
  return {metric: spread["mean"], "std": spread["std"], "chance": chance}
