"""Model names in a config -> Linen modules."""

from ser_jax.models.ds_lstm import DSLSTMModel

MODELS = {"ds_lstm": DSLSTMModel}
