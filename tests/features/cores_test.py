"""Cores are counted that may be used, not those of the machine."""

import os

from ser_jax.features import cores


def test_a_process_bound_to_one_core_has_one(monkeypatch):
  monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3}, raising=False)
  monkeypatch.setattr(os, "cpu_count", lambda: 64)
  assert cores.available() == 1


def test_without_affinity_all_count(monkeypatch):
  monkeypatch.delattr(os, "sched_getaffinity", raising=False)
  monkeypatch.setattr(os, "cpu_count", lambda: 64)
  assert cores.available() == 64
