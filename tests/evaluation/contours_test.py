"""CCC against Lin by hand and in NumPy; windows joined; the report."""

import json

import numpy as np
import pytest

from ser_jax.errors import UserError
from ser_jax.evaluation import contours, report

RATE = 25.0
NAMES = ("loudness", "f0")


def lin(x, y):
  covariance = np.mean((x - x.mean()) * (y - y.mean()))
  return 2 * covariance / (x.var() + y.var() + (x.mean() - y.mean()) ** 2)


def sums_of(found, wanted, origin=0.0):
  return contours.moments(
    np.asarray(found, float), np.asarray(wanted, float), np.full(1, origin)
  )


def test_ccc_and_rmse_by_hand():
  """Means 2 and 3, variances 2/3 and 8/3, covariance 4/3; errors 0, 1, 2."""
  sums = sums_of([[1], [2], [3]], [[1], [3], [5]])
  assert contours.ccc(sums) == pytest.approx(8 / 13)
  assert contours.rmse(sums) == pytest.approx(np.sqrt(5 / 3))


@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_moments_add_up_to_lin_s_coefficient(offset):
  found, wanted = np.random.default_rng(0).normal(offset, 1, (2, 60, 1))
  wanted += 0.5 * found
  parts = [
    sums_of(found[s], wanted[s], origin=wanted.mean())
    for s in (slice(0, 11), slice(11, 60))
  ]
  np.testing.assert_allclose(
    contours.ccc(sum(parts)), lin(found, wanted), rtol=1e-9
  )
  np.testing.assert_allclose(
    contours.rmse(sum(parts)), np.sqrt(np.mean((found - wanted) ** 2))
  )


@pytest.mark.parametrize(("found", "wanted"), [(1, 1), (1, 2), (0, 0)])
def test_constant_contours_have_a_ccc_of_0(found, wanted):
  sums = sums_of(np.full((5, 1), found), np.full((5, 1), wanted))
  assert contours.ccc(sums) == 0.0


def windows_of(contour, starts, size=150):
  return [contour[start : start + size] for start in starts]


def test_windows_of_one_contour_join_to_it():
  contour = np.random.default_rng(0).normal(size=(400, 2))
  starts = [0, 75, 150, 225, 250]  # the last ends where the recording does
  joined = contours.merge(windows_of(contour, starts), starts, "one")
  np.testing.assert_allclose(joined, contour, atol=1e-12)


def test_a_seam_has_no_step():
  """Two windows that disagree by 1: the contour goes over in small steps."""
  windows = [np.zeros((150, 1)), np.ones((150, 1))]
  joined = contours.merge(windows, [0, 75], "two")[:, 0]
  assert joined[74] == 0 and joined[150] == 1
  assert (np.diff(joined) >= 0).all() and np.diff(joined).max() < 0.03
  # Half of either where both windows are as far from their ends.
  assert joined[112] == pytest.approx(0.5, abs=0.01)


def test_frames_without_a_window_are_named():
  with pytest.raises(UserError, match="gap has frames that lie in none"):
    contours.merge([np.ones((10, 1))] * 2, [0, 20], "gap")
  with pytest.raises(UserError, match="not finite"):
    contours.merge([np.full((10, 1), np.nan)], [0], "bad")


def predictions(seeds=2):
  """Two folds of two speakers, each with two recordings, one in windows."""
  draw = np.random.default_rng(0)
  rows = {
    name: []
    for name in ("utterance", "speaker", "fold", "seed", "frames", "scores",
                 "target")
  }  # fmt: skip
  for fold in range(2):
    whole = {
      f"f{fold}s{speaker}r{recording}": np.cumsum(
        draw.normal(size=(375, 2)), axis=0
      )
      for speaker in range(2)
      for recording in range(2)
    }
    for seed in range(seeds):
      for name, wanted in whole.items():
        found = wanted + draw.normal(0, 1 + seed, wanted.shape)
        for start in (0, 75, 150, 225):
          rows["utterance"].append(f"{name}@{start / RATE:07.2f}")
          rows["speaker"].append(name[:4])
          rows["fold"].append(f"fold{fold}")
          rows["seed"].append(seed)
          rows["frames"].append(150)
          rows["scores"].append(found[start : start + 150])
          rows["target"].append(wanted[start : start + 150])
  return {name: np.array(values) for name, values in rows.items()}


