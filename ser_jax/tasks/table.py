"""Task names in a config -> the stages that they train."""

from ser_jax.tasks import classify, domain_adversarial

TASKS = {
  "classify": classify.stages,
  "domain_adversarial": domain_adversarial.stages,
}
