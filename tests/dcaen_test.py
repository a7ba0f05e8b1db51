"""Every row of DCaEN takes real steps from real audio; stages and resuming."""

import importlib.util
import json

import jax
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache

from configs import dcaen
from ser_jax import assembly, experiment, runs
from ser_jax.data.shards import open_shards
from ser_jax.errors import UserError
from ser_jax.train import optimizers
from ser_jax.train.checkpoint import Checkpoints
from ser_jax.train.loop import Stopped

WORDS = (*dcaen.PAPER, "dcaen,thr_m0.7,train_norm")


@pytest.fixture(scope="module", autouse=True)
def compiled_once(tmp_path_factory):
  """Rows share most of their programs."""
  options = {
    "jax_compilation_cache_dir": str(tmp_path_factory.mktemp("compiled")),
    "jax_persistent_cache_min_compile_time_secs": 0,
    "jax_persistent_cache_min_entry_size_bytes": -1,
  }
  before = {name: getattr(jax.config, name) for name in options}
  for name, value in options.items():
    jax.config.update(name, value)
  compilation_cache.reset_cache()
  yield
  for name, value in before.items():
    jax.config.update(name, value)
  compilation_cache.reset_cache()


def small(synthetic_shards, words, **changes):
  """A config that trains in seconds."""
  # Not imported: after TensorFlow, `features.opensmile` must do it first.
  if importlib.util.find_spec("opensmile") is None:
    pytest.skip("opensmile is not installed")
  config = dcaen.get_config(words)
  config.data.shards = str(synthetic_shards(config.data.features))
  config.protocol.folds = (0,)
  config.model.update({"embedding": 4, "hidden": 4, "filters": (10, 10)})
  if words != "r_c":  # compiles sooner
    config.model.on_cpu.forms = ("direct", "direct")
  config.batch_size = 16
  config.epochs = 1
  config.task.feature_epochs = min(config.task.feature_epochs, 2)
  config.parallel.data = 1
  with config.unlocked():
    config.update(changes)
  return config


def train(config, workdir, should_stop=lambda: False):
  return experiment.train(config, workdir, should_stop=should_stop)


def lines(workdir):
  return list(
    map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
  )


@pytest.mark.parametrize("words", WORDS)
def test_every_row_takes_real_steps(synthetic_shards, tmp_path, words):
  config = small(synthetic_shards, words)
  config.report.embeddings = "thr" in words
  report = train(config, tmp_path)
  figures = {"figures/tsne_both.png", "figures/attention.png"}
  assert (figures <= set(report["figures"])) == config.report.embeddings
  speaker = words != "raw" and "train_norm" not in words
  assert report["transductive"] == speaker
  text = (tmp_path / "report.md").read_text()
  assert ("TRANSDUCTIVE" in text) == speaker
  assert bool(config.paper) == ("train_norm" not in words)
  assert str(config.paper.get("uar", "")) in text
  found = lines(tmp_path)
  staged = config.task.feature_epochs > 0
  assert [x["stage"] for x in found] == (
    ["features", "features", "joint"] if staged else ["train"]
  )
  compares = words.split(",")[0] not in ("raw", "ftr_eg", "ftr_em")
  assert ("cosine" in found[-1]["train"]) == compares


def test_shards_hold_samples_of_16_bits(synthetic_shards):
  shards = open_shards(small(synthetic_shards, "dcaen").data.shards)
  record = shards.read(0)
  frames = shards.table.frames["waveform"][0]
  assert record["waveform"].dtype == np.int16
  assert record["waveform"].shape == (frames, 640) and record["waveform"].any()
  assert record["functionals"].dtype == np.float32
  assert record["functionals"].shape == (88,)


class Killed(Exception):
  """As SIGKILL: nothing is saved any more."""


def end_after(count, *, kill):
  """Ends a run at a step, counted over all stages."""
  asked = []

  def should_stop():
    asked.append(None)
    if kill and len(asked) == count:
      raise Killed
    return len(asked) == count

  return should_stop


def last_params(config, workdir, stage):
  """Parameters of the best epoch of a stage, on the host."""
  opened = assembly.make_experiment(config, workdir)
  group = opened.groups[0]
  stages = {stage.name: stage for stage in opened.stages}
  state = runs.initial_state(opened, stages[stage], group)
  folder = workdir / "checkpoints" / group[0].name / stage
  with Checkpoints(folder) as checkpoints:
    return checkpoints.restore({"best": state.weights})["best"].params


@pytest.fixture(scope="module")
def whole(synthetic_shards, tmp_path_factory):
  """A run of two stages that nothing interrupted."""
  folder = tmp_path_factory.mktemp("whole")
  train(small(synthetic_shards, "dcaen", epochs=2), folder)
  return folder


