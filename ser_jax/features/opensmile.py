"""What openSMILE computes: its standard sets, and HTK's MFCC_E_D_A.

openSMILE's licence allows research only, so it is an extra; its standard sets
are those of the installed package. MFCC_E_D_A, which the package does not have,
is the check on `spectral.mfcc_e_d_a`: its components are configured here, with
the values of openSMILE's MFCC12_E_D_A file. No frame is lost against NumPy's:
both take whole frames alone, 1 + (samples - 25 ms) // 10 ms of them.
"""

import ctypes
import functools
import importlib.util
import os
import pathlib
import tempfile

import numpy as np
from jaxtyping import Float

from ser_jax.errors import UserError
from ser_jax.features import spectral

Samples = Float[np.ndarray, "samples"]

SOURCE, SINK = "recording", "result"

# Component name, its type, its fields. Data flow from level to level.
CHAIN = (
  ("dataMemory", "cDataMemory", {}),
  (
    SOURCE,
    "cExternalAudioSource",
    {
      "writer.dmLevel": "wave",
      "writer.levelconf.growDyn": 1,
      "writer.levelconf.isRb": 0,
      "nBits": 16,
      "channels": 1,
    },
  ),
  (
    "framer",
    "cFramer",
    {
      "reader.dmLevel": "wave",
      "writer.dmLevel": "frames",
      "frameSize": 0.025,
      "frameStep": 0.010,
      "frameCenterSpecial": "left",
      "noPostEOIprocessing": 1,
    },
  ),
  (
    "emphasis",
    "cVectorPreemphasis",
    {
      "reader.dmLevel": "frames",
      "writer.dmLevel": "emphasised",
      "k": spectral.PREEMPHASIS,
      "de": 0,
    },
  ),
  (
    "window",
    "cWindower",
    {
      "reader.dmLevel": "emphasised",
      "writer.dmLevel": "windowed",
      "winFunc": "ham",
      "gain": 1.0,
    },
  ),
  (
    "transform",
    "cTransformFFT",
    {"reader.dmLevel": "windowed", "writer.dmLevel": "spectra"},
  ),
  (
    "magnitude",
    "cFFTmagphase",
    {
      "reader.dmLevel": "spectra",
      "writer.dmLevel": "magnitudes",
      "magnitude": 1,
      "phase": 0,
    },
  ),
  (
    "mel",
    "cMelspec",
    {
      "reader.dmLevel": "magnitudes",
      "writer.dmLevel": "bands",
      "nBands": spectral.MEL_BANDS,
      "lofreq": 0,
      "usePower": 1,
      "htkcompatible": 1,
      "specScale": "mel",
    },
  ),
  (
    "cepstrum",
    "cMfcc",
    {
      "reader.dmLevel": "bands",
      "writer.dmLevel": "cepstra",
      "firstMfcc": 1,
      "lastMfcc": spectral.CEPSTRA,
      "cepLifter": spectral.LIFTER,
      "htkcompatible": 1,
    },
  ),
  (
    "energy",
    "cEnergy",
    {
      "reader.dmLevel": "frames",
      "writer.dmLevel": "energies",
      "htkcompatible": 1,
      "rms": 0,
      "log": 1,
    },
  ),
  (
    "joined",
    "cVectorConcat",
    {
      "reader.dmLevel": "cepstra;energies",
      "writer.dmLevel": "static",
      "processArrayFields": 0,
    },
  ),
  (
    "velocity",
    "cDeltaRegression",
    {
      "reader.dmLevel": "static",
      "writer.dmLevel": "first",
      "deltawin": spectral.DELTA_WINDOW,
      "blocksize": 1,
    },
  ),
  (
    "acceleration",
    "cDeltaRegression",
    {
      "reader.dmLevel": "first",
      "writer.dmLevel": "second",
      "deltawin": spectral.DELTA_WINDOW,
      "blocksize": 1,
    },
  ),
  (
    "all",
    "cVectorConcat",
    {
      "reader.dmLevel": "static;first;second",
      "writer.dmLevel": "features",
      "processArrayFields": 0,
    },
  ),
  (SINK, "cExternalSink", {"reader.dmLevel": "features", "blocksize": 1}),
)


def configuration(rate: int) -> str:
  """The components as openSMILE reads them.

  Args:
    rate: in Hz.

  Returns:
    The text of a configuration file.
  """
  lines = ["[componentInstances:cComponentManager]"]
  lines += [f"instance[{name}].type = {kind}" for name, kind, _ in CHAIN]
  lines += ["nThreads = 1", "printLevelStats = 0"]
  at_rate = {SOURCE: {"sampleRate": rate}, "mel": {"hifreq": rate / 2}}
  for name, kind, fields in CHAIN:
    lines += ["", f"[{name}:{kind}]"]
    fields = fields | at_rate.get(name, {})
    lines += [f"{field} = {value}" for field, value in fields.items()]
  return "\n".join(lines) + "\n"


@functools.cache
def _opensmile() -> type:
  """The class that runs openSMILE.

  openSMILE and TensorFlow both export an FFT named `rdft`, of float and of
  double: where TensorFlow came first, openSMILE would call that one and destroy
  the heap. Loaded so that it looks among its own symbols first, it cannot.

  Raises:
    UserError: openSMILE is not installed.
  """
  found = importlib.util.find_spec("opensmile")
  if found is None or found.origin is None:
    raise UserError(
      "the feature set asked for needs openSMILE, which is not installed (its "
      "licence allows research only): pip install 'ser_jax[opensmile]'."
    )
  for library in pathlib.Path(found.origin).parent.rglob("libSMILEapi.so"):
    ctypes.CDLL(str(library), mode=getattr(os, "RTLD_DEEPBIND", 0))
  from opensmile.core.lib import OpenSMILE

  return OpenSMILE


