"""Files predicted by the other systems are what training predicted of them."""

import csv

import numpy as np
import pytest
import soundfile

from ser_jax import experiment, export
from ser_jax.demo import clips, files, listening, output, predictor
from ser_jax.trained import open_runs
from tests import aae_test, adieu_test, dcaen_test


def train(config, workdir):
  config.epochs = 1
  experiment.train(config, workdir, should_stop=lambda: False)
  with np.load(workdir / "predictions.npz") as found:
    return dict(found)


def predict(model, raw, names, **options):
  paths = [raw / "audio" / f"{name}.flac" for name in names]
  windows = clips.make_windows(model.recipe)
  return files.predict_files(model, paths, windows, workers=1, **options)


@pytest.fixture(scope="module")
def prosody(synthetic_shards, tmp_path_factory):
  """A workdir that predicts contours, and what training predicted."""
  workdir = tmp_path_factory.mktemp("prosody") / "run"
  config = adieu_test.small(synthetic_shards, "bi128,ccc,prosody")
  return workdir, train(config, workdir)


def test_contours(prosody, raw, tmp_path):
  workdir, saved = prosody
  model = predictor.load(workdir)
  order = np.argsort(-saved["frames"])[:3]  # the longest are whole, too
  saved = {n: x if n == "classes" else x[order] for n, x in saved.items()}
  names = saved["utterance"]
  found, bad = predict(model, raw, names)
  assert not bad
  for number, recording in enumerate(found):
    wanted = saved["scores"][number, : saved["frames"][number]]
    np.testing.assert_allclose(recording.scores, wanted, atol=1e-4)
  rows = list(csv.DictReader(output.as_csv(model, found, {}).splitlines()))
  assert len(rows) == saved["frames"][:3].sum()
  assert rows[1]["time"] == "0.040" and set(rows[1]) > {"loudness", "f0"}

  # Outside of an app its elements go nowhere; what they show is computed.
  samples, rate = soundfile.read(raw / "audio" / f"{names[0]}.flac")
  with pytest.MonkeyPatch.context() as patch:
    drawn = []
    patch.setattr(listening.charts, "activations", lambda x, _: drawn.append(x))
    patch.setattr(listening.st, "pyplot", lambda _: None)
    heard = samples.astype(np.float32)
    run = model.runs[0]
    listening.show_layers(workdir, run, heard, rate, "light")
  assert drawn and all(np.isfinite(x).all() and x.any() for x in drawn)

  opened = open_runs(workdir, devices=1)
  path = tmp_path / "model.zip"
  export.write(
    path, opened.recipe, opened.names, 4, *predictor.pure_step(opened)
  )
  (again, *_), _ = predict(export.read(path), raw, names)
  np.testing.assert_allclose(again.scores, found[0].scores, atol=1e-5)


@pytest.mark.parametrize(
  "silent, unknown",
  [((0.0, 2.3), (0, 1)), ((0.8, 4.6), (2, 3)), ((3.5, 6.0), (5, 6))],
)
def test_silence_has_no_contour_and_the_rest_has(
  prosody, tmp_path, monkeypatch, silent, unknown
):
  """In windows' hops, two of which are a window: of a file, in the app."""
  workdir, _ = prosody
  model = predictor.load(workdir)
  windows = clips.make_windows(model.recipe)
  assert windows.length == 2 * windows.hop
  hop, frames = round(16000 * windows.hop), round(25 * windows.hop)
  samples = np.random.default_rng(0).normal(0, 0.1, 6 * hop)
  samples[slice(*(round(hop * part) for part in silent))] = 0
  path = tmp_path / "a.wav"
  soundfile.write(path, samples, 16000)
  (found,), bad = files.predict_files(model, [path], windows, workers=1)
  assert not bad and "silent" in found.note
  expected = np.zeros((6 * frames, 2), bool)
  expected[slice(*(frames * part for part in unknown))] = True
  np.testing.assert_array_equal(np.isnan(found.scores), expected)

  drawn = []
  monkeypatch.setattr(
    listening.charts, "contour", lambda x, *_: drawn.append(x)
  )
  for name in ("audio", "altair_chart", "pyplot"):
    monkeypatch.setattr(listening.st, name, lambda *_: None)
  listening.classify(workdir, (), path.read_bytes(), "light")
  np.testing.assert_allclose(drawn[0], found.scores, atol=1e-5)


def test_a_contour_has_gaps_in_its_chart():
  values = np.float32([[1.0], [np.nan], [2.0]])
  chart = listening.charts.contour(values, 25.0, ("f0",)).to_dict()
  (rows,) = chart["datasets"].values()
  assert [row["value"] for row in rows] == [1.0, None, 2.0]
  assert [row["seconds"] for row in rows] == [0.0, 0.04, 0.08]


def test_frames_of_descriptors(
  opensmile_installed, synthetic_shards, raw, tmp_path
):
  config = aae_test.small(synthetic_shards, "fr_base,emotion,synthetic")
  saved = train(config, tmp_path / "run")
  model = predictor.load(tmp_path / "run")
  found, bad = predict(model, raw, saved["utterance"])
  assert not bad
  scores = np.concatenate([recording.scores for recording in found])
  np.testing.assert_allclose(scores, saved["scores"], atol=1e-5)


def test_a_speaker_s_own_statistics(
  opensmile_installed, synthetic_shards, raw, tmp_path, monkeypatch
):
  """Given all that training heard of a speaker, the same predictions.

  Samples are cut, functionals are not.
  """
  config = dcaen_test.small(synthetic_shards, "dcaen")
  config.data.max_frames = 10
  saved = train(config, tmp_path / "run")
  model = predictor.load(tmp_path / "run")
  monkeypatch.setattr("ser_jax.inference.LEAST_OF_SPEAKER", 4)
  mine = saved["speaker"] == saved["speaker"][0]
  found, bad = predict(model, raw, saved["utterance"][mine], same_speaker=True)
  assert not bad
  scores = np.concatenate([recording.scores for recording in found])
  np.testing.assert_allclose(scores, saved["scores"][mine], atol=1e-4)
