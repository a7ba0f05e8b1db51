"""Trained runs on files: as in training, in windows, in parallel, exported."""

import csv
import json
import os
import pathlib
import subprocess
import sys
import types
import zipfile

import numpy as np
import pytest
import soundfile

from ser_jax import export, inference
from ser_jax.demo import clips, files, output, predictor
from ser_jax.errors import UserError
from ser_jax.trained import open_runs

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def model(trained):
  return predictor.load(trained)


def audio_files(raw):
  return {path.stem: path for path in sorted(raw.rglob("*.flac"))}


def saved(trained, run):
  with np.load(trained / "runs" / run / "predictions.npz") as found:
    return dict(found)


def test_predictions_are_those_of_training(trained, raw, model):
  windows = clips.make_windows(model.recipe)
  for number, run in enumerate(model.runs):
    expected = saved(trained, run)
    paths = [audio_files(raw)[str(name)] for name in expected["utterance"]]
    read = [
      clips.read_clips(path, model.recipe, windows, source="x")
      for path in paths
    ]
    scores = model.scores([clip.features for (clip,) in read])
    np.testing.assert_allclose(scores[number], expected["scores"], atol=1e-5)


def test_the_ensemble_is_the_average_of_its_runs(trained, raw, model):
  paths = list(audio_files(raw).values())[:3]
  windows = clips.make_windows(model.recipe)
  both, bad = files.predict_files(model, paths, windows, workers=1)
  alone = [
    files.predict_files(
      predictor.load(trained, [run]), paths, windows, workers=1
    )[0]
    for run in model.runs
  ]
  assert not bad
  for number, found in enumerate(both):
    mean = np.mean([runs[number].mean for runs in alone], axis=0)
    np.testing.assert_allclose(found.mean, mean, atol=1e-6)


def test_processes_find_what_one_does(raw, model):
  paths = list(audio_files(raw).values())[: files.ALONE]
  windows = clips.make_windows(model.recipe)
  one, _ = files.predict_files(model, paths, windows, workers=1)
  many, _ = files.predict_files(model, paths, windows, workers=2)
  assert [found.path for found in many] == paths
  for a, b in zip(one, many, strict=True):
    np.testing.assert_array_equal(a.scores, b.scores)


@pytest.mark.parametrize("rate, channels", [(16000, 1), (44100, 2), (8000, 3)])
def test_any_rate_and_channels(tmp_path, model, rate, channels):
  time = np.arange(rate) / rate
  tone = 0.3 * np.sin(2 * np.pi * 220 * time)
  path = tmp_path / "a.flac"
  soundfile.write(path, np.stack([tone] * channels, axis=1), rate)
  (found,), bad = files.predict_files(
    model, [path], clips.make_windows(model.recipe), workers=1
  )
  assert not bad
  np.testing.assert_allclose(found.mean.sum(), 1, atol=1e-5)


def test_silent_windows_are_noted_and_left_out(tmp_path, model):
  windows = clips.make_windows(model.recipe, 0.5)
  noise = np.random.default_rng(0).normal(0, 0.1, 16000)
  path = tmp_path / "long.wav"
  soundfile.write(path, np.concatenate([noise, np.zeros(16000)]), 16000)
  (found,), _ = files.predict_files(model, [path], windows, workers=1)
  assert [(c.start, c.end) for c in found.clips] == [
    (0.0, 0.5), (0.5, 1.0), (1.0, 1.5), (1.5, 2.0)
  ]  # fmt: skip
  assert np.isnan(found.scores[2:]).all() and "silent" in found.clips[2].note
  np.testing.assert_allclose(found.mean, found.scores[:2].mean(axis=0))
  rows = list(csv.DictReader(output.as_csv(model, [found], {}).splitlines()))
  assert [row["part"] for row in rows] == ["file"] + ["window"] * 4
  assert rows[3]["label"] == "" and "silent" in rows[3]["note"]
  described = json.loads(output.as_json(model, [found], {}))
  (recording,) = described["recordings"]
  assert recording["label"] == rows[0]["label"]
  assert [w["label"] is None for w in recording["windows"]] == [
    False, False, True, True
  ]  # fmt: skip


def command(*arguments):
  return subprocess.run(
    [sys.executable, "-m", "ser_jax.main", *map(str, arguments)],
    cwd=ROOT,
    env=os.environ | {"XLA_FLAGS": "", "JAX_PLATFORMS": "cpu"},
    capture_output=True,
    text=True,
  )


