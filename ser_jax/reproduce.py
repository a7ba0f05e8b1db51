"""A published table, trained cell by cell and printed beside the paper's.

  python -m ser_jax.reproduce --table=configs/tables/dat_table1.py \
      --corpus=emodb --raw=DIR --seeds=5

Every row is an experiment in a folder of its own; what is finished is not done
again, so that the same command resumes, and more seeds add to those there.
"""

import ast
import difflib
import json
import pathlib
import runpy

from absl import flags
from ml_collections import ConfigDict

from ser_jax import atomic, command_line, experiment, reporting, workdir
from ser_jax.data.contours import CONTOURS
from ser_jax.data.dataset import load_dataset
from ser_jax.errors import UserError
from ser_jax.evaluation import (
  baselines,
  contour_baselines,
  contour_tables,
  report,
  sweeps,
  tables,
)

FUNCTIONALS, WINDOWS = "functionals", "windows"


def load_table(path: str, corpus: str) -> dict:
  """Reads a table file.

  Raises:
    UserError: no such file, or a corpus that its rows do not know.
  """
  if not pathlib.Path(path).is_file():
    raise UserError(f"--table={path} does not exist: see configs/tables/.")
  try:
    return runpy.run_path(path)["get_table"](corpus)
  except ValueError as error:
    raise UserError(f"--table={path} --corpus={corpus}: {error}") from error


def override(config: ConfigDict, assignments: list[str]) -> None:
  """Sets fields given as `a.b=value`.

  Raises:
    UserError: a field that does not exist, or a value of another type.
  """
  for assignment in assignments:
    field, _, text = assignment.partition("=")
    *path, name = field.split(".")
    node = config
    for number, part in enumerate(path):
      node = node.get(part, {})
      if not isinstance(node, ConfigDict | dict):
        raise UserError(
          f"--set={assignment}: config.{'.'.join(path[: number + 1])} is the "
          f"value {node!r}, which has no fields."
        )
    if name not in node:
      near = difflib.get_close_matches(name, node, n=3) or sorted(node)
      raise UserError(
        f"--set={assignment}: there is no config.{field}; did you mean "
        f"{', '.join(near)}?"
      )
    try:
      is_text = isinstance(node[name], str)
      node[name] = text if is_text else ast.literal_eval(text)
    except (SyntaxError, TypeError, ValueError) as error:
      raise UserError(f"--set={assignment}: {error}") from error


def run_baseline(name: str, like: ConfigDict, folder: pathlib.Path) -> None:
  """Writes a baseline's report into a folder, if it has none of this config.

  Args:
    name: `majority`, or a feature set of functionals for a linear SVM; of
      contours, one of windows for a linear regressor.
    like: a row's config: corpus, labels and protocol are taken from it.
    folder: where to write.

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
    config.data.inputs = {
      key: {"resample": False, "standardize": False, "buckets": ()}
    }
  if _is_measured(config, folder):
    return
  experiment.ensure_shards(config)
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
    },
  )


def _is_measured(config: ConfigDict, folder: pathlib.Path) -> bool:
  """Whether a folder has the report of a baseline; keeps its config there.

  Raises:
    UserError: it was measured under another config.
  """
  if not (folder / workdir.CONFIG).exists():
    (folder / "report.json").unlink(missing_ok=True)  # of who knows what
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
    Those rows.

  Raises:
    UserError: flags that fit no row or no config.
  """
  wanted = _select(rows, only)
  for row in wanted:
    config = row["config"]
    config.seeds = tuple(range(seeds))
    config.data.raw = raw or config.data.raw
    override(config, changes)
    experiment.check(config)
  return wanted


def write_table(table: dict, corpus: str, folder: pathlib.Path) -> str:
  """Writes `table.json`, `table.md` and `table.png`; returns the Markdown."""
  if table.get("sweep"):
    title = f"{table['title']}, {corpus}"
    return sweeps.write(table["rows"], folder, table["metric"], title)
  reports = {}
  for row in table["rows"]:
    path = folder / row["name"] / "report.json"
    if path.exists():
      reports[row["name"]] = json.loads(path.read_text())
  kind = contour_tables if table["metric"] == "ccc" else tables
  found = kind.compare(table["rows"], reports, table["metric"])
  found["extra"] = table.get("extra", ())
  text = kind.render(found, table["title"], corpus, table["paper_corpus"])
  atomic.write_text(folder / "table.json", json.dumps(found, indent=1))
  atomic.write_text(folder / "table.md", text)
  kind.draw(found, folder / "table.png", table["title"], table["x"])
  return text


def run(argv: list[str]) -> int:
  """Trains what is missing, then prints the table."""
  command_line.refuse_arguments(argv)
  from ser_jax.train.loop import Stopped

  given = flags.FLAGS
  corpus = given.corpus
  table = load_table(given.table, corpus)
  name = f"{pathlib.Path(given.table).stem}-{corpus}"
  folder = pathlib.Path(given.workdir or f"runs/{name}")
  trained = prepare(
    [row for row in table["rows"] if "baseline" not in row],
    *(given.rows, given.seeds, given.raw, given.set),
  )
  measured = [row for row in table["rows"] if "baseline" in row]
  for row in measured:
    row["config"] = row["config"].copy_and_resolve_references()
    row["config"].data.raw = given.raw or row["config"].data.raw
    override(row["config"], given.set)
  wanted = [*(measured if given.baselines else ()), *trained]
  seen = command_line.stop_on_signals()
  try:
    # The cheap rows first: what they lack is known before hours are spent.
    for row in wanted:
      if "baseline" in row:
        run_baseline(row["baseline"], row["config"], folder / row["name"])
      else:
        experiment.train(
          row["config"], folder / row["name"], should_stop=lambda: bool(seen)
        )
      write_table(table, corpus, folder)
  except Stopped:
    return command_line.stopped(seen)
  print(write_table(table, corpus, folder))
  print(folder / "table.md", folder / "table.png", sep="\n")
  return 0


def define_flags() -> None:
  """Here, since other programs of ours have flags of the same names."""
  flags.DEFINE_string("table", None, "File in configs/tables.")
  flags.DEFINE_string("corpus", None, "Corpus to train on.")
  flags.DEFINE_string("raw", "", "Its raw folder, to build missing shards.")
  flags.DEFINE_integer("seeds", 1, "Seeds 0, 1, ... of every row.")
  flags.DEFINE_string(
    "workdir", None, "Where to write. Default: runs/TABLE-CORPUS."
  )
  flags.DEFINE_list(
    "rows", [], "Only rows of these names, or with these in them."
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
