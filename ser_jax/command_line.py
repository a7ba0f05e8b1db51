"""What our programs share: flags, signals, log lines and one-line errors."""

import logging
import signal
import sys
from collections.abc import Callable

from absl import app, flags
from absl import logging as absl_logging

from ser_jax import memory, overrides
from ser_jax.errors import UserError


def stop_on_signals() -> list[int]:
  """Notes SIGTERM and SIGINT in the list returned; a second one kills."""
  seen = []

  def note(number, frame):
    del frame
    seen.append(number)
    signal.signal(number, signal.SIG_DFL)

  for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, note)
  return seen


def stopped(seen: list[int]) -> int:
  """Tells that the work can go on later; the exit status of the signal."""
  print("stopped; the same command resumes", file=sys.stderr)
  return 128 + seen[0]


def refuse_arguments(argv: list[str]) -> None:
  """Refuses what is not a flag.

  Raises:
    UserError: there is something.
  """
  if len(argv) > 1:
    raise UserError(
      f"what is {' '.join(argv[1:])}? Only --mode=predict of ser_jax.main "
      "takes files; flags are written --name=value (--help lists them)."
    )


def _parse_flags(argv: list[str]) -> list[str]:
  """Parses flags; what is wrong with them is one line, not a traceback."""
  known = flags.FLAGS
  try:
    if overrides.FLAG not in known:
      return known(argv)
    overrides.check_names(known.read_flags_from_files(argv, force_gnu=False))
    left = known(argv)
    overrides.check_values(known[overrides.FLAG])
    return left
  except UserError as error:
    message = str(error)
  except (
    *(flags.Error, OSError, TypeError, ValueError),
    *(AttributeError, LookupError),
  ) as error:
    message = f"{' '.join(str(error).split())} (--help lists the flags)"
  print(f"error: {message}", file=sys.stderr)
  sys.exit(2)


def _refused(error: OSError) -> str:
  """What the system would not do: a full disk, say, or a missing right."""
  name = "a file" if error.filename is None else error.filename
  return (
    f"{name} cannot be read or written ({error.strerror or error}): free space "
    "on its disk, or see to its permissions; the same command resumes."
  )


def start(run: Callable[[list[str]], int]) -> None:
  """Runs a program.

  Args:
    run: arguments to exit status; a `UserError`, or what the system refuses to
      do with a file, becomes one line.
  """

  def guarded(argv):
    try:
      return run(argv)
    except UserError as error:
      message, status = str(error), error.status
    except OSError as error:
      message, status = _refused(error), UserError.status
    print(f"error: {message}", file=sys.stderr)
    return status

  memory.keep_freed()
  absl_logging.set_verbosity(absl_logging.WARNING)
  # What orbax's threads log as tracebacks it raises, too.
  absl_logging.get_absl_logger().addFilter(lambda record: not record.exc_info)
  for stream in (sys.stdout, sys.stderr):
    # Names of files need not be text, and a terminal's letters may be few.
    stream.reconfigure(errors="backslashreplace")
  logger = logging.getLogger("ser_jax")
  handler = logging.StreamHandler()
  handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
  logger.addHandler(handler)
  logger.setLevel(logging.INFO)
  logger.propagate = False
  app.run(guarded, flags_parser=_parse_flags)
