"""Model names in a config -> Linen modules."""

from ser_jax.models.adversarial_autoencoder import AdversarialAutoencoder
from ser_jax.models.complementary import Complementary
from ser_jax.models.ds_lstm import DSLSTMModel
from ser_jax.models.functionals import Functionals
from ser_jax.models.lstm_regressor import LSTMRegressor
from ser_jax.models.raw_waveform import RawWaveform
from ser_jax.models.speaker_invariant import SpeakerInvariant

MODELS = {
  "adversarial_autoencoder": AdversarialAutoencoder,
  "complementary": Complementary,
  "ds_lstm": DSLSTMModel,
  "functionals": Functionals,
  "lstm_regressor": LSTMRegressor,
  "raw_waveform": RawWaveform,
  "speaker_invariant": SpeakerInvariant,
}
