import json
import subprocess
import sys

import numpy as np
import pytest

from ser_jax.errors import UserError
from ser_jax.evaluation import report

CLASSES = np.array(["angry", "happy", "sad"])
INFO = {
  "system": "ds_lstm",
  "variant": "dual",
  "corpus": "emodb",
  "classes": CLASSES.tolist(),
  "protocol": {
    "name": "leave_two_speakers_out",
    "folds": 2,
    "speaker_independent": True,
    "notes": ["Two speakers test."],
  },
  "transductive": False,
  "parameters": 1234567,
  "command": "python -m ser_jax.main --config=configs/ds_lstm.py",
  "paper": {
    "source": "Table 1",
    "corpus": "iemocap",
    "protocol": "5-fold",
    "wa": 72.7,
    "wa_std": 0.7,
    "uar": 73.3,
    "uar_std": 0.8,
  },
  "epochs": 3,
}


def write_predictions(folder, stem="predictions", absent=None):
  draw = np.random.default_rng(0)
  rows = {name: [] for name in ("utterance", "speaker", "fold", "seed")}
  target, scores = [], []
  for fold in range(2):
    for seed in range(2):
      labels = draw.integers(0, 3, 60)
      if absent is not None and fold == 0:
        labels = np.where(labels == absent, 0, labels)
      raw = draw.random((60, 3)) + 0.6 * np.eye(3)[labels]
      target.append(labels)
      scores.append(raw / raw.sum(axis=1, keepdims=True))
      rows["utterance"] += [f"f{fold}u{i}" for i in range(60)]
      rows["speaker"] += [f"f{fold}s{i % 3}" for i in range(60)]
      rows["fold"] += [f"fold{fold}"] * 60
      rows["seed"] += [seed] * 60
  np.savez(
    folder / f"{stem}.npz",
    **{name: np.array(values) for name, values in rows.items()},
    target=np.concatenate(target),
    scores=np.concatenate(scores).astype(np.float32),
    classes=CLASSES,
  )


def write_history(folder):
  with open(folder / "metrics.jsonl", "w") as file:
    for fold in range(2):
      for seed in range(2):
        for epoch in range(3):
          line = {
            "fold": f"fold{fold}",
            "seed": seed,
            "stage": "train",
            "epoch": epoch,
            "step": 7 * (epoch + 1),
            "train": {"loss": 1.0 / (epoch + 1)},
            "validation": {"loss": 1.0, "uar": 0.3 + 0.1 * epoch, "wa": 0.4},
            "best": epoch < 2,
            "learning_rate": {"classify": 1e-3},
            "seconds": 2.0,
          }
          file.write(json.dumps(line) + "\n")


@pytest.fixture
def folder(tmp_path):
  write_predictions(tmp_path)
  write_predictions(tmp_path, "predictions_last")
  write_history(tmp_path)
  return tmp_path


def test_what_the_json_holds(folder):
  report.write_report(folder, INFO)
  found = json.loads((folder / "report.json").read_text())
  for name in (
    *("system", "variant", "corpus", "protocol", "speaker_independent"),
    *("runs", "summary", "paper", "per_class", "confusion", "last_epoch"),
  ):
    assert name in found
  assert [(r["fold"], r["seed"]) for r in found["runs"]] == [
    ("fold0", 0),
    ("fold0", 1),
    ("fold1", 0),
    ("fold1", 1),
  ]
  assert all(run["best_epoch"] == 2 for run in found["runs"])
  for name in ("wa", "uar"):
    summary = found["summary"][name]
    values = [run[name] for run in found["runs"]]
    assert summary["mean"] == pytest.approx(np.mean(values))
    assert summary["std"] == pytest.approx(np.std(values, ddof=1))
    assert summary["ci95"][0] <= summary["pooled"] <= summary["ci95"][1]
  assert sum(map(sum, found["confusion"])) == 240


def test_epochs_are_those_of_the_last_stage(folder):
  path = folder / "metrics.jsonl"
  second = [json.loads(line) for line in path.read_text().splitlines()]
  first = [x | {"stage": "features", "epoch": x["epoch"] + 4} for x in second]
  path.write_text("".join(f"{json.dumps(x)}\n" for x in first + second))
  run = report.write_report(folder, INFO)["runs"][0]
  assert (run["best_epoch"], run["epochs"]) == (2, 3)
  assert run["seconds"] == 12.0  # of both


def test_rebuilding_gives_the_same(folder):
  report.write_report(folder, INFO)
  before = (folder / "report.json").read_text()
  (folder / "report.json").unlink()
  report.rebuild(folder)
  assert (folder / "report.json").read_text() == before


def test_the_markdown_has_ours_and_the_paper_s(folder):
  found = report.write_report(folder, INFO)
  text = (folder / "report.md").read_text()
  assert "73.3 ± 0.8" in text
  assert f"{100 * found['summary']['uar']['mean']:.1f}" in text
  for path in found["figures"]:
    assert path in text
    assert (folder / path).read_bytes().startswith(b"\x89PNG")


def test_speaker_dependent_folds_are_in_the_headline(folder):
  protocol = INFO["protocol"] | {"speaker_independent": False}
  found = report.write_report(folder, INFO | {"protocol": protocol})
  assert (
    "SPEAKER-DEPENDENT" in (folder / "report.md").read_text().splitlines()[0]
  )
  assert any("SPEAKER-DEPENDENT" in w for w in found["warnings"])


