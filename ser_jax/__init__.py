"""Speech emotion recognition in JAX/Flax for accelerator research."""
