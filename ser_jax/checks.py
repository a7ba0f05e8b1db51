"""What a config's values may be, whoever set them; before anything is computed.

Names of models, tasks and optimizers are looked up where they are made, see
`experiment.check`.
"""

import fnmatch
import math
import numbers
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from ser_jax.data.contours import CONTOURS
from ser_jax.errors import UserError

MOST = 10**9
# Seeds are of 32 bits.
MOST_SEED = 2**32 - 1
KINDS = {numbers.Integral: "whole number", numbers.Real: "number"}


class Range(NamedTuple):
  """Numbers that a field may have, each one where it has several.

  Attributes:
    told: after `must`.
    fits: whether a number does; not asked of NaN and infinity.
    kind: one of `KINDS`.
  """

  told: str
  fits: Callable[[Any], bool]
  kind: type = numbers.Real


def _whole(least: int, most: int = MOST) -> Range:
  told = f"be at least {least} and at most {most}"
  return Range(told, lambda x: least <= x <= most, numbers.Integral)


_COUNT, _WHOLE = _whole(1), _whole(0)
_POSITIVE = Range("be above 0", lambda x: x > 0)
_NOT_NEGATIVE = Range("be at least 0", lambda x: x >= 0)
_SHARE = Range("lie in [0, 1)", lambda x: 0 <= x < 1)
RANGES = {
  "epochs": _COUNT,
  "batch_size": _COUNT,
  "accumulate": _COUNT,
  "steps_per_execution": _COUNT,
  "checkpoint.every_epochs": _COUNT,
  "selection.patience": _WHOLE,
  "parallel.run": _COUNT,
  "parallel.data": _WHOLE,
  "seeds": _whole(0, MOST_SEED),
  "protocol.seed": _whole(0, MOST_SEED),
  "data.max_frames": _WHOLE,
  "data.speeds": _POSITIVE,
  "data.inputs.*.buckets": _COUNT,
  "data.inputs.*.clip": _NOT_NEGATIVE,
  "optimizer.learning_rate": _POSITIVE,
  "optimizer.learning_rates": _POSITIVE,
  "optimizer.clip_norm": _NOT_NEGATIVE,
  "task.label_smoothing": _SHARE,
  "task.feature_epochs": _WHOLE,
  "model.*dropout": _SHARE,
  "model.noise": _NOT_NEGATIVE,
  "model.frames": _WHOLE,
  **dict.fromkeys(
    (
      *("model.hidden", "model.layers", "model.channels", "model.kernel"),
      *("model.stride", "model.depth", "model.head", "model.embedding"),
      *("model.latent", "model.filters", "model.taps", "model.pool_time"),
      "model.pool_channels",
    ),
    _COUNT,
  ),
  "analysis.seconds": _POSITIVE,
}


def check_values(config: ConfigDict) -> None:
  """Refuses values that would fail late, or train to no purpose.

  Args:
    config: the whole config.

  Raises:
    UserError: a number of another kind or out of range; seeds, classes, a
      metric or a task that cannot be.
  """
  for field, value in _fields(config):
    _check_numbers(field, value)
  _check_seeds(config.seeds)
  _check_classes(config.data)
  metric, in_time = config.selection.metric, config.data.target == CONTOURS
  if metric not in (("ccc",) if in_time else ("uar", "wa")):
    raise UserError(
      f"config.selection.metric={metric!r} is "
      + ("not ccc." if in_time else "neither uar nor wa.")
    )
  if in_time != (config.task.name == "regress"):
    raise UserError(
      f"config.task.name={config.task.name!r} does not go with config.data."
      f"target={config.data.target!r}: regress predicts contours, other tasks "
      "predict classes."
    )


def check_cut(data: ConfigDict, rates: Mapping[str, float]) -> None:
  """Refuses a cut that would fall on different moments of an utterance.

  Args:
    data: `config.data`.
    rates: frames a second, by the inputs that have frames.

  Raises:
    UserError: inputs of several rates, or that are stretched to one length,
      would be cut at the same number of frames.
  """
  timed = [name for name in data.inputs if name in rates]
  stretched = [name for name in timed if data.inputs[name].resample]
  if data.max_frames and (stretched or len({rates[x] for x in timed}) > 1):
    raise UserError(
      f"config.data.max_frames={data.max_frames} does not go with config.data."
      f"inputs {', '.join(stretched or timed)}: as many frames of them are not "
      + ("as long in every utterance (resample)." if stretched else "as long.")
      + " Set it to 0."
    )


def _fields(section: ConfigDict, prefix: str = "") -> Iterator[tuple[str, Any]]:
  """Fields of all sections, with their values."""
  for name, value in section.items():
    if isinstance(value, ConfigDict):
      yield from _fields(value, f"{prefix}{name}.")
    else:
      yield prefix + name, value


def _check_numbers(field: str, value) -> None:
  """Refuses a field with a number that `RANGES` has no room for."""
  each = value if isinstance(value, tuple | list) else (value,)
  fitting = (
    RANGES[pattern] for pattern in RANGES if fnmatch.fnmatchcase(field, pattern)
  )
  for wanted in fitting:
    for x in each:
      if isinstance(x, bool) or not isinstance(x, wanted.kind):
        raise UserError(
          f"config.{field} has {x!r}, which is no {KINDS[wanted.kind]}: it "
          f"must {wanted.told}."
        )
      if not (math.isfinite(x) and wanted.fits(x)):
        raise UserError(f"config.{field}={value!r} must {wanted.told}.")
  if any(isinstance(x, float) and not math.isfinite(x) for x in each):
    raise UserError(f"config.{field}={value!r} must be finite.")


def _check_seeds(seeds: Sequence[int]) -> None:
  """Refuses no runs at all, and runs that would count twice."""
  if not seeds:
    raise UserError("config.seeds is empty: give at least one, such as (0,).")
  if len(set(seeds)) < len(seeds):
    raise UserError(
      f"config.seeds={seeds} has a seed twice, whose runs would count twice: "
      "give it once."
    )


def _check_classes(data: ConfigDict) -> None:
  """Refuses classes that are no words, or that leave nothing to tell apart."""
  classes = tuple(data.classes)
  fewest = 1 if data.target == CONTOURS else 2
  words = {name for name in classes if isinstance(name, str)}
  if not fewest <= len(words) == len(classes):
    raise UserError(
      f"config.data.classes={classes} must be {fewest} or more different words."
    )
