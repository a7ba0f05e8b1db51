"""Raw corpus -> shards: `python -m data_prep.build --corpus=emodb ...`.

Stopped or killed, the same command goes on where it was.
"""

import logging
import pathlib
import sys

from absl import app, flags
from absl import logging as absl_logging

from data_prep.copies import at_speeds
from data_prep.corpora import CORPORA, synthetic
from data_prep.write_shards import write_shards
from ser_jax.errors import UserError
from ser_jax.features import cores
from ser_jax.features.sets import FEATURE_SETS

_CORPUS = flags.DEFINE_enum(
  "corpus", None, sorted(CORPORA), "What to read.", required=True
)
_RAW = flags.DEFINE_string(
  "raw",
  None,
  "Folder of the corpus as unpacked; a synthetic one is generated if absent.",
  required=True,
)
_FEATURES = flags.DEFINE_enum(
  "features", None, sorted(FEATURE_SETS), "What to extract.", required=True
)
_OUT = flags.DEFINE_string("out", None, "Folder to make.", required=True)
_SPEEDS = flags.DEFINE_multi_string(
  "speeds",
  [],
  "Speeds of copies of every utterance, for training parts: 0.95,1.05.",
)
_WORKERS = flags.DEFINE_integer(
  "workers",
  cores.available(),
  "Processes that extract features; 0 to work in this one.",
  lower_bound=0,
)
_ALLOW_PARTIAL = flags.DEFINE_bool(
  "allow_partial", False, "Accept a corpus of which files are missing."
)
_SKIP_BAD = flags.DEFINE_bool(
  "skip_bad", False, "Go on without recordings that cannot be used."
)
_OVERWRITE = flags.DEFINE_bool(
  "overwrite", False, "Replace finished shards, even if they are the same."
)
_UTTERANCES = flags.DEFINE_integer(
  "synthetic_utterances", None, "Of each of the ten synthetic speakers."
)
_SECONDS = flags.DEFINE_float(
  "synthetic_seconds", None, "Mean duration of synthetic utterances."
)
_SEED = flags.DEFINE_integer("synthetic_seed", None, "Of the synthetic corpus.")


def main(argv: list[str]) -> None:
  """Builds the shards that the flags ask for.

  Raises:
    UserError: anything the user can mend.
  """
  if argv[1:]:
    raise UserError(f"{argv[1]} is not a flag: they are --name=value.")
  # TFDS tells of folders that are not there any more when it has finished.
  absl_logging.set_verbosity(absl_logging.WARNING)
  logging.getLogger("data_prep").setLevel(logging.INFO)
  raw, out = pathlib.Path(_RAW.value), pathlib.Path(_OUT.value)
  if _CORPUS.value == "synthetic":
    _prepare_synthetic(raw)
  utterances = CORPORA[_CORPUS.value](raw, allow_partial=_ALLOW_PARTIAL.value)
  speeds = _read_speeds(_SPEEDS.value)
  metadata, written = write_shards(
    at_speeds(utterances, speeds, FEATURE_SETS[_FEATURES.value]),
    _CORPUS.value,
    _FEATURES.value,
    out,
    workers=_WORKERS.value,
    skip_bad=_SKIP_BAD.value,
    overwrite=_OVERWRITE.value,
  )
  print(_summary(out, metadata, written))


def _read_speeds(given: list[str]) -> list[float]:
  try:
    return [float(speed) for speed in ",".join(given).split(",") if speed]
  except ValueError as error:
    raise UserError(
      f"--speeds={','.join(given)} must be numbers with commas between, such "
      "as 0.95,1.05."
    ) from error


def _prepare_synthetic(raw: pathlib.Path) -> None:
  """Generates the corpus if absent; checks its settings if not.

  Raises:
    UserError: it is there with other settings than the flags ask for.
  """
  options = {
    "utterances": _UTTERANCES.value,
    "seconds": _SECONDS.value,
    "seed": _SEED.value,
  }
  asked = {k: v for k, v in options.items() if v is not None}
  if synthetic.is_absent(raw):
    synthetic.generate(raw, synthetic.Settings(**asked))
  present = synthetic.read_settings(raw)
  for name, value in asked.items():
    if getattr(present, name) != value:
      raise UserError(
        f"--synthetic_{name}={value}, but the corpus at {raw} was generated "
        f"with {getattr(present, name)}: give another --raw, or delete it."
      )


def _summary(out: pathlib.Path, metadata: dict, written: bool) -> str:
  counts = metadata["counts"]
  lines = [
    f"{out}: {counts['utterances']} utterances of {counts['speakers']} "
    f"speakers"
    + (f" and {counts['copies']} copies" if counts["copies"] else "")
    + f", {metadata['features']}"
    + ("." if written else "; they were there already, and are the same.")
  ]
  speed = metadata["throughput"]
  if written and speed["utterances"]:
    lines.append(
      f"Extracted {speed['utterances']} with {speed['workers']} workers: "
      f"{speed['utterances_per_second']:.1f} utterances/s, real-time factor "
      f"{speed['real_time_factor']:.4f}."
    )
  if metadata["skipped"]:
    lines.append(f"Left out {len(metadata['skipped'])} recordings:")
    lines += [f"  {name}: {why}" for name, why in metadata["skipped"].items()]
  return "\n".join(lines)


def parse_flags(argv: list[str]) -> list[str]:
  """Parses flags, with dashes in their names as good as underscores.

  What is wrong with them is one line.
  """
  flat = []
  for argument in argv:
    name, equals, value = argument.partition("=")
    if name.startswith("--"):
      name = "--" + name[2:].replace("-", "_")
    flat.append(name + equals + value)
  try:
    return flags.FLAGS(flat)
  except flags.Error as error:
    told = " ".join(str(error).split())
    print(f"error: {told} (--help lists the flags)", file=sys.stderr)
    sys.exit(2)


def run(argv: list[str]) -> None:
  """Runs `main`; what the user can mend is told without a traceback."""
  try:
    main(argv)
  except UserError as error:
    print(f"error: {error}", file=sys.stderr)
    sys.exit(2)
  except KeyboardInterrupt:
    print("stopped: the same command goes on from here.", file=sys.stderr)
    sys.exit(130)


if __name__ == "__main__":
  app.run(run, flags_parser=parse_flags)
