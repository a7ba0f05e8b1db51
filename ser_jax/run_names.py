"""How runs are called, in folders, logs and reports alike."""


def run_name(fold: str, seed: int, rate: float | None = None) -> str:
  """A run's name, unique within an experiment.

  Args:
    fold: its name.
    seed: of initialisation and batches.
    rate: the learning rate, where runs differ in it.

  Returns:
    Such as `fold0-seed0`, `fold0-seed0-lr0.001`.
  """
  return f"{fold}-seed{seed}{rate_suffix(rate)}"


def rate_suffix(rate: float | None) -> str:
  """What names end with where runs differ in their rate."""
  return "" if rate is None else f"-lr{rate:g}"
