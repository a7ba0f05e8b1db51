"""Feature sets in frames of 40 ms: samples, functionals, targets in time.

Of one recording all have as many frames: whichever are put side by side fit.
"""

from ser_jax.features import prosody, waveform, windows
from ser_jax.features.feature_set import (
  Features,
  FeatureSet,
  InputSpec,
  Samples,
)

# Frames of 40 ms, as ratings in time have them; six seconds of them.
RATE, FRAME, FRAMES = 16000, 640, 150


def waveform_6s() -> FeatureSet:
  """Six seconds of samples."""

  def compute(samples: Samples) -> Features:
    return {"waveform": waveform.frames(samples, size=FRAME, most=FRAMES)}

  return FeatureSet(
    name="waveform_6s",
    rate=RATE,
    least=FRAME,
    inputs={"waveform": InputSpec(FRAME, RATE / FRAME, "int16")},
    recipe={"rate": RATE, "waveform": {"frame": FRAME, "frames": FRAMES}},
    compute=compute,
  )


def prosodic() -> FeatureSet:
  """Loudness and pitch of the same frames, to be predicted."""

  def compute(samples: Samples) -> Features:
    found = prosody.contours(samples, RATE, size=FRAME, most=FRAMES)
    return {"contours": found}

  names = prosody.NAMES
  return FeatureSet(
    name="prosody",
    rate=RATE,
    least=FRAME,
    inputs={"contours": InputSpec(len(names), RATE / FRAME, names=names)},
    recipe={
      "rate": RATE,
      "frame": FRAME,
      "frames": FRAMES,
      "loudness": "dB of the recording's level",
      "quietest": prosody.QUIETEST,
      "f0": "Kaldi's path across all frames, semitones over the reference",
      "reference": prosody.REFERENCE,
    },
    compute=compute,
  )


def annotated() -> FeatureSet:
  """The corpus' own arousal and valence of the same frames."""
  names = ("arousal", "valence")
  spec = InputSpec(len(names), RATE / FRAME, names=names, annotated=True)
  return FeatureSet(
    name="annotated",
    rate=RATE,
    least=FRAME,
    inputs={"contours": spec},
    recipe={"rate": RATE, "contours": list(names)},
    compute=lambda samples: {},
  )


# How they are made, how many, and the seconds that they hear beside an excerpt:
# half a window, and what its first descriptors remember. Those of eGeMAPS are
# smoothed; in ComParE's RASTA filter, 1e-4 of a deviation is left after 1.5 s.
WINDOWS = {
  "egemaps": (windows.egemaps, 88, 2.0),
  "compare_lld": (windows.lld, 325, 3.0),
}


def functionals(by: str) -> FeatureSet:
  """Functionals of three seconds around each of the same frames.

  An excerpt has those of its recording, which alone ends windows. Utterances
  longer than six seconds are taken to end there.
  """
  make, dim, context = WINDOWS[by]

  def compute(samples: Samples, before: int, after: int) -> Features:
    frames = min(FRAMES, -(-(len(samples) - before - after) // FRAME))
    # Whole frames come before those of the excerpt.
    heard = samples[before % FRAME : before + FRAME * FRAMES + after]
    found = make(heard, RATE, size=FRAME)
    return {"windows": found[before // FRAME :][:frames]}

  return FeatureSet(
    name=by,
    rate=RATE,
    least=960,
    inputs={"windows": InputSpec(dim, RATE / FRAME)},
    recipe={
      "rate": RATE,
      "by": "openSMILE",
      "seconds": windows.SECONDS,
      "context": context,
      "frame": FRAME,
      "frames": FRAMES,
    },
    compute=compute,
    context=context,
  )
