"""Copies of utterances at other speeds, in training parts alone."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from ser_jax.data.protocols import Protocol
from ser_jax.errors import UserError


def with_copies(
  protocol: Protocol, table, speeds: Sequence[float], source: str
) -> Protocol:
  """Lets copies at other speeds into the training parts of their originals.

  Args:
    protocol: of the originals.
    table: the shards' utterances.
    speeds: of the copies wanted.
    source: what messages call the shards.

  Returns:
    The protocol; nobody is validated or tested on a copy.

  Raises:
    UserError: a speed that the shards have no copies at.
  """
  there = set(table.speeds) - {1.0}
  missing = [f"{speed:g}" for speed in speeds if speed not in there]
  if missing:
    have = ", ".join(f"{speed:g}" for speed in sorted(there)) or "none"
    raise UserError(
      f"config.data.speeds has {', '.join(missing)}, a speed at which {source} "
      f"has no copies (it has: {have}): build it again with "
      f"--speeds={','.join(f'{speed:g}' for speed in speeds)}, or set "
      "config.data.speeds to what is there."
    )
  if not speeds:
    return protocol
  copies = np.flatnonzero(np.isin(table.speeds, speeds))
  folds = tuple(
    dataclasses.replace(
      fold,
      train=np.concatenate(
        [fold.train, copies[np.isin(table.origins[copies], fold.train)]]
      ),
    )
    for fold in protocol.folds
  )
  told = " and ".join(f"{speed:g}" for speed in speeds)
  return dataclasses.replace(
    protocol,
    folds=folds,
    notes=(
      *protocol.notes,
      f"Training parts have copies played {told} times as fast.",
    ),
  )
