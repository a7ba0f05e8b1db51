"""Recordings that cannot be used: all are named, or else left out."""

from data_prep.utterance import Utterance
from ser_jax.errors import UserError

TOLD = 5


class Skipped:
  """Recordings left out, and why.

  Attributes:
    reasons: by the name of the utterance.
  """

  def __init__(self, allowed: bool):
    """Starts with none.

    Args:
      allowed: whether to go on without them.
    """
    self._allowed = allowed
    self.reasons: dict[str, str] = {}

  def add(self, utterance: Utterance, reason: str) -> None:
    """Leaves one out."""
    self.reasons[utterance.id] = reason

  def check(self) -> None:
    """Refuses to go on without recordings, unless that is allowed.

    Raises:
      UserError: there are some; names the first few.
    """
    if self._allowed or not self.reasons:
      return
    first = {}  # a copy has its original's reason
    for name, reason in self.reasons.items():
      first.setdefault(reason, name)
    told = [f"utterance {name}: {reason}" for reason, name in first.items()]
    more = f" And {len(told) - TOLD} more." if len(told) > TOLD else ""
    raise UserError(
      f"{' '.join(told[:TOLD])}{more} To build without such recordings, pass "
      "--skip-bad; what is extracted is kept."
    )
