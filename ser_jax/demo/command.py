"""--mode=predict and --mode=export: what trained runs are used for.

python -m ser_jax.main --mode=predict --workdir=RUN a.wav FOLDER/
    [--output=out.csv]
python -m ser_jax.main --mode=export --workdir=RUN --output=model.zip
"""

import logging
import pathlib
import sys
import time
from collections.abc import Sequence

from absl import flags

from ser_jax.errors import UserError
from ser_jax.features import cores

LOG = logging.getLogger(__name__)
MODES = ("predict", "export")
OUTPUTS = {"predict": (".csv", ".json"), "export": (".zip",)}

_OUTPUT = flags.DEFINE_string(
  "output",
  None,
  "predict: a .csv or .json file, beside the lines; export: a .zip.",
)
_RUNS = flags.DEFINE_multi_string(
  "run",
  [],
  "predict, export: runs, such as fold0-seed0,fold1-seed0; else all, averaged.",
)
_WINDOW = flags.DEFINE_float(
  "window", 0.0, "predict: seconds of a window; 0: as long as in training."
)
_HOP = flags.DEFINE_float(
  "hop",
  0.0,
  "predict: seconds between windows' starts, from 0.01; 0: end to end.",
)
_WORKERS = flags.DEFINE_integer(
  "workers", 0, "predict: processes that make features; 0: one a core."
)
_SAME_SPEAKER = flags.DEFINE_bool(
  "same_speaker", False, "predict: all files are of one speaker."
)
_FLAGS = (_OUTPUT, _RUNS, _WINDOW, _HOP, _WORKERS, _SAME_SPEAKER)
_OF_EXPORT = ("output", "run")


def check_flags(mode: str) -> None:
  """Refuses flags that the mode has no use for.

  Raises:
    UserError: there is one.
  """
  for flag in _FLAGS:
    modes = [m for m in MODES if m == "predict" or flag.name in _OF_EXPORT]
    if flag.present and mode not in modes:
      raise UserError(
        f"--{flag.name} goes with --mode={' or '.join(modes)} alone: leave it "
        "out."
      )


def run(mode: str, workdir: str | None, arguments: Sequence[str]) -> int:
  """Predicts files, or exports.

  Args:
    mode: one of `MODES`.
    workdir: of an experiment; to predict, an exported file will do.
    arguments: files and folders to predict.

  Returns:
    The exit status: 1 where files could not be read.

  Raises:
    UserError: anything the user can mend.
  """
  if not workdir:
    raise UserError(f"--mode={mode} needs --workdir: the folder of a training.")
  output = _output(mode)
  if mode == "predict":
    return _predict(pathlib.Path(workdir), arguments, output)
  if arguments:
    raise UserError(f"--mode=export takes no files: {' '.join(arguments)}.")
  return _export(pathlib.Path(workdir), output)


def _output(mode: str) -> pathlib.Path | None:
  """The file to write; None for none, which a prediction does without."""
  if _OUTPUT.value is None and mode == "predict":
    return None
  output = pathlib.Path(_OUTPUT.value or "")
  if output.suffix not in OUTPUTS[mode]:
    raise UserError(
      f"--mode={mode} writes to --output, a file ending in "
      f"{' or '.join(OUTPUTS[mode])}; it is {_OUTPUT.value or 'not given'}."
    )
  return output


def _predict(
  workdir: pathlib.Path, arguments: Sequence[str], output: pathlib.Path | None
) -> int:
  from ser_jax.demo import clips, files
  from ser_jax.demo import output as outputs

  if _WORKERS.value < 0:
    raise UserError(f"--workers={_WORKERS.value} must be at least 0.")
  paths, others = files.find_files(arguments)
  if output:
    outputs.require_writable(output)
  model = _load(workdir)
  files.check_speaker(model.recipe, _SAME_SPEAKER.value)
  windows = clips.make_windows(model.recipe, _WINDOW.value, _HOP.value)
  start = time.perf_counter()
  recordings, bad = files.predict_files(
    model,
    paths,
    windows,
    workers=_WORKERS.value or cores.available(),
    same_speaker=_SAME_SPEAKER.value,
  )
  seconds = time.perf_counter() - start
  for found in recordings:
    print(outputs.as_line(model.recipe, found))
  if output:
    outputs.write(output, model, recordings, bad)
  print(_summary(model, recordings, seconds) + _left_out(others), end="")
  print(f"; {output}" if output else "")
  for reason in bad.values():
    print(f"unreadable: {reason}", file=sys.stderr)
  return 1 if bad else 0


def _summary(model, recordings: Sequence, seconds: float) -> str:
  """What was predicted, by whom, and how fast."""
  heard = sum(found.clips[-1].end for found in recordings)
  told = (
    f"{len(recordings)} recordings ({heard:.0f} s) by {len(model.runs)} runs "
    f"of {model.recipe.system} in {seconds:.1f} s"
  )
  return told + (f": real-time factor {seconds / heard:.4f}" if heard else "")


def _left_out(others: Sequence[pathlib.Path]) -> str:
  """How many files of other kinds were in the folders; nothing if none."""
  if not others:
    return ""
  kinds = sorted({path.suffix.lower() or path.name for path in others})
  shown = ", ".join(kinds[:5]) + (", ..." if len(kinds) > 5 else "")
  return f"; {len(others)} files of other kinds left out ({shown})"


def _names() -> list[str]:
  """Of the runs asked for, with commas between them or one by one."""
  return [name for name in ",".join(_RUNS.value).split(",") if name]


def _load(workdir: pathlib.Path):
  if workdir.is_file():
    from ser_jax import export

    return export.read(workdir, _names())
  from ser_jax.demo import predictor

  return predictor.load(workdir, _names())


def _export(workdir: pathlib.Path, output: pathlib.Path) -> int:
  from ser_jax import export
  from ser_jax.demo import output as outputs
  from ser_jax.demo import predictor
  from ser_jax.trained import open_runs

  if workdir.is_file():
    raise UserError(
      f"--workdir={workdir} is a file, such as --mode=export writes: give the "
      "folder of the training; --mode=predict takes an export as it is."
    )
  outputs.require_writable(output)
  opened = open_runs(workdir, _names(), devices=1)
  size = export.write(
    output,
    opened.recipe,
    opened.names,
    opened.config.batch_size,
    *predictor.pure_step(opened),
  )
  print(
    f"{', '.join(opened.names)} of {opened.recipe.system} for "
    f"{', '.join(export.PLATFORMS)}: {size / 1e6:.1f} MB in {output}"
  )
  return 0
