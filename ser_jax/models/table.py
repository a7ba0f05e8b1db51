"""Model names in a config -> Linen modules."""

from ser_jax.models.ds_lstm import DSLSTMModel
from ser_jax.models.speaker_invariant import SpeakerInvariant

MODELS = {
  "ds_lstm": DSLSTMModel,
  "speaker_invariant": SpeakerInvariant,
}
