"""Files predicted by the other systems are what training predicted of them."""

import csv

import numpy as np
import pytest
import soundfile

from ser_jax import experiment, export
from ser_jax.demo import clips, files, listening, output, predictor
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


def test_contours(synthetic_shards, raw, tmp_path):
  config = adieu_test.small(synthetic_shards, "bi128,ccc,prosody")
  saved = train(config, tmp_path / "run")
  model = predictor.load(tmp_path / "run")
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
    listening.show_layers(tmp_path / "run", run, heard, rate, "light")
  assert drawn and all(np.isfinite(x).all() and x.any() for x in drawn)

  opened = predictor.open_runs(tmp_path / "run", devices=1)
  path = tmp_path / "model.zip"
  export.write(
    path, opened.recipe, opened.names, 4, *predictor.pure_step(opened)
  )
  (again, *_), _ = predict(export.read(path), raw, names)
  np.testing.assert_allclose(again.scores, found[0].scores, atol=1e-5)


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
