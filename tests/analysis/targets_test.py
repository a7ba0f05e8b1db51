"""Compiling for devices that are not here."""

import importlib.util
import json
import os
import subprocess
import sys

import jax
import pytest

from configs import ds_lstm
from ser_jax.analysis import compiled, markdown, targets
from ser_jax.analysis.roofline import DEVICES
from ser_jax.errors import UserError


def small(**parallel):
  """One LSTM layer over 20 frames, of a corpus that there is not."""
  config = ds_lstm.get_config("base1,emodb")
  config.data.shards = "nowhere"
  config.data.classes = ("angry", "sad")
  config.model.hidden = 4
  config.batch_size = 8
  config.protocol.folds = (0, 1)
  config.analysis.frames = "mfcc=20"
  config.analysis.peaks = "flops=1e12,bytes=1e11,link=1e10"
  config.parallel.update({"data": 1} | parallel)
  return config


@pytest.mark.parametrize(
  "parallel", [{}, {"data": 2}, {"runs": "vmap", "run": 2}]
)
def test_devices_that_are_only_described_get_the_same_programs(
  monkeypatch, tmp_path, parallel
):
  config = small(**parallel)
  here = compiled.analyze(config, tmp_path)
  # Devices of this machine, on which nothing may be put.
  monkeypatch.setattr(compiled, "describe_devices", lambda _: jax.devices())
  monkeypatch.setattr(jax, "device_put", None)
  monkeypatch.setattr(jax, "make_array_from_process_local_data", None)
  config.analysis.target = "those"
  there = compiled.analyze(config, tmp_path)
  assert there["mesh"] == here["mesh"]
  for step in ("train", "predict"):
    one, other = (
      found["stages"]["train"]["programs"][step] for found in (here, there)
    )
    for figure in ("flops", "bytes", "memory", "donated", "collectives"):
      assert one[figure] == other[figure], figure


@pytest.mark.parametrize(
  "target", ["H200", "v5e4", "NVIDIA H200x8", "nvidia h200", "v3:2x2"]
)
def test_a_target_that_does_not_exist_is_refused(target):
  with pytest.raises(UserError, match="is no target: give a slice of TPUs"):
    targets.describe_devices(target)


@pytest.mark.parametrize("size", ["0", "00", "two", "2x4", "-1", "٣"])
def test_a_number_of_gpus_is_a_number(size):
  with pytest.raises(UserError, match="is no number of GPUs"):
    targets.describe_devices(f"NVIDIA H200:{size}")


def test_a_target_is_for_one_process(monkeypatch, tmp_path):
  config = small()
  config.analysis.target = "NVIDIA H200"
  monkeypatch.setattr(jax.distributed, "is_initialized", lambda: True)
  with pytest.raises(UserError, match="leave --distributed out"):
    compiled.analyze(config, tmp_path)


def test_pmap_is_for_devices_at_hand(tmp_path):
  config = small(backend="pmap")
  config.analysis.target = "NVIDIA H200"
  with pytest.raises(UserError, match="pmap.* compiles for the devices at"):
    compiled.analyze(config, tmp_path)


def test_every_gpu_has_its_peaks():
  assert set(targets.GPUS) <= set(DEVICES)


@pytest.mark.parametrize(
  "module, target, remedy",
  [
    ("libtpu", "v5e:2x2", "pip install 'ser_jax.tpu.'"),
    ("jax_plugins.xla_cuda13", "NVIDIA H200", "pip install 'ser_jax.cuda.'"),
  ],
)
def test_a_compiler_that_is_missing_is_named(module, target, remedy):
  try:
    found = importlib.util.find_spec(module)
  except ModuleNotFoundError:
    found = None
  if found:
    pytest.skip(f"{module} is installed")
  with pytest.raises(UserError, match=remedy):
    targets.describe_devices(target)


def compile_for(target, folder, *flags):
  """An analysis in a process of its own, which may have a TPU's compiler."""
  extra = os.environ.get("SER_JAX_LIBTPU", "")
  path = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), extra]))
  return subprocess.run(
    [
      *(sys.executable, "-m", "ser_jax.main", "--mode=analyze"),
      "--config=configs/ds_lstm.py:base1,emodb",
      "--config.data.shards=nowhere",
      "--config.model.hidden=4",
      "--config.batch_size=8",
      "--config.analysis.frames=mfcc=20",
      f"--config.analysis.target={target}",
      f"--workdir={folder}",
      *flags,
    ],
    env=os.environ | {"PYTHONPATH": path},
    capture_output=True,
    text=True,
  )


def needs_libtpu():
  extra = os.environ.get("SER_JAX_LIBTPU")
  if not (extra or importlib.util.find_spec("libtpu")):
    pytest.skip("no libtpu (ser_jax[tpu], or SER_JAX_LIBTPU=its folder)")


def test_steps_compile_for_a_slice_of_tpus(tmp_path):
  needs_libtpu()
  done = compile_for("v5e:2x2", tmp_path)
  assert done.returncode == 0, done.stderr
  found = json.loads((tmp_path / "analysis.json").read_text())
  assert found["devices"] == "TPU v5 lite"
  assert found["mesh"] == {"run": 1, "data": 4}
  for step, program in found["stages"]["train"]["programs"].items():
    assert program["devices"] == 4
    assert not program["uncounted_calls"]
    kinds = program["categories"]
    assert kinds["matmul"]["flops"]
    # Products are no convolutions, though TPUs write them so.
    assert "convolution" not in kinds
    assert bool(program["collectives"]) == (step == "train")
    # Two layers of 20 steps, four an iteration, there and back.
    trips = [loop["trips"] for loop in program["loops"] if loop["flops"] > 100]
    assert trips == [5] * (4 if step == "train" else 2)
    peaks = program["roofline"]["peaks"]
    assert peaks["name"] == "TPU v5 lite"
  assert "of TPU v5 lite (not here) by jit" in markdown.render_analysis(found)


@pytest.mark.parametrize("size", ["", "4", "2,2", "2x2", "0x1x1", "axbxc"])
def test_the_shape_of_a_slice_is_one(size):
  with pytest.raises(UserError, match="slice that libtpu .* such as v5p:2x2x1"):
    targets.describe_devices(f"v5p:{size}")


def test_a_slice_that_does_not_exist_is_refused(tmp_path):
  needs_libtpu()
  done = compile_for("v5e:3x5", tmp_path)
  assert done.returncode == 2
  assert "is no slice that libtpu knows" in done.stderr
  assert "such as v5e:2x2" in done.stderr


def test_steps_compile_for_a_gpu(tmp_path):
  if not (importlib.util.find_spec("jax_cuda13_plugin")
          or importlib.util.find_spec("jax_cuda12_plugin")):  # fmt: skip
    pytest.skip("no compiler for GPUs (pip install 'ser_jax[cuda]')")
  done = compile_for("NVIDIA A100-SXM4-40GB:2", tmp_path)
  assert done.returncode == 0, done.stderr
  found = json.loads((tmp_path / "analysis.json").read_text())
  assert found["devices"] == "NVIDIA A100-SXM4-40GB"
  program = found["stages"]["train"]["programs"]["train"]
  assert program["devices"] == 2
  assert program["collectives"]
