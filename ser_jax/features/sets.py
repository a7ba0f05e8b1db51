"""Feature sets by name: the only door from audio to arrays.

The same code serves shards and inference. A recipe is plain data and travels in
the shards' metadata, so that features made otherwise are never mixed in.
"""

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np
from jaxtyping import Float, Shaped

from ser_jax.features import (
  audio,
  kaldi_pitch,
  opensmile,
  prosody,
  spectral,
  waveform,
  windows,
)

Samples = Float[np.ndarray, "samples"]
Features = dict[str, Shaped[np.ndarray, "..."]]


@dataclasses.dataclass(frozen=True)
class InputSpec:
  """One array that a set makes.

  Attributes:
    dim: features a frame, or in all.
    frame_rate: frames a second; None for functionals, one vector an utterance.
    dtype: as kept in shards; 16-bit samples are float32 in [-1, 1) to models.
    names: of the features, where they are targets.
    annotated: a corpus' labels in time, not computed from audio.
  """

  dim: int
  frame_rate: float | None
  dtype: str = "float32"
  names: tuple[str, ...] = ()
  annotated: bool = False


@dataclasses.dataclass(frozen=True)
class FeatureSet:
  """A named recipe.

  Attributes:
    name: as in `config.data.features`.
    rate: the rate in Hz that the recipe works at.
    least: samples at that rate that one frame needs.
    inputs: what its shards hold.
    recipe: all that determines the result, as plain data; `pad_to` may be
      "longest_raw": of a corpus' recordings, in samples at `rate`.
    compute: mono samples at `rate` to arrays.
    prepare: mono samples at `rate` to those that are padded and computed from.
  """

  name: str
  rate: int
  least: int
  inputs: Mapping[str, InputSpec]
  recipe: Mapping[str, object]
  compute: Callable[[Samples], Features]
  prepare: Callable[[Samples], Samples] | None = None

  @property
  def computed(self) -> dict[str, InputSpec]:
    """The inputs that are made of audio."""
    return {n: spec for n, spec in self.inputs.items() if not spec.annotated}

  def extract(
    self, samples: Samples, rate: int, *, pad_to: int | None = None
  ) -> Features:
    """Computes every input of the set that audio alone determines.

    Args:
      samples: mono, in [-1, 1].
      rate: of the samples, in Hz.
      pad_to: samples, at the recipe's rate, to pad with zeros to once the
        audio is prepared.

    Returns:
      Input name to `[time, dim]`, or `[dim]` for functionals.

    Raises:
      UserError: audio that is empty, silent, not finite or too short.
    """
    samples = audio.check(samples, source="the audio")
    samples = audio.resample(samples, rate, self.rate)
    if self.prepare is not None:
      samples = self.prepare(samples)
    audio.require_samples(samples, self.least, self.name)
    if pad_to is not None and pad_to > len(samples):
      samples = np.pad(samples, (0, pad_to - len(samples)))
    return self.compute(samples)


MFCC_E_D_A = {"numpy": spectral.mfcc_e_d_a, "opensmile": opensmile.mfcc_e_d_a}


