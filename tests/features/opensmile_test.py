"""openSMILE is the reference of NumPy's MFCC_E_D_A."""

import importlib.util
import subprocess
import sys

import numpy as np
import pytest

from ser_jax.errors import UserError
from ser_jax.features import audio, opensmile, spectral
from ser_jax.features.sets import FEATURE_SETS

RATE = 16000
pytestmark = pytest.mark.usefixtures("opensmile_installed")


def in_16_bits(samples):
  return (np.round(samples * 32768) / 32768).astype(np.float32)


def noise(samples, sigma=0.1):
  return in_16_bits(np.random.default_rng(0).normal(0, sigma, samples))


def glide():
  phase = np.cumsum(np.linspace(100, 7000, RATE)) * 2 * np.pi / RATE
  # A pure tone would leave most bands to the rounding of float32.
  return in_16_bits(0.5 * np.sin(phase) + noise(RATE, sigma=1e-3))


SIGNALS = {
  "noise": noise(RATE),
  "quiet": noise(RATE, sigma=1e-4),
  "glide": glide(),
  "half silent": np.concatenate([noise(RATE), np.zeros(RATE, np.float32)]),
  "full scale": in_16_bits(np.clip(noise(RATE, sigma=2.0), -1, 1 - 2**-15)),
  "four frames": noise(400 + 3 * 160),
  "long": noise(60 * RATE),
}


def assert_close(samples):
  reference = opensmile.mfcc_e_d_a(samples, RATE)
  ours = spectral.mfcc_e_d_a(samples, RATE)
  assert reference.shape == ours.shape
  # openSMILE computes in float32; its lifted cepstra reach 100.
  for part, tolerance in (
    (slice(0, 12), 1e-3),
    (slice(12, 13), 1e-5),
    (slice(13, 39), 3e-4),
  ):
    np.testing.assert_allclose(
      ours[:, part], reference[:, part], rtol=0, atol=tolerance
    )


@pytest.mark.parametrize("name", SIGNALS)
def test_numpy_is_opensmile_on_synthetic_signals(name):
  assert_close(SIGNALS[name])


@pytest.mark.parametrize("stem", ["03a01Fa", "08b03Tc", "16b10Wb"])
def test_numpy_is_opensmile_on_real_speech(corpora, stem):
  samples, rate = audio.load(corpora / "emodb" / f"{stem}.flac")
  assert rate == RATE
  assert_close(samples)


@pytest.mark.parametrize("samples", [400, 559, 560, 5000, 5039, 5040])
def test_frame_counts_agree(samples):
  found = opensmile.mfcc_e_d_a(noise(samples), RATE)
  assert len(found) == 1 + (samples - 400) // 160


def test_set_differs_from_the_default_in_the_cepstra_alone():
  samples = SIGNALS["glide"]
  ours = FEATURE_SETS["ds_lstm"].extract(samples, RATE)
  theirs = FEATURE_SETS["ds_lstm_opensmile"].extract(samples, RATE)
  np.testing.assert_array_equal(ours["s1"], theirs["s1"])
  np.testing.assert_array_equal(ours["s2"], theirs["s2"])
  np.testing.assert_array_equal(
    theirs["mfcc"], opensmile.mfcc_e_d_a(samples, RATE)
  )
  assert FEATURE_SETS["ds_lstm_opensmile"].recipe["mfcc"]["by"] == "opensmile"


@pytest.mark.parametrize(
  ("name", "standard", "level"),
  [
    ("is13_functionals", "IS13", "Functionals"),
    ("is13_lld", "IS13", "LowLevelDescriptors"),
    ("is10_functionals", "IS10", "Functionals"),
    ("egemaps", "eGeMAPSv02", "Functionals"),
  ],
)
def test_standard_sets_are_those_of_the_package(name, standard, level):
  # The guarded library first: see test_tensorflow_may_be_there_first.
  (ours,) = FEATURE_SETS[name].extract(SIGNALS["noise"], RATE).values()
  import opensmile as package

  reference = package.Smile(
    package.FeatureSet[standard], package.FeatureLevel[level]
  ).process_signal(SIGNALS["noise"], RATE)
  np.testing.assert_array_equal(np.atleast_2d(ours), reference.to_numpy())


def test_full_scale_does_not_wrap():
  """1.0 is one step more than 16 bits hold; wrapped, it would be silence."""
  square = np.where(np.arange(RATE) % 160 < 80, 1.0, -1.0).astype(np.float32)
  level = FEATURE_SETS["egemaps"].extract(square, RATE)["functionals"][-1]
  assert level == pytest.approx(0.0, abs=0.01)  # dB of full scale


def test_without_opensmile_the_remedy_is_named(monkeypatch):
  opensmile._opensmile.cache_clear()
  monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
  with pytest.raises(UserError, match=r"pip install 'ser_jax\[opensmile\]'"):
    FEATURE_SETS["ds_lstm_opensmile"].extract(SIGNALS["noise"], RATE)


def test_tensorflow_may_be_there_first():
  """Both export `rdft`; the wrong one aborts the process."""
  program = (
    "import tensorflow, numpy as np\n"
    "from ser_jax.features import opensmile\n"
    "noise = np.random.default_rng(0).normal(0, 0.1, 80000)\n"
    "for _ in range(5):\n"
    "  opensmile.mfcc_e_d_a(noise.astype(np.float32), 16000)\n"
  )
  subprocess.run([sys.executable, "-c", program], check=True)