def mfcc_e_d_a(samples: Samples, rate: int) -> Float[np.ndarray, "time 39"]:
  """HTK's MFCC_E_D_A as openSMILE computes it.

  Args:
    samples: one channel in [-1, 1], of at least 25 ms; rounded to 16 bits, as
      in openSMILE's usual input.
    rate: in Hz.

  Returns:
    The features of `spectral.mfcc_e_d_a`, in the same order.

  Raises:
    UserError: openSMILE is not installed.
    RuntimeError: openSMILE took or gave less than it should.
  """
  with tempfile.NamedTemporaryFile("w", suffix=".conf") as file:
    file.write(configuration(rate))
    file.flush()
    rows = _run(file.name, {}, (SOURCE, SINK), samples)
  expected = spectral.frame_count(len(samples), rate)
  if len(rows) != expected:
    raise RuntimeError(
      f"openSMILE made {len(rows)} frames of {len(samples)} samples at {rate} "
      f"Hz, not {expected}."
    )
  return np.stack(rows).astype(np.float32)


def standard(
  samples: Samples, rate: int, *, feature_set: str, level: str
) -> Float[np.ndarray, "rows dim"]:
  """A standard feature set as the installed openSMILE computes it.

  Args:
    samples: one channel in [-1, 1]; rounded to 16 bits.
    rate: in Hz.
    feature_set: a member of `opensmile.FeatureSet`, such as `IS13`.
    level: a member of `opensmile.FeatureLevel`, such as `Functionals`.

  Returns:
    One row a frame of 10 ms; a single row of functionals.

  Raises:
    UserError: openSMILE is not installed.
    RuntimeError: openSMILE gave no row or one that is not finite.
  """
  path, options, ends = _standard(feature_set, level)
  rows = _run(path, options | {"sampleRate": rate}, ends, samples)
  return _stack(rows, f"{feature_set} {level}", len(samples), rate)


def windows(
  samples: Samples, rate: int, *, feature_set: str, seconds: float, step: float
) -> Float[np.ndarray, "rows dim"]:
  """A standard set's functionals of one window after another.

  Args:
    samples: one channel in [-1, 1]; rounded to 16 bits.
    rate: in Hz.
    feature_set: a member of `opensmile.FeatureSet`.
    seconds: of a window.
    step: seconds from window to window.

  Returns:
    One row a window that lies within the recording.

  Raises:
    UserError: openSMILE is not installed.
    RuntimeError: openSMILE gave no row or one that is not finite.
  """
  path, options, ends = _standard(feature_set, "Functionals")
  with tempfile.NamedTemporaryFile("w", suffix=".inc") as file:
    file.write(
      f"frameMode = fixed\nframeSize = {seconds}\nframeStep = {step}\n"
      "frameCenterSpecial = left\n"
    )
    file.flush()
    given = {"sampleRate": rate, "frameModeFunctionalsConf": file.name}
    rows = _run(path, options | given, ends, samples)
  return _stack(rows, f"{feature_set} windows", len(samples), rate)


def _stack(
  rows: list[np.ndarray], what: str, samples: int, rate: int
) -> Float[np.ndarray, "rows dim"]:
  if not rows or not all(np.isfinite(row).all() for row in rows):
    raise RuntimeError(
      f"openSMILE made {len(rows)} rows of {what} from {samples} samples at "
      f"{rate} Hz, or some that are not finite."
    )
  return np.stack(rows).astype(np.float32)


@functools.cache
def _standard(feature_set: str, level: str) -> tuple[str, dict, tuple]:
  """Configuration file, options, and the names of source and sink."""
  _opensmile()
  import opensmile
  from opensmile.core.config import config

  smile = opensmile.Smile(
    opensmile.FeatureSet[feature_set], opensmile.FeatureLevel[level]
  )
  root = pathlib.Path(smile.default_config_root)
  options = {
    "source": str(root / config.EXTERNAL_INPUT_CONFIG),
    "sink": str(root / config.EXTERNAL_OUTPUT_SINGLE_CONFIG),
    "sinkLevel": smile.feature_level.value,
    "bufferModeRbConf": str(root / "shared/BufferModeRb.conf.inc"),
    "frameModeFunctionalsConf": str(
      root / "shared/FrameModeFunctionals.conf.inc"
    ),
    "nBits": 16,
  }
  ends = config.EXTERNAL_SOURCE_COMPONENT, config.EXTERNAL_OUTPUT_COMPONENT
  return smile.config_path, options, ends


def _run(
  path: str, options: dict, ends: tuple[str, str], samples: Samples
) -> list[np.ndarray]:
  """Rows of the sink, once the source has had all samples."""
  scaled = np.round(samples.astype(np.float64) * spectral.FULL_SCALE)
  integers = np.clip(
    scaled, -spectral.FULL_SCALE, spectral.FULL_SCALE - 1
  ).astype("<i2")
  source, sink = ends
  rows: list[np.ndarray] = []
  smile = _opensmile()()
  try:
    smile.initialize(path, options, loglevel=0)
    # The memory behind a row is used again for the next one.
    smile.external_sink_set_callback(sink, lambda row: rows.append(row.copy()))
    if not smile.external_audio_source_write_data(source, integers.tobytes()):
      raise RuntimeError(f"openSMILE refused {len(samples)} samples.")
    smile.external_audio_source_set_eoi(source)
    smile.run()
  finally:
    smile.free()
  return rows
