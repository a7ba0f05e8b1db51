"""A published table, trained cell by cell and printed beside the paper's.

  python -m ser_jax.reproduce --table=configs/tables/dat_table1.py \
      --corpus=emodb --raw=DIR --seeds=5

Every row is an experiment in a folder of its own; what is finished is not done
again, so that the same command resumes, and seeds add to those there.
"""

import ast
import difflib
import itertools
import json
import logging
import pathlib
import runpy
from collections.abc import Callable

from absl import flags
from ml_collections import ConfigDict

from ser_jax import (
  assembly,
  atomic,
  command_line,
  experiment,
  reporting,
  workdir,
)
from ser_jax.data.contours import CONTOURS
from ser_jax.data.dataset import load_dataset
from ser_jax.errors import UserError
from ser_jax.evaluation import (
  baselines,
  conditions,
  contour_baselines,
  contour_tables,
  pooled,
  report,
  sweeps,
  table_figures,
  tables,
)
from ser_jax.train import loop

LOG = logging.getLogger("ser_jax.reproduce")  # Run as __main__, too.
FUNCTIONALS, WINDOWS = "functionals", "windows"
# What a table file tells of its table, see `tables.render`.
TOLD = ("by", "extra", "note", "published")


def load_table(path: str, corpus: str) -> dict:
  """Reads a table file.

  Raises:
    UserError: no such file, one that is no table, or a corpus that its rows do
      not know.
  """
  if not pathlib.Path(path).is_file():
    raise UserError(f"--table={path} does not exist: see configs/tables/.")
  try:
    make = runpy.run_path(path).get("get_table")
    if not callable(make):
      raise ImportError("it has none")
  except (ImportError, SyntaxError) as error:
    raise UserError(
      f"--table={path} is no table with a function get_table ({error}): give "
      "a file of configs/tables/."
    ) from error
  try:
    return make(corpus)
  except ValueError as error:
    raise UserError(f"--table={path} --corpus={corpus}: {error}") from error


def override(config: ConfigDict, assignments: list[str]) -> None:
  """Sets fields given as `a.b=value`.

  Raises:
    UserError: a field that does not exist, or a value of another type.
  """
  for assignment in assignments:
    field, equals, text = assignment.partition("=")
    section, name = _find(config, field, assignment)
    value = section[name]
    if isinstance(value, ConfigDict):
      raise UserError(
        f"--set={assignment}: config.{field} is a section: set its fields one "
        f"by one, such as --set={field}.{next(iter(value), 'NAME')}=VALUE."
      )
    try:
      if not equals:
        raise ValueError("a name alone")
      section[name] = text if isinstance(value, str) else ast.literal_eval(text)
    except (SyntaxError, TypeError, ValueError) as error:
      raise UserError(
        f"--set={assignment}: give NAME=VALUE with a Python literal of type "
        f"{section.get_type(name).__name__}, such as --set='{field}={value}'."
      ) from error


def _find(
  config: ConfigDict, field: str, assignment: str
) -> tuple[ConfigDict, str]:
  """The section that has a field, and the field's name there.

  Raises:
    UserError: there is no such field.
  """
  path, value = [], config
  for name in field.split("."):
    section = value
    if not isinstance(section, ConfigDict):
      raise UserError(
        f"--set={assignment}: config.{'.'.join(path)} is the value "
        f"{section!r}, which has no fields."
      )
    path.append(name)
    if name not in section:
      near = difflib.get_close_matches(name, section, n=3) or sorted(section)
      raise UserError(
        f"--set={assignment}: there is no config.{'.'.join(path)}; did you "
        f"mean {', '.join(near)}?"
      )
    value = section[name]
  return section, name