@pytest.mark.parametrize("kill", [False, True])
def test_stage_2_resumes_with_stage_1_s_result(
  synthetic_shards, whole, tmp_path, kill
):
  """Ended in its second stage, a run goes on there, bit by bit the same."""
  config = small(synthetic_shards, "dcaen", epochs=2)
  per_epoch = lines(whole)[0]["step"]
  with pytest.raises(Killed if kill else Stopped):
    train(config, tmp_path, end_after(3 * per_epoch + 1, kill=kill))
  before = lines(tmp_path)
  assert [x["stage"] for x in before] == ["features", "features", "joint"]
  kept = last_params(config, tmp_path, "features")
  asked = []
  train(config, tmp_path, lambda: asked.append(None))
  # What was left of the second stage; of a killed one nothing was saved yet.
  assert len(asked) == (2 * per_epoch if kill else per_epoch - 1)
  after = lines(tmp_path)
  for one, other in zip(lines(whole), after, strict=True):
    assert one | {"seconds": 0} == other | {"seconds": 0}
  with (
    np.load(whole / "predictions.npz") as one,
    np.load(tmp_path / "predictions.npz") as other,
  ):
    np.testing.assert_array_equal(one["scores"], other["scores"])
  joint = last_params(config, tmp_path, "joint")
  for name, values in joint["features"].items():
    np.testing.assert_array_equal(values, kept["features"][name])
  assert "features_head" not in joint


def test_an_average_begins_with_what_the_stage_before_left(
  synthetic_shards, tmp_path
):
  config = small(synthetic_shards, "e_uf")
  config.optimizer.name = "schedule_free_adamw"
  opened = assembly.make_experiment(config, tmp_path)
  group, stage = opened.groups[0], opened.stages[-1]
  drawn = runs.initial_state(opened, stage, group).weights
  left = jax.tree.map(np.ones_like, drawn.params["features"])
  taken = drawn.replace(params={"features": left}, batch_stats={})
  start = runs.initial_state(opened, stage, group, taken).weights.params
  for leaf in jax.tree.leaves(start.pop("features")):
    np.testing.assert_allclose(leaf, 1.0, rtol=1e-6)
  for name, tree in start.items():
    jax.tree.map(np.testing.assert_array_equal, tree, drawn.params[name])


def test_stages_draw_keys_of_their_own(synthetic_shards, tmp_path):
  """The first by the run's own seed, as a single stage does."""
  config = small(synthetic_shards, "e_uf", seeds=(3, 4))
  opened = assembly.make_experiment(config, tmp_path)
  (group, _), stages = opened.groups, opened.stages
  seeds = [
    int(runs.initial_state(opened, stage, group).seed[0]) for stage in stages
  ]
  assert seeds[0] == 3
  assert seeds[1] not in (3, 4)


@pytest.mark.parametrize("stacked", ["loop", "vmap"])
def test_a_run_that_the_first_stage_lost_is_left_out(
  synthetic_shards, tmp_path, monkeypatch, stacked
):
  """Though the second would train, on weights as they were drawn."""
  at_rates = optimizers.at_rates

  def blown_up(opt_state, rates, config):
    if "features" in opt_state:
      rates = np.where(rates == 1e-2, 1e34, rates)
    return at_rates(opt_state, rates, config)

  monkeypatch.setattr(optimizers, "at_rates", blown_up)
  config = small(synthetic_shards, "dcaen,train_norm")
  config.parallel.runs = stacked
  config.optimizer.learning_rates = (1e-3, 1e-2)
  report = train(config, tmp_path)
  (lost,) = report["diverged"]
  assert lost.endswith("-lr0.01") and lost in report["text"]
  assert {x["rate"] for x in lines(tmp_path)} == {1e-3}
  assert not (tmp_path / "runs" / lost / "predictions.npz").exists()
  assert experiment.evaluate(config, tmp_path)["diverged"] == [lost]


def test_another_normalisation_is_another_experiment(
  synthetic_shards, tmp_path
):
  config = small(synthetic_shards, "ftr_eg")
  train(config, tmp_path)
  other = small(synthetic_shards, "ftr_eg")
  other.data.inputs.functionals.normalize = "train"
  with pytest.raises(UserError, match="normalize: speaker there, train now"):
    train(other, tmp_path)


def test_predictions_have_attention_and_embeddings(synthetic_shards, tmp_path):
  config = small(synthetic_shards, "dcaen")
  opened = assembly.make_experiment(config, tmp_path)
  engine, group = runs.make_engines(opened)[-1], opened.groups[0]
  state = runs.initial_state(opened, opened.stages[-1], group)
  stats = runs.group_statistics(opened, group)
  row = group[0].test[None], np.ones((1, 8), np.float32)
  ((frames, item),) = engine.source.items([row])
  found = engine.predict(
    opened.layout.place_runs(state.weights),
    opened.layout.place_item(item),
    stats,
    engine.constants,
    frames,
  )
  lengths = opened.dataset.examples.lengths("waveform")[row[0][0]]
  for name in ("attention_0", "attention_1"):
    weights = np.asarray(found[name][0])
    np.testing.assert_allclose(weights.sum(axis=1), 1.0, rtol=1e-5)
    assert ((weights > 0).sum(axis=1) == lengths).all()
  assert found["embedding_raw"].shape == (1, 8, 4)
  assert found["embedding_features"].shape == (1, 8, 4)


@pytest.mark.parametrize(
  ("words", "message"),
  [
    ("raw,thr_m0.5", "for the row dcaen"),
    ("raw,train_norm", "does not read"),
    ("dcaen,thr_m0.9", "did you mean thr_m0"),
  ],
)
def test_words_that_make_no_sense_are_refused(words, message):
  with pytest.raises(ValueError, match=message):
    dcaen.get_config(words)


@pytest.mark.parametrize("words", WORDS)
def test_full_size_configs_are_accepted(words):
  experiment.check(dcaen.get_config(words))
