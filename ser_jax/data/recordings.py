"""Long recordings: utterances called `RECORDING@SECONDS` are their windows."""

MARK = "@"


def recording_of(name: str) -> str:
  """The recording that an utterance is of; itself, where it is no window."""
  return name.partition(MARK)[0]


def start_of(name: str, rate: float) -> int:
  """The frame of its recording that an utterance starts with.

  Args:
    name: of the utterance.
    rate: frames a second.

  Returns:
    A number of frames; 0 for whole recordings.
  """
  _, mark, seconds = name.partition(MARK)
  return round(float(seconds) * rate) if mark else 0
