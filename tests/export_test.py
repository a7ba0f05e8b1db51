"""An export holds the step as every kind of devices wants it."""

import dataclasses
import io
import json
import zipfile

import jax
import numpy as np
import pytest

from configs import dat
from ser_jax import experiment, export
from ser_jax.demo import predictor
from ser_jax.errors import UserError
from ser_jax.trained import open_runs
from tests import dat_test


@pytest.fixture(scope="module")
def opened(synthetic_shards, tmp_path_factory):
  """A finished run of a system that devices compute differently."""
  workdir = tmp_path_factory.mktemp("run")
  config = dat_test.small(synthetic_shards, "depth2,plain")
  config.model.on_cpu = dat.get_config("depth2,plain").model.on_cpu
  experiment.train(config, workdir, should_stop=lambda: False)
  return open_runs(workdir, devices=1)


@pytest.fixture(scope="module")
def exported(opened, tmp_path_factory):
  path = tmp_path_factory.mktemp("export") / "model.zip"
  export.write(
    path, opened.recipe, opened.names, 4, *predictor.pure_step(opened)
  )
  return path


def noise(recipe):
  """Features of three utterances."""
  ((name, spec),) = recipe.inputs.items()
  draw = np.random.default_rng(0)
  return [
    {name: draw.normal(size=(frames, spec["dim"])).astype("float32")}
    for frames in (40, 61, 30)
  ]


def test_each_kind_of_devices_has_its_forms(exported):
  modules = {}
  with zipfile.ZipFile(exported) as file:
    for kind in ("cpu", "accelerator"):
      stored = file.read(f"predict.{kind}.jax")
      modules[kind] = jax.export.deserialize(bytearray(stored))
  assert modules["cpu"].platforms == ("cpu",)
  assert modules["accelerator"].platforms == ("cuda", "tpu")
  counts = {
    kind: [
      str(module.mlir_module()).count(f"stablehlo.{operation}")
      for operation in ("convolution", "while")
    ]
    for kind, module in modules.items()
  }
  # Two convolutions for each platform, or a loop over the examples for either;
  # and the GRU's loop.
  assert counts == {"cpu": [0, 3], "accelerator": [2 * 2, 1]}


def test_weights_are_stored_once(opened, exported):
  with zipfile.ZipFile(exported) as file:
    sizes = {info.filename: info.file_size for info in file.infolist()}
    with np.load(io.BytesIO(file.read("arrays.npz"))) as arrays:
      stored = sum(array.nbytes for array in arrays.values())
  leaves = jax.tree.leaves((opened.weights, opened.statistics))
  assert stored == sum(leaf.nbytes for leaf in leaves)
  assert len(sizes) == 4


def test_forms_predict_alike(opened, exported):
  examples = noise(opened.recipe)
  wanted = predictor.make_predictor(opened).scores(examples)
  found = export.read(exported).scores(examples)
  np.testing.assert_allclose(found, wanted, atol=1e-6)
  steps, (arrays,) = predictor.pure_step(opened)
  packed = export.inference.pack(opened.recipe, examples, 4)
  other = jax.jit(steps["accelerator"])(arrays, *packed)
  np.testing.assert_allclose(other[:3], wanted[0], atol=1e-5)


def test_a_file_of_a_gpu_is_as_exact_on_a_tpu(opened):
  """A GPU's tasks ask for "default", which TPUs take for a single pass."""
  tasks = {
    kind: dataclasses.replace(task, products="default")
    for kind, task in opened.tasks.items()
  }
  steps, _ = predictor.pure_step(dataclasses.replace(opened, tasks=tasks))
  assert {step.args[0].products for step in steps.values()} == {"tensorfloat32"}


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_reading_takes_the_module_of_the_platform(
  exported, opened, tmp_path, monkeypatch, platform
):
  path = tmp_path / "model.zip"
  with zipfile.ZipFile(exported) as old, zipfile.ZipFile(path, "w") as new:
    for name in ("recipe.json", "arrays.npz", "predict.accelerator.jax"):
      new.writestr(name, old.read(name))
  monkeypatch.setattr(jax.export, "default_export_platform", lambda: platform)
  assert export.read(path).runs == opened.names


def test_what_it_is_not_for_is_refused(exported, tmp_path, monkeypatch):
  path = tmp_path / "model.zip"
  with zipfile.ZipFile(exported) as old, zipfile.ZipFile(path, "w") as new:
    described = json.loads(old.read("recipe.json")) | {"format": 1}
    new.writestr("recipe.json", json.dumps(described))
  with pytest.raises(UserError, match=r"\(format 1, not 2\): write it again"):
    export.read(path)
  monkeypatch.setattr(jax.export, "default_export_platform", lambda: "rocm")
  with pytest.raises(UserError, match="is for cpu, cuda, tpu, not for rocm"):
    export.read(exported)
