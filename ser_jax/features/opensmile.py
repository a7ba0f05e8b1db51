"""Features made by openSMILE, which is optional; its licence is for research.

Audio goes in as 16-bit samples, as openSMILE has it.
"""

import functools
import os
import tempfile
import warnings

import numpy as np
from jaxtyping import Float

from ser_jax.errors import UserError

Samples = Float[np.ndarray, "samples"]

# HTK's MFCC_E_D_A from openSMILE's components, for `spectral.mfcc_e_d_a` to be
# compared with. The two lines with \{\cm are how the Python package hands in
# audio and takes out rows.
_MFCC_E_D_A = r"""
[componentInstances:cComponentManager]
instance[dataMemory].type = cDataMemory

\{\cm[source{?}:where audio comes from]}

[componentInstances:cComponentManager]
instance[frame].type = cFramer
instance[emphasis].type = cVectorPreemphasis
instance[window].type = cWindower
instance[fft].type = cTransformFFT
instance[magnitude].type = cFFTmagphase
instance[mel].type = cMelspec
instance[cepstrum].type = cMfcc
instance[energy].type = cEnergy
instance[static].type = cVectorConcat
instance[first].type = cDeltaRegression
instance[second].type = cDeltaRegression
instance[all].type = cVectorConcat

[frame:cFramer]
reader.dmLevel = wave
writer.dmLevel = frames
frameSize = 0.025
frameStep = 0.010
frameCenterSpecial = left
noPostEOIprocessing = 1

[emphasis:cVectorPreemphasis]
reader.dmLevel = frames
writer.dmLevel = emphasised
k = 0.97
de = 0

[window:cWindower]
reader.dmLevel = emphasised
writer.dmLevel = windowed
winFunc = ham
gain = 1.0

[fft:cTransformFFT]
reader.dmLevel = windowed
writer.dmLevel = spectrum

[magnitude:cFFTmagphase]
reader.dmLevel = spectrum
writer.dmLevel = magnitudes
magnitude = 1
phase = 0

[mel:cMelspec]
reader.dmLevel = magnitudes
writer.dmLevel = bands
nBands = 26
lofreq = 0
hifreq = 8000
usePower = 1
htkcompatible = 1
specScale = mel

[cepstrum:cMfcc]
reader.dmLevel = bands
writer.dmLevel = cepstra
firstMfcc = 1
lastMfcc = 12
cepLifter = 22
htkcompatible = 1

[energy:cEnergy]
reader.dmLevel = windowed
writer.dmLevel = energies
htkcompatible = 1
rms = 0
log = 1

[static:cVectorConcat]
reader.dmLevel = cepstra;energies
writer.dmLevel = statics
processArrayFields = 0

[first:cDeltaRegression]
reader.dmLevel = statics
writer.dmLevel = deltas
deltawin = 2
blocksize = 1

[second:cDeltaRegression]
reader.dmLevel = deltas
writer.dmLevel = accelerations
deltawin = 2
blocksize = 1

[all:cVectorConcat]
reader.dmLevel = statics;deltas;accelerations
writer.dmLevel = features
processArrayFields = 0

\{\cm[sink{?}:where rows go]}
"""


def mfcc_e_d_a(samples: Samples, rate: int) -> Float[np.ndarray, "time 39"]:
  """HTK's MFCC_E_D_A, made by openSMILE.

  Like `spectral.mfcc_e_d_a` but for the last two accelerations: openSMILE lets
  the deltas run on past the end, HTK repeats the last.

  Args:
    samples: one channel in [-1, 1].
    rate: 16000 Hz.

  Returns:
    39 features a frame.

  Raises:
    UserError: openSMILE is not installed; the audio is too short.
  """
  return _rows(_own_extractor(_MFCC_E_D_A, "features"), samples, rate)


def low_level(
  samples: Samples, rate: int, *, feature_set: str
) -> Float[np.ndarray, "time dim"]:
  """Low-level descriptors of one of openSMILE's sets.

  Args:
    samples: one channel in [-1, 1].
    rate: in Hz.
    feature_set: its name in `opensmile.FeatureSet`, such as IS13.

  Returns:
    One row a frame of 10 ms.

  Raises:
    UserError: openSMILE is not installed; the audio is too short.
  """
  return _rows(_extractor(feature_set, "LowLevelDescriptors"), samples, rate)


def functionals(
  samples: Samples, rate: int, *, feature_set: str
) -> Float[np.ndarray, "dim"]:
  """Statistics of the low-level descriptors over the whole utterance.

  Args:
    samples: one channel in [-1, 1].
    rate: in Hz.
    feature_set: its name in `opensmile.FeatureSet`, such as eGeMAPSv02.

  Returns:
    One vector.

  Raises:
    UserError: openSMILE is not installed; the audio is too short.
  """
  return _rows(_extractor(feature_set, "Functionals"), samples, rate)[0]


def _module():
  try:
    import opensmile
  except ImportError as error:
    raise UserError(
      "these features are made by openSMILE, which is not installed: "
      "pip install 'ser_jax[opensmile]' (its licence allows research only)."
    ) from error
  return opensmile


@functools.cache
def _extractor(feature_set: str, level: str):
  opensmile = _module()
  return opensmile.Smile(
    opensmile.FeatureSet[feature_set], opensmile.FeatureLevel[level]
  )


@functools.cache
def _own_extractor(text: str, level: str):
  folder = tempfile.TemporaryDirectory(prefix="opensmile-")
  path = os.path.join(folder.name, "components.conf")
  with open(path, "w") as file:
    file.write(text)
  extractor = _module().Smile(path, level)
  # openSMILE reads the file on every call: it lives as long as the extractor.
  extractor.folder = folder
  return extractor


def _rows(
  extractor, samples: Samples, rate: int
) -> Float[np.ndarray, "time dim"]:
  # openSMILE multiplies by 32768 and casts, which turns 1 into -1.
  loudest = np.float32(32767 / 32768)
  with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message="Segment too short")
    rows = extractor(np.minimum(samples, loudest), rate)[0].T
  if not np.isfinite(rows).all():
    raise UserError(
      f"openSMILE makes no features of {len(samples)} samples at {rate} Hz: "
      "the recording is too short, or has no sound that lasts long enough. "
      "Leave it out."
    )
  return np.ascontiguousarray(rows, np.float32)
