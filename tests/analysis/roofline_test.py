"""Floors worked by hand, and the peaks they are held against."""

import jax
import jax.numpy as jnp
import pytest

from ser_jax.analysis import roofline as rooflines
from ser_jax.analysis.cost import Op
from ser_jax.analysis.roofline import DEVICES, Peaks, find_peaks, roofline
from ser_jax.errors import UserError

PEAKS = Peaks("toy", {"f32": 100.0, "bf16": 200.0}, 10.0, 5.0)


def op(category, *, flops=0, moved=0, times=1, dtype="f32", wire=0.0):
  return Op(
    "op", "op", category, "", times, {category: flops}, moved, dtype, 0, wire
  )


def test_the_slowest_of_three_binds():
  ops = [
    op("matmul", flops=300, moved=20, times=2),  # 3 s of products, 2 of memory
    op("matmul", flops=200, moved=5, dtype="bf16"),  # 1 s, .5 s
    op("elementwise", flops=9999, moved=40),  # 4 s of memory
    op("collective", moved=10, wire=10.0),  # 1 s, 2 s of links
  ]
  found = roofline(ops, border=30, peaks=PEAKS)
  assert found["seconds"] == {"products": 7.0, "memory": 3.0, "links": 2.0}
  assert (found["floor"], found["bound"]) == (7.0, "products")
  assert found["uncached"] == 2 * 3 + 1 + 4 + 2
  assert found["uncached_shares"]["memory"] == pytest.approx(4 / 13)


def test_links_of_unknown_speed_do_not_bind():
  peaks = Peaks("toy", {"f32": 1.0}, 1.0)
  found = roofline([op("collective", moved=1, wire=1e9)], 1, peaks)
  assert found["bound"] == "memory"


def test_peaks_by_name_and_by_figure():
  device = jax.devices()[0]
  for precision, share in (("float32", 6), ("tf32", 3), ("bfloat16", 1)):
    found = find_peaks("TPU v4", device, 1, precision)
    assert found == DEVICES["TPU v4"][precision]
    assert found.flops["f32"] == found.flops["bf16"] / share
  given = find_peaks("flops=67e12,bytes=5e12", device, 1, "tf32")
  assert (given.flops["f32"], given.bytes, given.link) == (67e12, 5e12, 0.0)


def test_a_cpu_s_products_of_bfloat16_are_rated_as_an_accelerator_s():
  device = jax.devices()[0]
  found = find_peaks("NVIDIA H200", device, 1, "bfloat16")
  assert found.flops["f32"] == found.flops["bf16"] == 989.4e12
  assert find_peaks("NVIDIA H200", device, 1, "tf32").flops["f32"] == 494.7e12


@pytest.mark.parametrize(
  ("precision", "products"),
  [
    ("float32", {("f32", "float32")}),
    ("tf32", {("f32", "tensorfloat32")}),
    ("bfloat16", {("f32", "bfloat16"), ("bf16", "bfloat16")}),
  ],
)
def test_products_are_measured_in_the_precision_asked_for(
  monkeypatch, precision, products
):
  seen = set()

  def fastest(function, x, times):
    if x.ndim == 2:
      name = {"float32": "f32", "bfloat16": "bf16"}[x.dtype.name]
      seen.add((name, jax.config.jax_default_matmul_precision))
    return 1.0

  monkeypatch.setattr(rooflines, "_fastest", fastest)
  found = rooflines.measure.__wrapped__(jax.devices()[0], precision)
  assert seen == products
  assert found.flops == {name: 2 * 2048**3 for name, _ in products}


def test_a_call_does_a_function_several_times():
  x = jnp.ones((8, 8))
  calls = []

  def square(x):
    calls.append(x.shape)
    return x @ x

  assert rooflines._fastest(square, x, times=3) > 0
  assert calls == [(8, 8)] * 3


@pytest.mark.parametrize(
  "text",
  [
    "TPU v99",
    "flops=1e12",
    "flops=1,bytes=2,lanes=3",
    "flops=1,bytes=0",
    "flops='fast',bytes=1",
  ],
)
def test_peaks_that_make_no_sense_are_refused(text):
  with pytest.raises(UserError, match="config.analysis.peaks"):
    find_peaks(text, jax.devices()[0], 1, "tf32")


def test_devices_of_one_cpu_share_its_peaks(monkeypatch):
  monkeypatch.setattr(rooflines, "measure", lambda *_: PEAKS)
  shared = find_peaks("", jax.devices()[0], 8, "tf32")
  assert shared.flops["f32"] == PEAKS.flops["f32"] / 8
  assert shared.bytes == PEAKS.bytes / 8
  assert "shared by 8" in shared.name
