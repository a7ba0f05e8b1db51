"""Task names in a config -> the stages that they train."""

from ser_jax.tasks import classify

TASKS = {"classify": classify.stages}