def run_baseline(
  name: str, like: ConfigDict, folder: pathlib.Path, normalize: str = "train"
) -> None:
  """Writes a baseline's report into a folder, if it has none of this config.

  Args:
    name: `majority`, or a feature set of functionals for a linear SVM; of
      contours, one of windows for a linear regressor.
    like: a row's config: corpus, labels and protocol are taken from it.
    folder: where to write.
    normalize: see `configs/tables/rows.py`.

  Raises:
    UserError: the functionals cannot be built, or the folder has the report of
      another config.
  """
  config, key = like.copy_and_resolve_references(), None
  config.data.unlock()
  in_time = config.data.target == CONTOURS
  baseline = baselines.majority
  if name != baselines.MAJORITY:
    baseline, key = baselines.linear_svm, FUNCTIONALS
    if in_time:
      baseline, key = contour_baselines.linear_svr, WINDOWS
    config.data.features, config.data.shards = name, ""
    config.data.speeds = ()
    # The baseline itself standardises by the training part.
    config.data.inputs = {
      key: {
        "resample": False,
        "standardize": normalize == "speaker",
        "normalize": normalize,
        "clip": 0.0,
        "buckets": (),
      }
    }
  if _is_measured(config, folder):
    return
  assembly.ensure_shards(config)
  dataset = load_dataset(config)
  if in_time:
    found = contour_baselines.predict(dataset, key)
  else:
    metric = config.selection.metric
    found = {"predictions": baselines.predict(baseline, dataset, metric, key)}
  for stem, arrays in found.items():
    atomic.write_arrays(folder / f"{stem}.npz", arrays)
  described = reporting.describe_data(config, dataset)
  report.write_report(
    folder,
    described
    | {
      "system": baseline.__name__,
      "variant": name,
      "parameters": 0,
      "paper": {},
      "epochs": 0,
      # The majority class reads no input.
      "transductive": key is not None and described["transductive"],
    },
  )


def _is_measured(config: ConfigDict, folder: pathlib.Path) -> bool:
  """Whether a folder has the report of a baseline; keeps its config there.

  Raises:
    UserError: it was measured under another config.
  """
  if not (folder / workdir.CONFIG).exists():
    for name in ("report.json", "predictions.npz"):  # of who knows what
      (folder / name).unlink(missing_ok=True)
  folder.mkdir(parents=True, exist_ok=True)
  # What trains a network is no matter of a baseline.
  fields = {name: config[name].to_dict() for name in ("data", "protocol")}
  fields["selection"] = {"metric": config.selection.metric}
  workdir.keep_config(folder, fields)
  return (folder / "report.json").exists()


def _select(rows: list[dict], only: list[str]) -> list[dict]:
  """The rows of these names, or with these in their names; all if none."""
  names, wanted = [row["name"] for row in rows], set()
  for part in only:
    fits = [part] if part in names else [n for n in names if part in n]
    if not fits:
      raise UserError(
        f"--rows={part} fits none of the table's: {', '.join(names)}."
      )
    wanted.update(fits)
  return [row for row in rows if not only or row["name"] in wanted]


def prepare(
  rows: list[dict], only: list[str], seeds: int, raw: str, changes: list[str]
) -> list[dict]:
  """The rows asked for, with configs as the flags want them.

  Args:
    rows: of the table.
    only: names, or parts of names; none for all rows.
    seeds: seeds of every row.
    raw: raw corpus; empty to leave it as it is.
    changes: see `override`.

  Returns:
    Those rows, copied: the table's own keep their configs.

  Raises:
    UserError: flags that fit no row or no config.
  """
  wanted = [_changed(row, raw, seeds, changes) for row in _select(rows, only)]
  for row in wanted:
    experiment.check(row["config"])
  return wanted


def _changed(row: dict, raw: str, seeds: int, changes: list[str]) -> dict:
  """A row with a config of its own, as the flags want it."""
  config = row["config"].copy_and_resolve_references()
  config.seeds = tuple(range(seeds))
  config.data.raw = raw or config.data.raw
  override(config, changes)
  return row | {"config": config}


def keep_seeds(rows: list[dict], folder: pathlib.Path) -> None:
  """Adds the seeds that rows already have to those of their configs.

  Args:
    rows: to be trained.
    folder: with a folder for each row.
  """
  for row in rows:
    seeds = workdir.seeds(folder / row["name"], row["config"].seeds)
    row["config"].seeds = tuple(itertools.chain(*seeds))