def test_the_score_is_of_joined_recordings():
  found = predictions(seeds=1)
  joined = contours.recordings(found, RATE)
  assert [len(r.found) for r in joined] == [375] * 8
  assert joined[0].name == "f0s0r0" and joined[0].speaker == "f0s0"
  score = contours.score(found, NAMES, RATE)
  one, other = (
    np.concatenate([getattr(r, side)[:, 0] for r in joined])
    for side in ("found", "wanted")
  )
  assert score["ccc_loudness"] == pytest.approx(lin(one, other))
  assert score["ccc"] == pytest.approx(
    (score["ccc_loudness"] + score["ccc_f0"]) / 2
  )
  assert 0 < score["loss"] < 1


INFO = {
  "system": "adieu",
  "variant": "bi128-ccc-prosody",
  "corpus": "emodb",
  "classes": list(NAMES),
  "frame_rate": RATE,
  "protocol": {
    "name": "leave_two_speakers_out",
    "folds": 5,
    "speaker_independent": True,
    "notes": ["Two speakers test."],
  },
  "transductive": False,
  "parameters": 1249490,
  "command": "python -m ser_jax.main --config=configs/adieu.py",
  "paper": {},
  "epochs": 3,
}


def test_a_report_of_contours(tmp_path):
  arrays = predictions()
  for stem in ("predictions", "predictions_last"):
    np.savez(tmp_path / f"{stem}.npz", **arrays, classes=np.array(NAMES))
  found = report.write_report(tmp_path, INFO)
  again = json.loads((tmp_path / "report.json").read_text())
  assert again["summary"] == found["summary"]
  runs = [run["ccc_f0"] for run in found["runs"]]
  assert found["summary"]["ccc_f0"]["mean"] == pytest.approx(np.mean(runs))
  assert found["recordings"] == 8 and found["speakers"] == 4
  assert found["summary"]["ccc_f0"]["ci95"] is None
  assert any("4 test speakers are too few" in w for w in found["warnings"])
  # Seed 1 has twice the noise of seed 0.
  assert found["runs"][0]["ccc_f0"] > found["runs"][1]["ccc_f0"]
  assert found["warnings"][0].startswith("2 of 5 folds: ")
  assert (tmp_path / "figures" / "contours.png").stat().st_size
  text = (tmp_path / "report.md").read_text()
  assert "| f0 |" in text and "loudness, last epoch" in text
  assert "\n2 of 5 folds × 2 seeds, " in text
  assert "CCC f0" in found["text"]


def test_the_title_says_what_the_figures_are_not(tmp_path):
  np.savez(tmp_path / "predictions.npz", **predictions(1), classes=NAMES)
  protocol = INFO["protocol"] | {"speaker_independent": False}
  changes = {"transductive": True, "protocol": protocol}
  found = report.write_report(tmp_path, INFO | changes)
  marked = "on emodb — SPEAKER-DEPENDENT — TRANSDUCTIVE\n"
  assert marked in found["text"]
  assert marked in (tmp_path / "report.md").read_text()


def test_a_constant_prediction_is_told(tmp_path):
  arrays = predictions()
  arrays["scores"][..., 1] = 3.0
  np.savez(tmp_path / "predictions.npz", **arrays, classes=np.array(NAMES))
  found = report.write_report(tmp_path, INFO)
  assert found["runs"][0]["constant"] == ["f0"]
  assert any("predicts constant f0" in w for w in found["warnings"])
  assert found["summary"]["ccc_f0"]["pooled"] == pytest.approx(0.0, abs=1e-9)
