"""Feature sets by name: the only door from audio to arrays.

The same code serves shards and inference. A recipe is plain data and travels in
the shards' metadata, so that features made otherwise are never mixed in.
"""

import dataclasses
import difflib
import functools
import json
from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from ser_jax.errors import UserError
from ser_jax.features import (
  audio,
  frame_sets,
  kaldi_pitch,
  opensmile,
  spectral,
)
from ser_jax.features.feature_set import (
  Features,
  FeatureSet,
  InputSpec,
  Samples,
)

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
        "energy": "of the recorded frame",
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


def _masked(padded: FeatureSet) -> FeatureSet:
  """The same of recordings as long as they are: what is padded is masked."""
  recipe = {k: v for k, v in padded.recipe.items() if k != "pad_to"}
  return dataclasses.replace(
    padded, name=f"{padded.name}_masked", recipe=recipe
  )


def _opensmile(
  name: str,
  standard: str,
  level: str,
  dim: int,
  least: int,
  key: str | None = None,
) -> FeatureSet:
  """A standard set of openSMILE: functionals, or descriptors every 10 ms.

  Descriptors lie in windows of 60 ms where they tell of the pitch, of 20 or
  25 ms elsewhere; no frame reaches past the recording. The input is named
  after what it is, or `key`.
  """
  rate, functionals = 16000, level == "Functionals"
  key = key or ("functionals" if functionals else "descriptors")

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


def _course() -> FeatureSet:
  """How cepstra go from an utterance's beginning to its end."""
  rate, n_fft, bands, floor = 16000, 512, 64, 1e-8
  stretches, cepstra = 24, 24

  def compute(samples: Samples) -> Features:
    mel = spectral.log_mel(
      samples, rate, n_fft=n_fft, n_mels=bands, floor=floor
    )
    parts = spectral.stretches(mel, stretches)
    course = spectral.decibel_cepstra(parts, cepstra)
    return {"course": course.ravel().astype(np.float32)}

  return FeatureSet(
    name="course",
    rate=rate,
    least=n_fft,
    inputs={"course": InputSpec(stretches * cepstra, None)},
    recipe={
      "rate": rate,
      "n_fft": n_fft,
      "bands": bands,
      "floor": floor,
      "stretches": stretches,
      "cepstra": cepstra,
    },
    compute=compute,
  )


def _dat_best() -> FeatureSet:
  """Two sets of functionals and the course of cepstra, of trimmed audio."""
  top_db = 30.0
  parts = _union(
    "dat_best",
    _opensmile("is13", "IS13", "Functionals", 6373, 960, key="is13"),
    _opensmile("is10", "IS10", "Functionals", 1582, 1120, key="is10"),
    _course(),
  )
  return dataclasses.replace(
    parts,
    recipe={**parts.recipe, "trim_top_db": top_db},
    prepare=functools.partial(audio.trim, top_db=top_db),
  )


def _union(name: str, *parts: FeatureSet) -> FeatureSet:
  """Sets of one rate side by side, each from the whole recording.

  What has context computes with it, the rest from the excerpt alone.
  """
  (rate,) = {part.rate for part in parts}

  def compute(samples: Samples, before: int = 0, after: int = 0) -> Features:
    made = (part.compute_inside(samples, before, after) for part in parts)
    return {n: x for features in made for n, x in features.items()}

  return FeatureSet(
    name=name,
    rate=rate,
    least=max(part.least for part in parts),
    inputs={n: spec for part in parts for n, spec in part.inputs.items()},
    recipe={"rate": rate} | {part.name: dict(part.recipe) for part in parts},
    compute=compute,
    context=max(part.context for part in parts),
  )


_EGEMAPS = _opensmile("egemaps", "eGeMAPSv02", "Functionals", 88, 960)
_DAT = (
  _dat_spectral("dat_mfcc", cepstra=20),
  _dat_spectral("dat_lms", cepstra=None),
  _dat_pitch("dat_logmfb_pitch", path="torchaudio"),
  _dat_pitch("dat_logmfb_pitch_kaldi", path="viterbi"),
)

FEATURE_SETS = {
  feature_set.name: feature_set
  for feature_set in (
    _ds_lstm("ds_lstm", (256, 512)),
    _ds_lstm("ds_lstm_code", (512, 1024)),
    _ds_lstm("ds_lstm_opensmile", (256, 512), by="opensmile"),
    *_DAT,
    *map(_masked, _DAT),
    _dat_best(),
    _opensmile("is13_functionals", "IS13", "Functionals", 6373, 960),
    _opensmile("is13_lld", "IS13", "LowLevelDescriptors", 65, 960),
    _opensmile("is10_functionals", "IS10", "Functionals", 1582, 1120),
    _EGEMAPS,
    frame_sets.waveform_6s(),
    _union("dcaen", frame_sets.waveform_6s(), _EGEMAPS),
    _union("adieu", frame_sets.waveform_6s(), frame_sets.annotated()),
    _union("adieu_prosody", frame_sets.waveform_6s(), frame_sets.prosodic()),
    *(
      _union(
        f"{by}_windows", frame_sets.functionals(by), frame_sets.annotated()
      )
      for by in frame_sets.WINDOWS
    ),
    *(
      _union(
        f"{by}_windows_prosody",
        frame_sets.functionals(by),
        frame_sets.prosodic(),
      )
      for by in frame_sets.WINDOWS
    ),
  )
}


def frame_rates(name: str) -> dict[str, float]:
  """Frames a second, by the inputs of a feature set that have frames.

  Args:
    name: `config.data.features`.

  Raises:
    UserError: there is no such set.
  """
  if name not in FEATURE_SETS:
    near = difflib.get_close_matches(name, FEATURE_SETS) or FEATURE_SETS
    raise UserError(
      f"config.data.features={name!r} is unknown: did you mean "
      f"{', '.join(near)}?"
    )
  return {
    name: spec.frame_rate
    for name, spec in FEATURE_SETS[name].inputs.items()
    if spec.frame_rate is not None
  }


def require_unchanged(
  name: str,
  made: dict,
  *,
  source: str,
  remedy: str = "predict with the version that trained it (environment.json in "
  "the folder of the training has its commit)",
) -> None:
  """Refuses features that this version would make otherwise.

  Args:
    name: of the feature set.
    made: its recipe when it was used, as read from JSON.
    source: what messages call the model, or the shards.
    remedy: what to do about it.

  Raises:
    UserError: the set is gone, or made otherwise by now.
  """
  now = FEATURE_SETS.get(name)
  if now is None or json.loads(json.dumps(now.recipe)) != made:
    raise UserError(
      f"{source} rests on {name} made otherwise than this version makes it: "
      f"{remedy}."
    )
