"""Task names in a config -> the stages that they train."""

from ser_jax.tasks import (
  adversarial_autoencoder,
  classify,
  complementary,
  domain_adversarial,
  regress,
)

TASKS = {
  "adversarial_autoencoder": adversarial_autoencoder.stages,
  "classify": classify.stages,
  "complementary": complementary.stages,
  "domain_adversarial": domain_adversarial.stages,
  "regress": regress.stages,
}
