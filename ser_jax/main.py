"""Command line: python -m ser_jax.main --config=configs/ds_lstm.py."""

import logging
import pathlib
import signal
import sys

from absl import app, flags
from absl import logging as absl_logging
from ml_collections import config_flags

from ser_jax.errors import UserError

_CONFIG = config_flags.DEFINE_config_file(
  "config", None, "Config file, with its words: configs/ds_lstm.py:dual,emodb."
)
_WORKDIR = flags.DEFINE_string(
  "workdir", None, "Where to write; resumed if it exists. Default: runs/NAME."
)
_MODE = flags.DEFINE_enum(
  "mode", "train", ["train", "evaluate", "analyze", "profile"], "What to do."
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
flags.mark_flag_as_required("config")


def _stop_on_signals():
  """Answers whether SIGTERM or SIGINT has come; a second one kills."""
  seen = []

  def note(number, frame):
    del frame
    seen.append(number)
    signal.signal(number, signal.SIG_DFL)

  for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, note)
  return seen


def default_workdir(config) -> pathlib.Path:
  """A folder named after what is trained."""
  parts = (config.system, config.variant, config.data.corpus)
  return pathlib.Path("runs") / "-".join(part for part in parts if part)


def run(argv) -> int:
  """Runs the mode asked for."""
  if len(argv) > 1:
    raise app.UsageError(f"unknown arguments: {' '.join(argv[1:])}")
  import jax  # after the flags are known to be good

  from ser_jax import experiment
  from ser_jax.analysis import modes as analysis
  from ser_jax.train.loop import Stopped

  if _DISTRIBUTED.value:
    jax.distributed.initialize()
  if _PROFILER_PORT.value:
    jax.profiler.start_server(_PROFILER_PORT.value)
  config = _CONFIG.value
  workdir = pathlib.Path(_WORKDIR.value or default_workdir(config))
  seen = _stop_on_signals()
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
    print("stopped; the same command resumes", file=sys.stderr)
    return 128 + seen[0]
  print(report["text"])
  return 0


def parse_flags(argv: list[str]) -> list[str]:
  """Parses flags; what is wrong with them is one line, not a traceback."""
  try:
    return flags.FLAGS(argv)
  except (
    flags.Error,
    AttributeError,
    KeyError,
    OSError,
    TypeError,
    ValueError,
  ) as bad:
    print(
      f"error: {_one_line(bad)} (--help lists the flags; the fields of "
      "--config.FIELD are those of its config file)",
      file=sys.stderr,
    )
    sys.exit(2)


def _one_line(error: Exception) -> str:
  """The message of an error without the traceback that it may quote."""
  text = str(error).replace("\\n", "\n")
  lines = [line.strip("\\\"' ") for line in text.splitlines() if line.strip()]
  if "Traceback" in text:
    return lines[-1].removeprefix("ValueError: ")
  return " ".join(lines)


def _guarded(argv) -> int:
  """Prints what a user can mend without a traceback."""
  try:
    return run(argv)
  except UserError as error:
    print(f"error: {error}", file=sys.stderr)
    return 2


def main() -> None:
  """Entry point of `python -m ser_jax.main`."""
  absl_logging.set_verbosity(absl_logging.WARNING)
  logger = logging.getLogger("ser_jax")
  handler = logging.StreamHandler()
  handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
  logger.addHandler(handler)
  logger.setLevel(logging.INFO)
  logger.propagate = False
  app.run(_guarded, flags_parser=parse_flags)


if __name__ == "__main__":
  main()
