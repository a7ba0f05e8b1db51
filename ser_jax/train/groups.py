"""The runs of an experiment, folds x seeds, and which share a program."""

import hashlib
import itertools
from collections.abc import Sequence

from ser_jax.data.protocols import Fold
from ser_jax.errors import UserError
from ser_jax.train.loop import Run

Group = Sequence[Run]


def parted(
  config, seeds: Sequence[Sequence[int]], folds: Sequence[Fold]
) -> list[tuple[Group, ...]]:
  """Groups of every run, parted where their size changes.

  Args:
    config: the whole config, but for its seeds.
    seeds: that came together: those that are added later share no program with
      those that were there, which need not be trained again, and have the
      largest programs that `stack` has room for and that their number allows.
    folds: of the protocol.

  Returns:
    The parts, in the order of training.

  Raises:
    UserError: see `grouped`.
  """
  first, *later = (listed(config, some, folds) for some in seeds)
  found = [grouped(config.parallel, first)]
  found += [_fitted(config.parallel, runs) for runs in later]
  return [
    tuple(itertools.chain(*same))
    for _, same in itertools.groupby(found, lambda groups: len(groups[0]))
  ]


def listed(config, seeds: Sequence[int], folds: Sequence[Fold]) -> list[Run]:
  """Runs of a config in the order of training, seed by seed."""
  rates = config.optimizer.learning_rates or (None,)
  return [
    Run(fold.name, int(seed), fold.train, fold.validation, fold.test, rate)
    for seed, fold, rate in itertools.product(seeds, folds, rates)
  ]


def grouped(config, runs: Sequence[Run]) -> tuple[Group, ...]:
  """Parts runs into those that a program trains together, of one size.

  Args:
    config: `runs`: of `loop` each is alone; else `stack`, 0 for all of them.
    runs: of an experiment.

  Returns:
    The groups, in order.

  Raises:
    UserError: `stack` does not divide the runs, or none share a program.
  """
  count = len(runs)
  if config.stack and config.runs == "loop":
    raise UserError(
      f"config.parallel.stack={config.stack} is for runs that share a program: "
      "set config.parallel.runs to vmap or shard, or stack to 0."
    )
  size = 1 if config.runs == "loop" else config.stack or count
  if size not in (sizes := [n for n in range(1, count + 1) if count % n == 0]):
    raise UserError(
      f"config.parallel.stack={size} does not divide the {count} runs (folds x "
      "seeds): set it to 0, for all, or to one of "
      f"{', '.join(map(str, sizes))}."
    )
  return _split(runs, size)


def _fitted(config, runs: Sequence[Run]) -> tuple[Group, ...]:
  """The same where `stack`, which is a workdir's, need not divide the runs."""
  if config.runs == "loop" or not config.stack:
    return grouped(config, runs)
  sizes = range(1, config.stack + 1)
  return _split(runs, max(n for n in sizes if len(runs) % n == 0))


def _split(runs: Sequence[Run], size: int) -> tuple[Group, ...]:
  firsts = range(0, len(runs), size)
  return tuple(tuple(runs[first : first + size]) for first in firsts)


def name(group: Group) -> str:
  """What tells a group from every other: a folder's name."""
  if len(group) == 1:
    return group[0].name
  digest = hashlib.sha256(",".join(run.name for run in group).encode())
  return f"{group[0].name}-to-{group[-1].name}-{digest.hexdigest()[:8]}"