def test_the_command_line_writes_what_it_can(trained, raw, tmp_path):
  folder = tmp_path / "some"
  folder.mkdir()
  good = list(audio_files(raw).values())[:2]
  for path in good:
    (folder / path.name).write_bytes(path.read_bytes())
  (folder / "bad.wav").write_text("no audio")
  done = command("--mode=predict", f"--workdir={trained}", folder,
                 f"--output={tmp_path / 'out.csv'}")  # fmt: skip
  assert done.returncode == 1, done.stderr
  assert "bad.wav cannot be read" in done.stderr
  assert "Traceback" not in done.stderr
  rows = list(csv.DictReader((tmp_path / "out.csv").read_text().splitlines()))
  assert [bool(row["label"]) for row in rows] == [True, True, False]


@pytest.mark.parametrize(
  "arguments, message",
  [
    (["--output=x.csv"], "no audio in what was given"),
    (["nowhere.wav", "--output=x.csv"], "no file or folder nowhere.wav"),
    (["README.md", "--output=x.txt"], "ending in .csv or .json"),
    (
      ["README.md", "--output=x.csv", "--run=fold9"],
      "choose from session1-seed0",
    ),
    (["README.md", "--output=x.csv", "--window=99"], "utterances of up to"),
    (["README.md", "--output=x.csv", "--same_speaker"], "has no use"),
  ],
)
def test_mistakes_are_refused(trained, monkeypatch, arguments, message):
  from absl import flags

  from ser_jax.demo import command as demo_command

  monkeypatch.chdir(ROOT)
  flags.FLAGS.unparse_flags()
  left = flags.FLAGS(["main", *arguments])
  try:
    with pytest.raises(UserError, match=message):
      demo_command.run("predict", str(trained), left[1:])
  finally:
    for name in ("output", "run", "window", "same_speaker"):
      flags.FLAGS[name].unparse()


def test_shards_may_be_gone(moved, raw):
  """What the workdir holds is enough."""
  config = json.loads((moved / "config.json").read_text())
  config["data"]["shards"] = "/nowhere"
  (moved / "config.json").write_text(json.dumps(config))
  model = predictor.load(moved, ["session2-seed0"])
  path = next(iter(audio_files(raw).values()))
  (found,), _ = files.predict_files(
    model, [path], clips.make_windows(model.recipe), workers=1
  )
  assert found.scores.shape == (1, 4)


@pytest.mark.parametrize(
  "spoil, message",
  [
    (lambda w: (w / "config.json").unlink(), "has no config.json"),
    (lambda w: (w / "config.json").write_text("{"), "config.json is damaged"),
    (lambda w: (w / inference.FILE).unlink(), "has no inference.npz"),
    (lambda w: (w / inference.FILE).write_bytes(b"x"), "npz is damaged"),
    (lambda w: [p.unlink() for p in w.glob("runs/*/predictions.npz")],
     "has no finished run"),
  ],
)  # fmt: skip
def test_a_damaged_workdir_is_refused(moved, spoil, message):
  spoil(moved)
  with pytest.raises(UserError, match=message):
    predictor.load(moved)


def test_weights_of_another_model_are_refused(moved):
  config = json.loads((moved / "config.json").read_text())
  config["model"]["hidden"] = 9
  (moved / "config.json").write_text(json.dumps(config))
  with pytest.raises(UserError, match="is of another model: best/params"):
    predictor.load(moved)


# --- exports -----------------------------------------------------------------


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory):
  path = tmp_path_factory.mktemp("export") / "model.zip"
  opened = open_runs(trained, devices=1)
  export.write(
    path, opened.recipe, opened.names, 4, *predictor.pure_step(opened)
  )
  return path


def test_an_export_equals_its_runs(exported, raw, model):
  back = export.read(exported)
  assert back.recipe == model.recipe and back.runs == model.runs
  windows = clips.make_windows(model.recipe)
  examples = [
    clips.read_clips(path, model.recipe, windows, source="x")[0].features
    for path in list(audio_files(raw).values())[:5]
  ]
  scores = back.scores(examples)
  np.testing.assert_allclose(scores, model.scores(examples), atol=1e-6)
  alone = export.read(exported, [model.runs[1]]).scores(examples)
  np.testing.assert_array_equal(alone[0], scores[1])


