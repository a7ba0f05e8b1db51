"""Both modes on a small system: what is written, and that it adds up."""

import copy
import json
import types

import jax
import jax.numpy as jnp
import pytest
from jax.experimental.compilation_cache import compilation_cache

from configs import ds_lstm
from ser_jax import assembly
from ser_jax.analysis import compiled, markdown, modes
from ser_jax.analysis.cost import Op
from ser_jax.analysis.roofline import Peaks, roofline
from ser_jax.analysis.shapes import blank_shards
from ser_jax.data.dataset import load_dataset
from ser_jax.errors import UserError
from ser_jax.features.sets import FEATURE_SETS
from ser_jax.train import processes

STEPS, BATCH, HIDDEN, DIM = 20, 8, 4, 39


def small(**parallel):
  """Two LSTM layers over 20 frames, of a corpus that there is not."""
  config = ds_lstm.get_config("base1,emodb")
  config.data.shards = "nowhere"
  config.data.classes = ("angry", "sad")
  config.model.hidden = HIDDEN
  config.batch_size = BATCH
  config.protocol.folds = (0, 1)
  config.analysis.frames = f"mfcc={STEPS}"
  config.analysis.peaks = "flops=1e12,bytes=1e11,link=1e10"
  config.parallel.update({"data": 1} | parallel)
  config.profile.update({"steps": 2, "skip": 1})
  return config


def products(found, step):
  program = found["stages"]["train"]["programs"][step]
  return program["categories"]["matmul"]["flops"]


@pytest.fixture(scope="module")
def analysis(tmp_path_factory):
  folder = tmp_path_factory.mktemp("analysis")
  config = small()
  config.analysis.save_hlo = True
  return modes.analyze(config, folder, None), folder


def test_the_products_of_both_steps(analysis):
  found, _ = analysis
  forward = sum(
    2 * BATCH * STEPS * 4 * HIDDEN * (dim + HIDDEN) for dim in (DIM, HIDDEN)
  )
  head = 2 * BATCH * HIDDEN * 2
  assert products(found, "predict") == forward + head
  # Backward: the gradients of weights and of inputs, but none of the features.
  features = 2 * BATCH * STEPS * 4 * HIDDEN * DIM
  assert products(found, "train") == 3 * (forward + head) - features


def test_each_layer_s_scan_is_found(analysis):
  found, _ = analysis
  programs = found["stages"]["train"]["programs"]
  for step, count in (("predict", 2), ("train", 4)):
    depths = [each["trips"] for each in programs[step]["loops"]]
    assert depths == [STEPS] * count
    assert programs[step]["iterations"] == STEPS * count


def test_parameters_are_those_of_the_model(analysis):
  found, _ = analysis
  rows = {
    row["module"]: row["parameters"]
    for row in found["stages"]["train"]["parameters"]
  }
  assert rows == {
    "lstm_mfcc_0": 4 * HIDDEN * (DIM + HIDDEN + 1),
    "lstm_mfcc_1": 4 * HIDDEN * (HIDDEN + HIDDEN + 1),
    "head_mfcc": 2 * (HIDDEN + 1),
  }


def test_the_whole_state_is_donated(analysis):
  found, _ = analysis
  donated = found["stages"]["train"]["programs"]["train"]["donated"]
  parameters = sum(
    row["bytes"] for row in found["stages"]["train"]["parameters"]
  )
  assert donated["bytes"] > 3 * parameters  # and both moments of Adam
  assert not found["stages"]["train"]["programs"]["predict"]["donated"]["bytes"]


def test_the_corpus_is_an_argument_at_its_full_size(analysis):
  found, _ = analysis
  memory = found["stages"]["train"]["programs"]["predict"]["memory"]
  assert memory["argument"] > 4 * 535 * STEPS * DIM


def test_what_an_analysis_leaves(analysis):
  found, folder = analysis
  text = (folder / "analysis.md").read_text()
  assert text in found["text"]
  assert "lstm_mfcc_1/while" in text and "bound by" in text
  saved = json.loads((folder / "analysis.json").read_text())
  assert saved["stages"] == json.loads(json.dumps(found["stages"]))
  names = {path.name for path in (folder / "hlo").iterdir()}
  assert names == {
    f"train-{step}.{kind}"
    for step in ("train", "predict")
    for kind in ("stablehlo.mlir", "optimized.hlo")
  }


def test_a_comparison_shows_what_changed(analysis, tmp_path):
  found, folder = analysis
  config = small(backend="pmap", data=2)
  other = modes.analyze(config, tmp_path, str(folder / "analysis.json"))
  assert "| config.parallel.backend | jit | pmap |" in other["text"]
  line = "train.programs.predict.categories.matmul.flops"
  assert f"| {line} |" in other["text"]
  assert products(other, "predict") == products(found, "predict") / 2
  program = other["stages"]["train"]["programs"]["train"]
  parameters = sum(
    row["bytes"] for row in other["stages"]["train"]["parameters"]
  )
  assert program["collectives"]["all-reduce"]["payload"] >= parameters
  assert markdown.compare(found, found) == "Nothing changed."