@pytest.mark.parametrize(
  ("speakers", "note"),
  [(4, "No 95 % intervals: 4 "), (6, "over 6 speakers are too narrow"),
   (10, "over 10 speakers are too narrow"), (11, None)],
)  # fmt: skip
def test_intervals_over_few_speakers_are_told_of(folder, speakers, note):
  with np.load(folder / "predictions.npz") as stored:
    arrays = dict(stored)
  arrays["speaker"] = np.arange(len(arrays["speaker"])) % speakers
  np.savez(folder / "predictions.npz", **arrays)
  found = report.write_report(folder, INFO)
  assert (found["summary"]["uar"]["ci95"] is None) == (speakers == 4)
  notes = [w for w in found["warnings"] if "95 %" in w]
  assert (note in notes[0]) if note else not notes
  text = (folder / "report.md").read_text()
  assert ("| none |" in text) == (speakers == 4)


def test_a_single_run_has_no_deviation(folder):
  with np.load(folder / "predictions.npz") as stored:
    first = (stored["fold"] == "fold0") & (stored["seed"] == 0)
    arrays = {
      name: values if name == "classes" else values[first]
      for name, values in stored.items()
    }
  np.savez(folder / "predictions.npz", **arrays)
  (folder / "predictions_last.npz").unlink()
  found = report.write_report(folder, INFO)
  row = next(
    line
    for line in (folder / "report.md").read_text().splitlines()
    if line.startswith("| this run")
  )
  assert "±" not in row
  assert "±" not in found["text"]


def test_runs_that_diverged_are_told_of(folder):
  found = report.write_report(folder, INFO | {"diverged": ["a-seed0"]})
  assert any("a-seed0" in warning for warning in found["warnings"])
  assert "a-seed0" in (folder / "report.md").read_text()


def test_chosen_folds_are_told_of_how_many(folder):
  found = report.write_report(folder, INFO)
  assert not any("folds: " in w for w in found["warnings"])
  assert "\n2 folds × 2 seeds, " in (folder / "report.md").read_text()
  protocol = INFO["protocol"] | {"folds": 5}
  found = report.write_report(folder, INFO | {"protocol": protocol})
  assert found["warnings"][0].startswith("2 of 5 folds: ")
  assert "\n2 of 5 folds × 2 seeds, " in (folder / "report.md").read_text()


def test_a_run_that_says_one_class_of_everything_is_told_of(folder):
  with np.load(folder / "predictions.npz") as stored:
    arrays = dict(stored)
  lost = (arrays["fold"] == "fold1") & (arrays["seed"] == 1)
  arrays["scores"][lost] = (0.2, 0.5, 0.3)
  np.savez(folder / "predictions.npz", **arrays)
  found = report.write_report(folder, INFO)
  (line,) = (w for w in found["warnings"] if "COLLAPSED" in w)
  assert "fold1, seed 1 predicts happy for every test utterance" in line
  assert line in (folder / "report.md").read_text()


def test_absent_classes_are_noted(tmp_path):
  write_predictions(tmp_path, absent=2)
  found = report.write_report(tmp_path, INFO)
  assert any(
    "fold0 has no test utterance of sad" in w for w in found["warnings"]
  )
  assert found["runs"][0]["absent_classes"] == ["sad"]
  # Of those that are there, none is small.
  assert not any("single folds are noisy" in w for w in found["warnings"])


def test_small_classes_beside_an_absent_one_are_noted(tmp_path):
  write_predictions(tmp_path, absent=2)
  path = tmp_path / "predictions.npz"
  arrays = dict(np.load(path))
  happy = np.flatnonzero((arrays["fold"] == "fold0") & (arrays["target"] == 1))
  left = np.setdiff1d(np.arange(len(arrays["fold"])), happy[3:])
  kept = {
    name: array if name == "classes" else array[left]
    for name, array in arrays.items()
  }
  np.savez(path, **kept)
  (warning,) = (
    each
    for each in report.write_report(tmp_path, INFO)["warnings"]
    if "single folds are noisy" in each
  )
  assert "some class in fold0:" in warning


@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_predictions_that_cannot_be_read_are_named(folder, damage):
  path = folder / "predictions.npz"
  if damage == "missing":
    path.unlink()
  else:
    path.write_bytes(path.read_bytes()[:500])
  with pytest.raises(UserError, match="predictions.npz"):
    report.write_report(folder, INFO)


def test_no_device_is_needed():
  code = (
    "import sys, ser_jax.evaluation.report, ser_jax.evaluation.figures\n"
    "bad = {'jax', 'tensorflow', 'flax'} & set(sys.modules)\n"
    "sys.exit(str(bad) if bad else 0)"
  )
  subprocess.run([sys.executable, "-c", code], check=True)


def test_seeds_are_averaged_utterance_by_utterance():
  predictions = {
    "utterance": np.array(["a", "b", "b", "a", "b"]),
    "speaker": np.array(["s", "t", "t", "s", "t"]),
    "fold": np.array(["f", "f", "f", "f", "g"]),
    "seed": np.array([0, 0, 1, 1, 0]),
    "target": np.array([0, 1, 1, 0, 1]),
    "scores": np.array([[1, 0], [0.2, 0.8], [0.6, 0.4], [0.4, 0.6], [1, 0]]),
    "classes": np.array(["x", "y"]),
  }
  found = report.average_seeds(predictions)
  assert found["fold"].tolist() == ["f", "f", "g"]
  assert found["utterance"].tolist() == ["a", "b", "b"]
  assert found["target"].tolist() == [0, 1, 1]
  np.testing.assert_allclose(found["scores"], [[0.7, 0.3], [0.4, 0.6], [1, 0]])


def test_an_ensemble_of_seeds_stands_beside_the_runs(folder):
  found = report.write_report(folder, INFO)
  assert set(found["averaged"]) == {"wa", "uar"}
  assert "same, its seeds averaged" in (folder / "report.md").read_text()
