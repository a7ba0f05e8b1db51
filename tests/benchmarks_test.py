"""What the benchmarks print, by hand-worked numbers."""

import argparse
import pathlib
import platform
import time

import jax
import numpy as np
import pytest

from benchmarks import growth, scaling, sides, step_time, table
from benchmarks.destination import destination
from ser_jax.analysis import compiled
from ser_jax.analysis.roofline import Peaks

PEAKS = Peaks("supposed", {"f32": 1.0}, 1.0, link=1e6)


def counted(batch, products, memory):
  return {
    **{"batch": batch, "products": products, "memory": memory},
    **{"instructions": 100, "collectives": 2, "payload": 1e6},
  }


def test_work_on_paper_is_linear_in_the_examples_of_a_device():
  found = {1: counted(256, 2.56, 1.28), 8: counted(32, 0.32, 0.16 + 0.14)}
  times = scaling.on_paper(found, 4, 64, PEAKS)
  assert times["products"] == pytest.approx(0.04)
  # Memory has a share that does not shrink: that of the parameters.
  assert times["memory"] == pytest.approx(0.3 - 28 * (1.28 - 0.3) / 224)
  assert times["starts"] == pytest.approx(100 * scaling.START)
  # A ring sends 2 (n - 1) / n of the gradients, in log2(n) hops each.
  assert times["links"] == pytest.approx(2 * 63 / 64 + 2 * 6 * scaling.HOP)


def test_what_is_counted_is_not_extrapolated():
  found = {1: counted(32, 1.0, 1.0), 8: counted(32, 2.0, 1.0)}
  assert scaling.on_paper(found, 32, 1, PEAKS)["links"] == 0
  assert scaling.on_paper(found, 32, 1, PEAKS)["products"] == 1.0
  assert scaling.on_paper(found, 32, 64, PEAKS)["products"] == 2.0


def test_a_step_is_counted_as_compiled_for_a_target(monkeypatch):
  asked = []

  def describe_devices(target):
    asked.append(target)
    return jax.devices()

  monkeypatch.setattr(compiled, "describe_devices", describe_devices)
  found = scaling.count("own", "NVIDIA H200", 2, 4)
  assert asked == ["NVIDIA H200:2"]
  assert found["batch"] == 4
  assert found["flops"] > 0
  assert found["instructions"] > 0
  assert found["collectives"] > 0
  assert found["wire"] == pytest.approx(found["payload"], rel=0.01)


def test_a_side_that_was_not_measured_is_blank():
  ours = {"median_ms": 12.345, "first_call_seconds": 3.21, "peak_mb": 99.6}
  entry = {
    "resident": ours,
    "torch eager": {"median_ms": 16650.4},
    "ratio": 1.62,
  }
  rows = table.rows({"systems": {"aae": {"train": entry, "predict": entry}}})
  assert rows[0] == [
    *("`aae` train", "12.35", "", "16650", "", ""),
    *("1.62", "", "3.2", "100"),
  ]
  assert rows[1][0] == "`aae` predict"


def test_a_slope_is_an_exponent():
  points = [{"size": n, "step_ms": 3 * n**2} for n in (2, 10, 40)]
  assert growth.slope(points, "step_ms") == 2
  assert growth.frames_of("dat", 2) == "features=562"


def _counted(start: int) -> dict:
  """Stands for a side's steps, in the process that makes them."""
  return {
    "train": lambda: time.sleep(0.02),
    "predict": lambda: None,
    "first_call_seconds": {"train": start, "predict": 0},
  }


def test_a_side_is_timed_in_a_process_of_its_own():
  side = sides.Side(_counted, 7, kept=True)
  assert side.sizes == {"first_call_seconds": {"train": 7, "predict": 0}}
  assert 20 <= side.time("train") < 1e4
  found = step_time.measure({"resident": side}, "predict", repetitions=3)
  assert found["resident"]["median_ms"] < 20
  assert "ratio" not in found
  assert side.end() > 10


def test_a_destination_is_made_or_refused(tmp_path):
  path = tmp_path / "new" / "results.json"
  assert destination(str(path)) == path
  assert list(tmp_path.rglob("*")) == [path.parent]
  path.write_text("")
  with pytest.raises(argparse.ArgumentTypeError, match="cannot be written"):
    destination(str(path / "results.json"))


@pytest.mark.parametrize("lines", [None, "processor : 0\nBogoMIPS : 50\n"])
def test_a_machine_that_names_no_processor(monkeypatch, lines):
  monkeypatch.setattr(platform, "processor", lambda: "")
  monkeypatch.setattr(platform, "machine", lambda: "aarch64")
  monkeypatch.setattr(pathlib.Path, "exists", lambda _: lines is not None)
  monkeypatch.setattr(pathlib.Path, "read_text", lambda *_, **__: lines)
  monkeypatch.delattr("os.sched_getaffinity", raising=False)
  found = step_time.machine()
  assert found["cpu"] == "aarch64"
  assert found["cores"] >= 1


@pytest.mark.parametrize(
  ("precision", "fast", "dtype"),
  [
    ("float32", False, "torch.float32"),
    ("tf32", True, "torch.float32"),
    ("bfloat16", True, "torch.bfloat16"),
  ],
)
def test_pytorch_computes_in_the_precision_asked_for(
  monkeypatch, precision, fast, dtype
):
  torch = pytest.importorskip("torch")
  seen = set()

  class Layer(torch.nn.Module):
    def __init__(self, shapes):
      super().__init__()
      self.layer = torch.nn.Linear(shapes["x"][0], 2)

    def forward(self, inputs):
      found = self.layer(inputs["x"])
      seen.add(str(found.dtype))
      return found

    def loss(self, inputs, targets):
      return self(inputs).sum()

  torch.backends.cuda.matmul.allow_tf32 = not fast
  torch.backends.cudnn.allow_tf32 = not fast
  monkeypatch.setattr(sides, "_peers", lambda: {"toy": (Layer, sides.trainer)})
  batch = {"x": np.ones((4, 3), np.float32)}
  made = sides.theirs("toy", False, precision, batch, {})
  assert set(made["first_call_seconds"]) == set(sides.STEPS)
  assert seen == {dtype}
  assert torch.backends.cuda.matmul.allow_tf32 == fast
  assert torch.backends.cudnn.allow_tf32 == fast