def test_other_peaks_are_no_change_of_a_program(analysis):
  found, _ = analysis
  now = copy.deepcopy(found)
  peaks = Peaks("measured at another time", {"f32": 3e12}, 7e10, 1e10)
  for program in now["stages"]["train"]["programs"].values():
    ops = [Op(**row) for row in program["ops"]]
    program["roofline"] = roofline(ops, program["border"], peaks)
  assert now["stages"] != found["stages"]
  before = json.loads(json.dumps(found))
  now = json.loads(json.dumps(now))
  assert markdown.compare(before, now) == "Nothing changed."


def test_a_cached_program_compiles_afresh(tmp_path):
  settings = {
    "jax_compilation_cache_dir": str(tmp_path / "cache"),
    "jax_persistent_cache_min_compile_time_secs": 0.0,
    "jax_persistent_cache_min_entry_size_bytes": -1,
  }
  before = {name: getattr(jax.config, name) for name in settings}
  layout = types.SimpleNamespace(compiled=lambda lowered: lowered.compile())
  experiment = types.SimpleNamespace(config=small(), layout=layout)

  def program():
    def a_step(x):
      return jnp.sin(x) @ x

    return jax.jit(a_step)

  def cache(values):
    for name, value in values.items():
      jax.config.update(name, value)
    compilation_cache.reset_cache()

  cache(settings)
  try:
    x = jnp.ones((8, 8))
    peaks = Peaks("toy", {"f32": 1.0}, 1.0)
    compiled._program(program(), (x,), peaks, experiment, "a step")
    assert not list((tmp_path / "cache").glob("*a_step*"))
    program()(x)
    assert list((tmp_path / "cache").glob("*a_step*"))
  finally:
    cache(before)


@pytest.mark.parametrize(
  "parallel",
  [
    {"runs": "vmap"},
    {"runs": "shard", "run": 2},
  ],
)
def test_runs_in_one_program_do_all_their_work(analysis, tmp_path, parallel):
  found = compiled.analyze(small(**parallel), tmp_path)
  each = products(analysis[0], "train")
  assert found["runs_in_program"] == 2
  devices = found["mesh"]["run"]
  assert products(found, "train") == 2 * each / devices
  rows = found["stages"]["train"]["parameters"]
  assert rows == analysis[0]["stages"]["train"]["parameters"]


def test_another_file_cannot_be_compared_with(tmp_path):
  path = tmp_path / "other.json"
  path.write_text("[1]")
  with pytest.raises(UserError, match="--compare=.*other.json"):
    modes.analyze(small(), tmp_path, str(path))
  assert not (tmp_path / "analysis.json").exists()


def test_a_profile_measures_and_traces(monkeypatch, tmp_path):
  turns = []
  monkeypatch.setattr(processes, "in_turn", turns.append)

  def load(config):
    blank = blank_shards(config)
    recipe = FEATURE_SETS[config.data.features].recipe
    blank.metadata["recipe"] = json.loads(json.dumps(recipe))
    return load_dataset(config, blank)

  monkeypatch.setattr(assembly, "load_dataset", load)
  found = modes.profile(small(), tmp_path)
  assert len(turns) == 1  # shards are made by one process after another
  stage = found["stages"]["train"]
  steps = stage["steps"]
  assert steps["count"] == 2
  assert 0 < steps["min"] <= steps["p50"] <= steps["p95"] <= steps["max"]
  # Positions and weights: the corpus itself is on the device.
  assert stage["input"]["bytes"] == 2 * 4 * BATCH
  assert 0 <= stage["input"]["wait_share"] < 1
  assert 0 < stage["traced"]["busy_share"] <= 1
  rows = stage["traced"]["instructions"]
  assert any(row["category"] == "matmul" and row["flops"] for row in rows)
  assert sum(row["share"] for row in rows) <= 1 + 1e-9
  assert 0 < stage["achieved"]["flops"] < 1e12
  assert list((tmp_path / stage["trace"]).rglob("*.trace.json.gz"))
  assert (tmp_path / "profile.md").read_text() in found["text"]
  assert (tmp_path / "profile.png").read_bytes()[1:4] == b"PNG"
  assert json.loads((tmp_path / "profile.json").read_text())["stages"]
  assert not (tmp_path / "checkpoints").exists()


def test_loops_that_do_the_same_share_a_row():
  def loop(source, trips, nesting=0, flops=10):
    return {
      **{"source": f"jit(step)/{source}", "name": "while.1", "trips": trips},
      **{"times": 1, "ops": 3, "flops": flops, "nesting": nesting},
    }

  text = markdown._loops(
    [
      *(loop(f"net/{layer}/draw/while", 5) for layer in ("a", "b", "c")),
      loop("net/d/draw/while", 6),
      *(loop("scan/while", 8), loop("scan/draw/while", 5, nesting=1)),
      *(loop("scan/while", 8), loop("scan/draw/while", 5, nesting=1)),
    ]
  )
  rows = [line.split(" | ")[:3] for line in text.splitlines()[2:]]
  assert rows == [
    ["| 3 loops …/draw/while", "5", "3"],
    ["| net/d/draw/while", "6", "1"],
    *[["| scan/while", "8", "1"], ["| › scan/draw/while", "5", "1"]] * 2,
  ]


def test_quantities_are_readable():
  assert markdown.quantity(0, "B") == "0 B"
  assert markdown.quantity(1536e6, "B") == "1.54 GB"
  assert markdown.quantity(2.5e-5, "s") == "25 µs"
  assert markdown.quantity(3e16, "FLOP") == "3e+04 TFLOP"
