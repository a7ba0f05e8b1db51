"""Feature sets by name: the only door from audio to arrays.

The same code serves shards and inference. A recipe is plain data and travels in
the shards' metadata, so that features made otherwise are never mixed in.
"""

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np
from jaxtyping import Float

from ser_jax.features import audio, opensmile, spectral

Samples = Float[np.ndarray, "samples"]
Features = dict[str, Float[np.ndarray, "..."]]


@dataclasses.dataclass(frozen=True)
class InputSpec:
  """One array that a set makes.

  Attributes:
    dim: features a frame, or in all.
    frame_rate: frames a second; None for functionals, one vector an utterance.
  """

  dim: int
  frame_rate: float | None


@dataclasses.dataclass(frozen=True)
class FeatureSet:
  """A named recipe.

  Attributes:
    name: as in `config.data.features`.
    rate: the rate in Hz that the recipe works at.
    least: samples at that rate that one frame needs.
    inputs: what it makes.
    recipe: all that determines the result, as plain data.
    compute: mono samples at `rate` to arrays.
  """

  name: str
  rate: int
  least: int
  inputs: Mapping[str, InputSpec]
  recipe: Mapping[str, object]
  compute: Callable[[Samples], Features]

  def extract(
    self, samples: Samples, rate: int, *, pad_to: int | None = None
  ) -> Features:
    """Computes every input of the set.

    Args:
      samples: mono, in [-1, 1].
      rate: of the samples, in Hz.
      pad_to: samples, at the recipe's rate, to pad with zeros to.

    Returns:
      Input name to float32 `[time, dim]`, or `[dim]` for functionals.

    Raises:
      UserError: audio that is empty, silent, not finite or too short.
    """
    samples = audio.check(samples, source="the audio")
    samples = audio.resample(samples, rate, self.rate)
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


FEATURE_SETS = {
  feature_set.name: feature_set
  for feature_set in (
    _ds_lstm("ds_lstm", (256, 512)),
    _ds_lstm("ds_lstm_code", (512, 1024)),
    _ds_lstm("ds_lstm_opensmile", (256, 512), by="opensmile"),
  )
}
