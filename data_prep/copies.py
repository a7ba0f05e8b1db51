"""Copies of utterances at other speeds, for training parts alone.

Played faster or slower, a recording changes its pitch and its formants with its
tempo: it sounds like another speaker (Ko et al. 2015, Audio augmentation for
speech recognition). Copies are utterances of their own, of speakers of their
own; `ser_jax/data/copies.py` lets them into the training parts that have
their originals.
"""

import dataclasses
from collections.abc import Sequence

from data_prep.excerpt import annotated
from data_prep.utterance import Utterance
from ser_jax.errors import UserError
from ser_jax.features.sets import FeatureSet

SLOWEST, FASTEST = 0.5, 2.0


def at_speeds(
  utterances: Sequence[Utterance],
  speeds: Sequence[float],
  feature_set: FeatureSet,
) -> list[Utterance]:
  """The utterances, and a copy of each at every speed.

  Args:
    utterances: the corpus.
    speeds: how many times as fast; 1 is what is there anyway.
    feature_set: what is to be made of them.

  Returns:
    The originals first, then the copies, speed by speed.

  Raises:
    UserError: a speed out of range or given twice; or a set with labels in
      time, or parts of recordings, which would not follow.
  """
  if len(set(speeds)) < len(speeds) or not all(
    SLOWEST <= speed <= FASTEST and speed != 1 for speed in speeds
  ):
    raise UserError(
      f"speeds {', '.join(f'{s:g}' for s in speeds)}: each must lie between "
      f"{SLOWEST:g} and {FASTEST:g}, differ from 1, and be given once."
    )
  if speeds and annotated(feature_set):
    raise UserError(
      f"{feature_set.name} has the corpus' labels in time, which do not follow "
      "a copy at another speed: build without --speeds."
    )
  part = next((u for u in utterances if u.seconds is not None), None)
  if speeds and part:
    raise UserError(
      f"{part.id} is a part of {part.path}, whose parts are put together again "
      "by their times, which copies would not have: build without --speeds."
    )
  return [*utterances, *(_copy(u, s) for s in speeds for u in utterances)]


def _copy(utterance: Utterance, speed: float) -> Utterance:
  return dataclasses.replace(
    utterance,
    id=f"{utterance.id}~{speed:g}",
    speaker=f"{utterance.speaker}~{speed:g}",
    contour=None,
    speed=float(speed),
    origin=utterance.id,
  )