def _ds_lstm(
  name: str, windows: tuple[int, int], by: str = "numpy"
) -> FeatureSet:
  """MFCC_E_D_A and two log-mel spectrograms, a quarter of n_fft in bands.

  Their frames do not coincide, and need not: a batch keeps a length for each
  input. The spectrograms' frames are centred, 1 + samples // hop of them; the
  cepstra's are whole ones alone.
  """
  rate, floor = 16000, 1e-10

  def compute(samples: Samples) -> Features:
    features = {"mfcc": MFCC_E_D_A[by](samples, rate)}
    for number, n_fft in enumerate(windows, start=1):
      features[f"s{number}"] = spectral.log_mel(
        samples, rate, n_fft=n_fft, n_mels=n_fft // 4, floor=floor
      )
    return features

  inputs = {"mfcc": InputSpec(39, 100.0)}
  for number, n_fft in enumerate(windows, start=1):
    inputs[f"s{number}"] = InputSpec(n_fft // 4, rate / (n_fft // 2))
  return FeatureSet(
    name=name,
    rate=rate,
    least=max(windows),
    inputs=inputs,
    recipe={
      "rate": rate,
      "mfcc": {
        "kind": "HTK MFCC_E_D_A",
        "by": by,
        "window_ms": 25,
        "hop_ms": 10,
        "window": "hamming",
        "preemphasis": spectral.PREEMPHASIS,
        "bands": spectral.MEL_BANDS,
        "cepstra": spectral.CEPSTRA,
        "lifter": spectral.LIFTER,
        "delta_window": spectral.DELTA_WINDOW,
      },
      "spectrograms": {
        "n_fft": list(windows),
        "hop": "n_fft / 2",
        "bands": "n_fft / 4",
        "window": "hann",
        "mel": "slaney, 0 Hz to half the rate",
        "scale": "10 log10 of power",
        "floor": floor,
      },
    },
    compute=compute,
  )


def _dat(
  name: str,
  dim: int,
  hop: int,
  least: int,
  recipe: dict,
  compute: Callable[[Samples], Float[np.ndarray, "time dim"]],
) -> FeatureSet:
  """One input of trimmed, denoised audio, padded to the longest recording."""
  rate, top_db = 16000, 25.0

  def prepare(samples: Samples) -> Float[np.ndarray, "kept"]:
    return audio.denoise(audio.trim(samples, top_db=top_db))

  return FeatureSet(
    name=name,
    rate=rate,
    least=least,
    inputs={"features": InputSpec(dim, rate / hop)},
    recipe={
      "rate": rate,
      "trim_top_db": top_db,
      "denoise": "wiener over 3 samples",
      "pad_to": "longest_raw",
    }
    | recipe,
    compute=lambda samples: {"features": compute(samples)},
    prepare=prepare,
  )


def _dat_spectral(name: str, cepstra: int | None) -> FeatureSet:
  """A mel-spectrogram in decibels, or the MFCC, as torchaudio makes them."""
  n_fft, hop, bands = 2048, 512, 128

  def compute(samples: Samples) -> Float[np.ndarray, "time dim"]:
    mel = spectral.htk_log_mel(
      samples, 16000, n_fft=n_fft, hop=hop, n_mels=bands
    )
    return mel if cepstra is None else spectral.decibel_cepstra(mel, cepstra)

  recipe = {
    "n_fft": n_fft,
    "hop": hop,
    "bands": bands,
    "window": "hann",
    "mel": "HTK without area norm, 0 Hz to half the rate",
    "scale": "10 log10 of power, at least -100",
    "cepstra": cepstra,
  }
  return _dat(name, cepstra or bands, hop, n_fft, recipe, compute)


def _dat_pitch(name: str, path: str) -> FeatureSet:
  """Kaldi's log-energy and filter bank, correlation and pitch."""
  window_ms, hop_ms, bands = 40, 10, 40

  def compute(samples: Samples) -> Float[np.ndarray, "time dim"]:
    fbank = spectral.kaldi_fbank(
      samples, 16000, window_ms=window_ms, hop_ms=hop_ms, bands=bands
    )
    pitch = kaldi_pitch.nccf_pitch(
      samples, 16000, window_ms=window_ms, hop_ms=hop_ms, path=path
    )
    # The pitch is tracked at 4 kHz. Where up to 3 samples lack for another
    # frame at 16 kHz, the slow signal, rounded up, has it.
    return np.column_stack([fbank, pitch[: len(fbank)]])

  recipe = {
    "window_ms": window_ms,
    "hop_ms": hop_ms,
    "fbank": "Kaldi log-energy and bands, povey window, no dither",
    "bands": bands,
    "preemphasis": spectral.PREEMPHASIS,
    "pitch": "Kaldi NCCF and Hz",
    "path": path,
  }
  return _dat(name, bands + 3, 160, 640, recipe, compute)


def _opensmile(
  name: str, standard: str, level: str, dim: int, least: int
) -> FeatureSet:
  """A standard set of openSMILE: functionals, or descriptors every 10 ms.

  Descriptors lie in windows of 60 ms where they tell of the pitch, of 20 or
  25 ms elsewhere; no frame reaches past the recording.
  """
  rate, functionals = 16000, level == "Functionals"
  key = "functionals" if functionals else "descriptors"

  def compute(samples: Samples) -> Features:
    rows = opensmile.standard(samples, rate, feature_set=standard, level=level)
    return {key: rows[0] if functionals else rows}

  return FeatureSet(
    name=name,
    rate=rate,
    least=least,
    inputs={key: InputSpec(dim, None if functionals else 100.0)},
    recipe={"rate": rate, "by": "openSMILE", "set": standard, "level": level},
    compute=compute,
  )


# Frames of 40 ms, as ratings in time have them; six seconds of them.
RATE, FRAME, FRAMES = 16000, 640, 150


def _waveform_6s() -> FeatureSet:
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


def _prosody() -> FeatureSet:
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


def _annotated() -> FeatureSet:
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


WINDOWS = {"egemaps": (windows.egemaps, 88), "compare_lld": (windows.lld, 325)}


def _windows(by: str) -> FeatureSet:
  """Functionals of three seconds around each of the same frames."""
  make, dim = WINDOWS[by]

  def compute(samples: Samples) -> Features:
    found = make(samples[: FRAME * FRAMES], RATE, size=FRAME)
    return {"windows": found}

  return FeatureSet(
    name=by,
    rate=RATE,
    least=960,
    inputs={"windows": InputSpec(dim, RATE / FRAME)},
    recipe={
      "rate": RATE,
      "by": "openSMILE",
      "seconds": windows.SECONDS,
      "frame": FRAME,
      "frames": FRAMES,
    },
    compute=compute,
  )


def _union(name: str, *parts: FeatureSet) -> FeatureSet:
  """Sets of one rate side by side, each from the whole recording."""
  (rate,) = {part.rate for part in parts}

  def compute(samples: Samples) -> Features:
    return {n: x for part in parts for n, x in part.compute(samples).items()}

  return FeatureSet(
    name=name,
    rate=rate,
    least=max(part.least for part in parts),
    inputs={n: spec for part in parts for n, spec in part.inputs.items()},
    recipe={"rate": rate} | {part.name: dict(part.recipe) for part in parts},
    compute=compute,
  )


_EGEMAPS = _opensmile("egemaps", "eGeMAPSv02", "Functionals", 88, 960)

FEATURE_SETS = {
  feature_set.name: feature_set
  for feature_set in (
    _ds_lstm("ds_lstm", (256, 512)),
    _ds_lstm("ds_lstm_code", (512, 1024)),
    _ds_lstm("ds_lstm_opensmile", (256, 512), by="opensmile"),
    _dat_spectral("dat_mfcc", cepstra=20),
    _dat_spectral("dat_lms", cepstra=None),
    _dat_pitch("dat_logmfb_pitch", path="torchaudio"),
    _dat_pitch("dat_logmfb_pitch_kaldi", path="viterbi"),
    _opensmile("is13_functionals", "IS13", "Functionals", 6373, 960),
    _opensmile("is13_lld", "IS13", "LowLevelDescriptors", 65, 960),
    _opensmile("is10_functionals", "IS10", "Functionals", 1582, 1120),
    _EGEMAPS,
    _waveform_6s(),
    _union("dcaen", _waveform_6s(), _EGEMAPS),
    _union("adieu", _waveform_6s(), _annotated()),
    _union("adieu_prosody", _waveform_6s(), _prosody()),
    *(_union(f"{by}_windows", _windows(by), _annotated()) for by in WINDOWS),
    *(
      _union(f"{by}_windows_prosody", _windows(by), _prosody())
      for by in WINDOWS
    ),
  )
}
