"""Task names in a config -> task factories."""

from ser_jax.tasks.classify import classify

TASKS = {"classify": classify}