def write_table(table: dict, corpus: str, folder: pathlib.Path) -> str:
  """Writes `table.json`, `table.md` and `table.png`; returns the Markdown."""
  if table.get("sweep"):
    title = f"{table['title']}, {corpus}"
    return sweeps.write(table["rows"], folder, table["metric"], title)
  reports = conditions.read(table["rows"], folder)
  kind, draw = contour_tables, contour_tables.draw
  if table["metric"] != "ccc":
    kind, draw = tables, table_figures.draw
    reports = pooled.with_counts(reports, folder)
  found = kind.compare(table["rows"], reports, table["metric"])
  found |= {key: table[key] for key in TOLD if key in table}
  whose = corpus, table["paper_corpus"]
  text = kind.render(found, table["title"], *whose)
  atomic.write_text(folder / "table.json", json.dumps(found, indent=1))
  atomic.write_text(folder / "table.md", text)
  path = folder / "table.png"
  draw(found, path, table["title"], table["x"], *whose)
  return text


def fill_row(
  row: dict, folder: pathlib.Path, should_stop: Callable[[], bool]
) -> bool:
  """Measures a row, as far as it is not done.

  Args:
    row: of a network or of a baseline.
    folder: with a folder for each row.
    should_stop: see `experiment.train`.

  Returns:
    Whether all its runs are there: False where some or all diverged.

  Raises:
    UserError: anything else that the user can mend.
    Stopped: `should_stop` said so.
  """
  name, config = row["name"], row["config"]
  if "baseline" in row:
    whose = row.get("normalize", "train")
    run_baseline(row["baseline"], config, folder / name, whose)
    return True
  try:
    report = experiment.train(config, folder / name, should_stop=should_stop)
  except loop.Diverged as error:
    LOG.error("row %s is left out: %s", name, error)
    return False
  return not report.get("diverged")


def run(argv: list[str]) -> int:
  """Trains what is missing, then prints the table."""
  command_line.refuse_arguments(argv)
  given = flags.FLAGS
  corpus = given.corpus
  table = load_table(given.table, corpus)
  name = f"{pathlib.Path(given.table).stem}-{corpus}"
  folder = pathlib.Path(given.workdir or f"runs/{name}")
  networks = [row for row in table["rows"] if "baseline" not in row]
  names = [name for name in ",".join(given.rows).split(",") if name]
  trained = prepare(networks, names, given.seeds, given.raw, given.set)
  keep_seeds(trained, folder)
  measured = [
    _changed(row, given.raw, given.seeds, given.set)
    for row in table["rows"]
    if "baseline" in row and given.baselines
  ]
  seen, whole = command_line.stop_on_signals(), True
  try:
    # The cheap rows first: what they lack is known before hours are spent.
    for row in (*measured, *trained):
      whole &= fill_row(row, folder, lambda: bool(seen))
      write_table(table, corpus, folder)
  except loop.Stopped:
    return command_line.stopped(seen)
  print(write_table(table, corpus, folder))
  print(*sorted(folder.glob("table.[mp]*")), sep="\n")
  return 0 if whole else 1


def define_flags() -> None:
  """Here, since other programs of ours have flags of the same names."""
  flags.DEFINE_string("table", None, "File in configs/tables.")
  flags.DEFINE_string("corpus", None, "Corpus to train on.")
  flags.DEFINE_string("raw", "", "Its raw folder, to build missing shards.")
  flags.DEFINE_integer(
    "seeds", 1, "Seeds 0, 1, ... of every row, beside those that it has."
  )
  flags.DEFINE_string(
    "workdir", None, "Where to write. Default: runs/TABLE-CORPUS."
  )
  flags.DEFINE_multi_string(
    "rows", [], "Only rows of these names, or with these in them: a,b."
  )
  flags.DEFINE_bool(
    "baselines", True, "Whether to measure the table's baselines too."
  )
  flags.DEFINE_multi_string(
    "set",
    [],
    "Overrides in every row: --set=epochs=40 --set=parallel.runs=vmap.",
  )
  flags.mark_flags_as_required(["table", "corpus"])


if __name__ == "__main__":
  define_flags()
  command_line.start(run)
