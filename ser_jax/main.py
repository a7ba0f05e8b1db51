"""Command line: python -m ser_jax.main --config=configs/ds_lstm.py."""

import pathlib

from absl import flags
from ml_collections import config_flags

from ser_jax import command_line
from ser_jax.demo import command as after_training
from ser_jax.errors import UserError

_CONFIG = config_flags.DEFINE_config_file(
  "config", None, "Config file, with its words: configs/ds_lstm.py:dual,emodb."
)
_WORKDIR = flags.DEFINE_string(
  "workdir", None, "Where to write; resumed if it exists. Default: runs/NAME."
)
_MODE = flags.DEFINE_enum(
  "mode",
  "train",
  ["train", "evaluate", "analyze", "profile", *after_training.MODES],
  "What to do; predict takes files and folders as arguments.",
)
_COMPARE = flags.DEFINE_string(
  "compare",
  None,
  "With --mode=analyze: another analysis.json, to compare with.",
)
_PROFILER_PORT = flags.DEFINE_integer(
  "profiler_port", None, "Let xprof connect to the process at this port."
)
_DISTRIBUTED = flags.DEFINE_bool(
  "distributed", False, "Join the other processes of a cluster first."
)

# So that --help lists its flags, too.
flags.adopt_module_key_flags(after_training)


def default_workdir(config) -> pathlib.Path:
  """A folder named after what is trained."""
  parts = (config.system, config.variant, config.data.corpus)
  return pathlib.Path("runs") / "-".join(part for part in parts if part)


def _refuse_config() -> None:
  """Refuses a config where that of the workdir is meant."""
  if _CONFIG.value is not None:
    raise UserError(
      f"--mode={_MODE.value} takes the config from --workdir: leave --config "
      "out."
    )


def run(argv) -> int:
  """Runs the mode asked for."""
  after_training.check_flags(_MODE.value)
  if _MODE.value in after_training.MODES:
    _refuse_config()
    return after_training.run(_MODE.value, _WORKDIR.value, argv[1:])
  command_line.refuse_arguments(argv)
  if _CONFIG.value is None:
    raise UserError(
      f"--mode={_MODE.value} needs --config: a file of configs/, such as "
      "--config=configs/ds_lstm.py."
    )
  import jax  # after the flags are known to be good

  from ser_jax import experiment
  from ser_jax.analysis import modes as analysis
  from ser_jax.train import processes
  from ser_jax.train.loop import Stopped

  if _DISTRIBUTED.value:
    processes.join()
  if _PROFILER_PORT.value:
    jax.profiler.start_server(_PROFILER_PORT.value)
  config = _CONFIG.value
  workdir = pathlib.Path(_WORKDIR.value or default_workdir(config))
  seen = command_line.stop_on_signals() if _MODE.value == "train" else []
  if _COMPARE.value and _MODE.value != "analyze":
    raise UserError("--compare goes with --mode=analyze alone: leave it out.")
  try:
    if _MODE.value == "analyze":
      report = analysis.analyze(config, workdir, _COMPARE.value)
    elif _MODE.value == "profile":
      report = analysis.profile(config, workdir)
    elif _MODE.value == "evaluate":
      report = experiment.evaluate(config, workdir)
    else:
      with analysis.tracing(config, workdir, lambda: bool(seen)) as should_stop:
        report = experiment.train(config, workdir, should_stop=should_stop)
  except Stopped:
    return command_line.stopped(seen)
  if processes.primary():
    print(report["text"])
  return 1 if report.get("diverged") else 0


if __name__ == "__main__":
  command_line.start(run)
