"""Which runs there are, and which share a program."""

import types

import numpy as np
import pytest

from configs import common
from ser_jax.data.protocols import Fold
from ser_jax.errors import UserError
from ser_jax.train import groups

NOBODY = np.zeros(0, int)
FOLDS = [Fold(name, NOBODY, NOBODY, NOBODY) for name in ("one", "two", "three")]


def listed(seeds=(0, 1), rates=()):
  config = common.get_config()
  config.optimizer.learning_rates = rates
  return groups.listed(config, seeds, FOLDS)


def parts(runs, kind="vmap", stack=0):
  config = types.SimpleNamespace(runs=kind, stack=stack)
  found = groups.grouped(config, runs)
  assert [run for group in found for run in group] == runs
  return [[run.name for run in group] for group in found]


def test_seeds_follow_each_other_so_that_more_of_them_come_last():
  names = [run.name for run in listed()]
  assert names[:3] == ["one-seed0", "two-seed0", "three-seed0"]
  assert names == [run.name for run in listed((0, 1, 2))][:6]


def test_rates_lie_side_by_side():
  names = [run.name for run in listed((0,), (0.1, 0.2))]
  assert names[:2] == ["one-seed0-lr0.1", "one-seed0-lr0.2"]


def test_how_many_runs_a_program_has():
  runs = listed()
  assert [len(part) for part in parts(runs, "loop")] == [1] * 6
  assert [len(part) for part in parts(runs)] == [6]
  assert parts(runs, "shard", 3)[1] == ["one-seed1", "two-seed1", "three-seed1"]


@pytest.mark.parametrize("stack", [4, 7, -1])
def test_programs_have_one_size(stack):
  with pytest.raises(UserError, match="or to one of 1, 2, 3, 6"):
    parts(listed(), stack=stack)


def test_what_shares_no_program_is_not_stacked():
  with pytest.raises(UserError, match="stack=3 is for runs that share"):
    parts(listed(), "loop", 3)


@pytest.mark.parametrize(
  ("kind", "stack", "sizes"),
  [
    ("vmap", 0, [[6], [3, 3], [6]]),
    ("shard", 3, [[3] * 6]),
    ("loop", 0, [[1] * 18]),
    ("vmap", 2, [[2, 2, 2], [1] * 6, [2, 2, 2]]),
    ("vmap", 6, [[6], [3, 3], [6]]),
  ],
)
def test_seeds_share_a_program_with_those_they_came_with(kind, stack, sizes):
  config = common.get_config()
  config.parallel.runs, config.parallel.stack = kind, stack
  together = [(0, 1), (2,), (3,), (4, 5)]
  parts = groups.parted(config, together, FOLDS)
  assert [[len(group) for group in part] for part in parts] == sizes
  runs = [run for part in parts for group in part for run in group]
  assert [run.name for run in runs] == [run.name for run in listed(range(6))]


def test_no_two_groups_share_a_folder():
  pairs = ((0, 1), (0, 2), (0,), (0, 1, 2), (0, 2, 1), (0, 3, 1))
  names = [groups.name(listed(seeds)) for seeds in pairs]
  assert len(set(names)) == len(pairs)
  assert groups.name(listed()[:1]) == "one-seed0"
