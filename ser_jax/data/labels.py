"""What is classified: emotion categories, or an attribute in three levels.

Raters' means fall between the marks 1 to 5, and where the levels part is a
choice, `config.data.binning`:

    strict      low up to 2, high from 4, neutral between
    middle      low under 2.5, high over 3.5, neutral between, ends included
    round       by the nearest mark, halves up: 3 is neutral
    circumplex  no ratings: the quadrant of the emotion category (Russell 1980)
"""

import difflib

import numpy as np
from jaxtyping import Float, Int, Shaped

from ser_jax.errors import UserError

EMOTION = "emotion"
LEVELS = ("low", "neutral", "high")
ATTRIBUTES = ("valence", "activation", "dominance")  # as in the shards
UNRATED = "unrated"

# Valence and activation of each category, -1, 0 or 1. For the emotions of
# Emo-DB as in Schuller et al. 2010 (Cross-corpus acoustic emotion recognition),
# but for disgust and neutral, which are neither active nor passive here.
CIRCUMPLEX = {
  "angry": (-1, 1),
  "boredom": (-1, -1),
  "calm": (1, -1),
  "disgust": (-1, 0),
  "excited": (1, 1),
  "fear": (-1, 1),
  "frustrated": (-1, 1),
  "happy": (1, 1),
  "neutral": (0, 0),
  "sad": (-1, -1),
  "surprise": (0, 1),
}

BINNINGS = {
  "strict": lambda r: np.where(r <= 2, -1, np.where(r >= 4, 1, 0)),
  "middle": lambda r: np.where(r < 2.5, -1, np.where(r > 3.5, 1, 0)),
  "round": lambda r: np.sign(np.floor(r + 0.5) - 3).astype(int),
}
CHOICES = (*BINNINGS, "circumplex")


def label_words(table, config) -> Shaped[np.ndarray, "all"]:
  """The word that each utterance is labelled with.

  Args:
    table: the shards' utterances.
    config: `target` (`emotion` or one of `ATTRIBUTES`) and `binning`.

  Returns:
    Emotion categories, or words of `LEVELS` and `UNRATED`.

  Raises:
    UserError: an unknown target or binning, or one that the corpus lacks the
      ratings for.
  """
  if config.target == EMOTION:
    return table.emotions
  _known(config.target, (EMOTION, *ATTRIBUTES), "target")
  _known(config.binning, CHOICES, "binning")
  column = ATTRIBUTES.index(config.target)
  if config.binning == "circumplex":
    return _from_emotions(table.emotions, column)
  ratings = table.attributes[:, column]
  if np.isnan(ratings).all():
    raise UserError(
      f"config.data.target={config.target!r}: no utterance of {table.corpus} "
      "is rated for it: set config.data.binning='circumplex' to derive valence "
      "or activation from the emotion categories."
    )
  return _words(ratings, BINNINGS[config.binning])


def _known(value: str, known: tuple[str, ...], field: str) -> None:
  if value not in known:
    near = difflib.get_close_matches(value, known, n=1) or known
    raise UserError(
      f"config.data.{field}={value!r} is unknown: did you mean "
      f"{', '.join(near)}?"
    )


def _words(
  ratings: Float[np.ndarray, "all"], level_of
) -> Shaped[np.ndarray, "all"]:
  """Levels of ratings; NaN is unrated."""
  rated = ~np.isnan(ratings)
  words = np.full(len(ratings), UNRATED, dtype=object)
  words[rated] = np.array(LEVELS, object)[level_of(ratings[rated]) + 1]
  return words


def _from_emotions(
  emotions: Shaped[np.ndarray, "all"], column: int
) -> Shaped[np.ndarray, "all"]:
  """Levels of the emotion categories; unrated where the circle has none."""
  if column == ATTRIBUTES.index("dominance"):
    raise UserError(
      "config.data.binning='circumplex' knows valence and activation only: "
      "choose one of these as config.data.target, or a corpus with ratings."
    )
  words = [
    LEVELS[CIRCUMPLEX[emotion][column] + 1] if emotion in CIRCUMPLEX
    else UNRATED
    for emotion in emotions
  ]  # fmt: skip
  return np.array(words, dtype=object)


def describe(config) -> str:
  """What the levels are, in a sentence for the report."""
  if config.binning == "circumplex":
    return (
      f"Classes are levels of {config.target} that the emotion category "
      "implies (circumplex), not ratings."
    )
  return (
    f"Classes are levels of rated {config.target}, binned {config.binning}."
  )


def labelled(
  labels: Int[np.ndarray, "all"], fraction: float
) -> Float[np.ndarray, "all"]:
  """Which labels a semi-supervised training may see.

  The same share of every class; a larger fraction holds the smaller ones.

  Args:
    labels: class index of every utterance, -1 for none.
    fraction: of the utterances of each class, in (0, 1].

  Returns:
    1 where the label may be seen, else 0.

  Raises:
    UserError: a fraction out of range.
  """
  if not 0 < fraction <= 1:
    raise UserError(
      f"config.data.labelled_fraction={fraction} must lie in (0, 1]."
    )
  seen = np.zeros(len(labels), np.float32)
  order = np.random.default_rng(0).permutation(len(labels))
  for name in range(labels.max() + 1):
    of_class = order[labels[order] == name]
    seen[of_class[: int(np.ceil(fraction * len(of_class)))]] = 1.0
  return seen