def test_an_export_needs_no_code_of_models(exported):
  code = (
    "import sys, pathlib, numpy as np; from ser_jax import export; "
    f"model = export.read(pathlib.Path({str(exported)!r})); "
    "example = {n: np.zeros((9, s['dim']), s['dtype']) "
    "for n, s in model.recipe.inputs.items()}; "
    "assert model.scores([example]).shape == (2, 1, 4); "
    "print(*sys.modules)"
  )
  done = subprocess.run(
    [sys.executable, "-c", code],
    cwd=ROOT,
    env=os.environ | {"XLA_FLAGS": ""},
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  loaded = done.stdout.split()
  for name in ("flax", "optax", "orbax", "ser_jax.models", "ser_jax.nn"):
    assert name not in loaded


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"x" * 400])
def test_a_damaged_export_is_refused(tmp_path, content):
  path = tmp_path / "model.zip"
  path.write_bytes(content)
  with pytest.raises(UserError, match="no export that this version reads"):
    export.read(path)


def test_features_made_otherwise_are_refused(exported, moved, tmp_path):
  """By a workdir as by an export."""
  arrays = dict(np.load(moved / inference.FILE))
  recipe = json.loads(str(arrays["recipe"]))
  recipe["made"]["rate"] = 8000
  np.savez(moved / inference.FILE, **arrays | {"recipe": json.dumps(recipe)})
  with pytest.raises(UserError, match="rests on ds_lstm made otherwise"):
    predictor.load(moved)
  path = tmp_path / "model.zip"
  with zipfile.ZipFile(exported) as old, zipfile.ZipFile(path, "w") as new:
    for name in old.namelist():
      content = old.read(name)
      if name == "recipe.json":
        content = json.dumps(json.loads(content) | {"recipe": recipe})
      new.writestr(name, content)
  with pytest.raises(UserError, match="rests on ds_lstm made otherwise"):
    export.read(path)


# --- what is done on the host ------------------------------------------------


def recipe_of(**changes):
  plan = {"frames": 4, "stored": 4, "resample": False, "standardize": True,
          "buckets": (4,), "clip": 0.0, "normalize": "train"}  # fmt: skip
  spec = {"dim": 2, "frame_rate": 10.0, "dtype": "float32"}
  fields = {
    "system": "s", "corpus": "c", "classes": ("a", "b"), "features": "egemaps",
    "made": {}, "inputs": {"x": spec},
    "plans": {"x": plan | changes}, "pad_to": None, "longest": 2.0,
    "genders": {}, "folds": ("fold0",), "speakers": 2,
  }  # fmt: skip
  return inference.Recipe(**fields)


def test_examples_are_cut_and_padded():
  x = np.ones((6, 2), np.float32)
  inputs, lengths = inference.pack(recipe_of(), [{"x": x}, {"x": x[:3]}], 3)
  assert inputs["x"].shape == (3, 4, 2)
  np.testing.assert_array_equal(lengths["x"], [4, 3, 0])
  np.testing.assert_array_equal(inputs["x"].sum(axis=(1, 2)), [8, 6, 0])


def test_speakers_are_standardised_by_what_is_given():
  recipe = recipe_of(normalize="speaker", clip=1.2)
  examples = [{"x": np.float32([[n, 7.0]])} for n in (1, 2, 3, 4, 5)]
  found = inference.standardize_speaker(recipe, examples)
  # Mean 3, deviation sqrt(2), cut at 1.2; the second feature is constant.
  np.testing.assert_allclose(
    np.concatenate([e["x"] for e in found]),
    [[-1.2, 0], [-(0.5**0.5), 0], [0, 0], [0.5**0.5, 0], [1.2, 0]],
    atol=1e-6,
  )
  told = "2 readable recordings are too few.*Unreadable: a.wav is silent"
  with pytest.raises(UserError, match=told):
    inference.standardize_speaker(recipe, examples[:2], ["a.wav is silent."])


def test_a_transductive_system_asks_for_the_speaker():
  recipe = recipe_of(normalize="speaker")
  with pytest.raises(UserError, match="--same_speaker"):
    files.check_speaker(recipe, False)
  files.check_speaker(recipe, True)


def test_windows_fill_batches_whole():
  read = [("p", [types.SimpleNamespace(features=1)] * n, "") for n in (3, 3, 9)]
  sizes = [[len(c) for _, c, _ in group] for group in files._batches(read, 4)]
  assert sizes == [[3], [3, 9]]
