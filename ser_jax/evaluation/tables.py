"""A published table beside ours: rows, paired tests, Markdown and a figure.

Rows are those of `configs/tables/rows.py`: of each its name, label, paper's
figures, the row that it is tested against, and its place in the figure.
"""

import itertools
import pathlib

import numpy as np

from ser_jax.evaluation import conditions, pairing, statistics
from ser_jax.evaluation.markdown import interval, percent, spread, table

NOTES = """\
Ours: {ours}, by the weights of
each run's best validation epoch; 95 %: bootstrap over speakers of the pooled
test utterances; last epoch: the same without selection. Difference: the mean
over equal folds and seeds from the row that the table compares with.
"""
OURS = {
  "run": "mean and deviation over runs (fold and seed)",
  "seed": "mean and deviation over seeds, whose folds are pooled",
}
FOLDS = """\
Folds: mean and deviation over runs (fold and seed), which the difference is of.
p (t): of a one-tailed t-test (Welch) that the row's mean over seeds is the
higher one, of the seeds that both rows have: on these speakers, whatever others
would say.
"""
VALIDATION = """\
Validation: of the epochs kept, which is what a choice between rows may look at.
"""
RECALLS = """\
Recall of each class, of all test utterances of all runs; in brackets the
paper's{on}.
"""
NAMES = {"wa": "WA", "uar": "UAR"}


def compare(rows: list[dict], reports: dict[str, dict], metric: str) -> dict:
  """Pairs what was measured with what was published.

  Args:
    rows: of the table.
    reports: by row name, see `conditions.read`; rows without one are not
      measured yet.
    metric: `wa` or `uar`: what the paper reports.

  Returns:
    `metric`, what `render` takes, and `rows` with what was measured, the
    difference from the row that each is tested against, and p-values over the
    runs that both have: `p` of a paired permutation test over folds, `p_holm`
    corrected for the number of tests in the table, `p_t` of a one-tailed t-test
    over seeds.
  """
  found = []
  for row in rows:
    report, other = (reports.get(row[key]) for key in ("name", "against"))
    entry = pairing.measured(row, report)
    entry |= {key: row.get(key) for key in ("panel", "recalls", "paper_wa")}
    if report is not None:
      entry |= {
        "summary": report["summary"],
        "last_epoch": report.get("last_epoch"),
        "runs": len(report["runs"]),
        "per_class": report.get("per_class"),
      }
      entry |= _validation(report, metric)
      if other is not None:
        entry |= pairing.against(report, other, lambda r: _values(r, metric))
        if "differ" not in entry:
          entry |= _one_tailed(report, other, metric)
    found.append(entry)
  pairing.correct(found)
  return {"metric": metric, "by": "run", "extra": (), "rows": found}


def _values(report: dict, metric: str) -> pairing.Values:
  return {(run["fold"], run["seed"]): run[metric] for run in report["runs"]}


def _validation(report: dict, metric: str) -> dict:
  """The mean over runs on validation speakers; nothing without a log."""
  if not all(run.get("validation") for run in report["runs"]):
    return {}
  values = [run["validation"][metric] for run in report["runs"]]
  return {"validation": statistics.mean_and_std(np.array(values))}


def _one_tailed(report: dict, other: dict, metric: str) -> dict:
  """Over the seeds, whose folds are pooled, that both have: at least two."""
  ours, theirs = (_by_seed(r, metric) for r in (report, other))
  both = sorted(ours.keys() & theirs.keys())
  if len(both) < 2:
    return {}
  ours, theirs = (np.array([x[seed] for seed in both]) for x in (ours, theirs))
  return {"p_t": statistics.one_tailed_t_test(ours, theirs)}


def _by_seed(report: dict, metric: str) -> dict[int, float]:
  """Pooled figures."""
  seeds = sorted({run["seed"] for run in report["runs"]})
  values = report["summary"][metric]["by_seed"]
  return dict(zip(seeds, values, strict=True))


def _spread(part: dict, runs: int, by: str) -> str:
  """A figure as `OURS` says; `part` is a metric's of a summary."""
  if by == "run":
    return spread(part, runs)
  values = np.array(part["by_seed"])
  return spread(statistics.mean_and_std(values), len(values))


def render(
  found: dict,
  title: str,
  corpus: str,
  paper_corpus: str,
) -> str:
  """The table as Markdown.

  Args:
    found: see `compare`; `extra` names further columns, of `EXTRA`, `by` says
      what figures are means over, of `OURS`, `note` what is to be known of the
      paper's figures, and `published` what the paper calls them.
    title: of the table.
    corpus: what ours is measured on.
    paper_corpus: what the paper's is.

  Returns:
    The text.
  """
  theirs = "" if paper_corpus == corpus else f" on {paper_corpus}"
  metric = NAMES[found["metric"]]
  other = next(name for name in NAMES.values() if name != metric)
  header = [
    *(
      "",
      f"paper{theirs}, {found.get('published', metric)} %",
      f"ours, {metric} %",
      "95 %",
      "last epoch",
    ),
    *(f"{other} %", "difference", "p", "p (Holm)", "folds × seeds"),
  ]
  by = found["by"]
  lines = [_line(row, found["metric"], by) for row in found["rows"]]
  notes = NOTES.format(ours=OURS[by]) + pairing.NOTES
  for name in (*found["extra"], *(["folds"] if by == "seed" else [])):
    titles, cells, note = EXTRA[name]
    header += titles
    notes += note
    for line, row in zip(lines, found["rows"], strict=True):
      line += cells(row, found["metric"])
  text = f"# {title}, on {corpus}\n\n{table(header, lines)}\n\n"
  text += conditions.render(found["rows"], found.get("note", "")) + notes
  return text + _recalls(found["rows"], theirs)


def _recalls(rows: list[dict], theirs: str) -> str:
  """Class by class, where the paper has them."""
  rows = [row for row in rows if row["recalls"]]
  if not rows:
    return ""
  names = list(rows[0]["recalls"])
  lines = [[row["label"], *_cells_of_recalls(row, names)] for row in rows]
  text = table(["", *(f"{name} %" for name in names)], lines)
  return f"\n## Recalls\n\n{text}\n\n{RECALLS.format(on=theirs)}"


def _cells_of_recalls(row: dict, names: list[str]) -> list[str]:
  """Ours, where it is measured, and the paper's."""
  ours = row.get("per_class") or {}
  return [
    (f"{percent(ours[name]['recall'])} " if name in ours else "")
    + f"({row['recalls'][name]:.2f})"
    for name in names
  ]


def _cells_of_folds(row: dict, metric: str) -> list[str]:
  if "summary" not in row:
    return ["", ""]
  p = f"{row['p_t']:.3f}" if "p_t" in row else ""
  return [spread(row["summary"][metric], row["runs"]), p]


def _cells_of_paper_wa(row: dict, metric: str) -> list[str]:
  del metric
  return [_published(row["paper_wa"])]


def _cells_of_validation(row: dict, metric: str) -> list[str]:
  del metric
  if "validation" not in row:
    return [""]
  return [spread(row["validation"], row["runs"])]


EXTRA = {
  "paper_wa": (["paper, WA %"], _cells_of_paper_wa, ""),
  "folds": (["folds %", "p (t)"], _cells_of_folds, FOLDS),
  "validation": (["validation %"], _cells_of_validation, VALIDATION),
}


def _published(figure: tuple[float, float | None] | None) -> str:
  """A paper's mean and deviation, as printed; empty where it has none."""
  mean, deviation = figure or ("", None)
  return f"{mean}" if deviation is None else f"{mean} ± {deviation}"


def _line(row: dict, metric: str, by: str) -> list[str]:
  paper = _published(row["paper"])
  if "summary" not in row:
    return [row["label"], paper, *["not yet"], *[""] * 7]
  summary, other = row["summary"], "uar" if metric == "wa" else "wa"
  runs, last = row["runs"], row["last_epoch"]
  tested = ["", "", ""]
  if "p" in row:
    tested = [
      f"{100 * row['difference']:+.1f}",
      f"{row['p']:.3f}",
      f"{row['p_holm']:.3f}",
    ]
  return [
    row["label"],
    paper,
    _spread(summary[metric], runs, by),
    interval(summary[metric]),
    "" if last is None else _spread(last[metric], runs, by),
    _spread(summary[other], runs, by),
    *tested,
    row["size"],
  ]


def draw(
  found: dict,
  path: pathlib.Path,
  title: str,
  x_label: str,
  corpus: str,
  paper_corpus: str,
) -> None:
  """Every curve over x, with intervals, and the paper's beside it.

  Nothing as long as there is no figure at all.

  Args:
    found: see `compare`.
    path: the PNG file to write.
    title: of the table.
    x_label: what x is.
    corpus: what ours is measured on.
    paper_corpus: what the paper's is.
  """
  import matplotlib

  from ser_jax.evaluation import figures

  plt, metric = figures.plt, found["metric"]
  curves = {}
  for row in found["rows"]:
    if row["curve"]:
      curves.setdefault(row["curve"], []).append(row)
  curves = {
    curve: mine
    for curve, mine in curves.items()
    if any(row["paper"] or "summary" in row for row in mine)
  }
  if not curves:
    return
  # Between systems there is nothing that a line could mean.
  line = "" if x_label == "row" else "-"
  most = max(len(mine) for mine in curves.values())
  width = 1.2 + max(2.6, 0.45 * most) * len(curves)
  with matplotlib.rc_context(figures.STYLE):
    figure, panels = plt.subplots(
      1, len(curves), figsize=(width, 3.4), sharey=True, squeeze=False
    )
    for axes, (curve, mine) in zip(panels[0], curves.items(), strict=True):
      places = list(dict.fromkeys(row["x"] for row in mine))
      _paper(axes, mine, places, f"paper on {paper_corpus}", line)
      _ours(axes, mine, places, metric, f"ours on {corpus}", line)
      _yardsticks(axes, found["rows"], metric, curve)
      axes.set_xticks(range(len(places)), places)
      if max(map(len, places)) > 6:
        plt.setp(axes.get_xticklabels(), rotation=30, ha="right",
                 rotation_mode="anchor")  # fmt: skip
      axes.set_xlabel(x_label)
      axes.set_title(curve, fontsize=9)
    panels[0][0].set_ylabel(f"{NAMES[metric]}, test speakers pooled (%)")
    named = {}
    for axes in panels[0]:
      handles, labels = axes.get_legend_handles_labels()
      named |= dict(zip(labels, handles, strict=True))
    figure.suptitle(f"{title}, on {corpus}", fontsize=10)
    figure.tight_layout()
    figure.legend(
      named.values(), named.keys(), frameon=False, fontsize=8,
      loc="center left", bbox_to_anchor=(1.0, 0.5),
    )  # fmt: skip
    figures.write(figure, path)


def _yardsticks(axes, rows: list[dict], metric: str, curve: str) -> None:
  """A level line for each baseline of the panel, told apart by its dashes."""
  from ser_jax.evaluation import figures

  lines = [
    row
    for row in rows
    if not row["curve"] and "summary" in row and row["panel"] in (None, curve)
  ]
  styles = itertools.cycle(("-", "--", "-.", ":"))
  for row, style in zip(lines, styles, strict=False):
    value = 100 * row["summary"][metric]["pooled"]
    axes.axhline(
      value, color=figures.GREY, linewidth=1, linestyle=style,
      label=row["label"],
    )  # fmt: skip


def _paper(
  axes, rows: list[dict], places: list[str], label: str, line: str
) -> None:
  """The paper's figures, with deviations."""
  from ser_jax.evaluation import figures

  rows = [row for row in rows if row["paper"]]
  if any(row["paper"][1] for row in rows):
    label += " ± deviation"
  if rows:
    axes.errorbar(
      [places.index(row["x"]) + 0.08 for row in rows],
      [row["paper"][0] for row in rows],
      [row["paper"][1] or 0.0 for row in rows],
      fmt=f"s{2 * line}", color=figures.ORANGE, capsize=3, label=label,
    )  # fmt: skip


def _ours(
  axes, rows: list[dict], places: list[str], metric: str, label: str, line: str
) -> None:
  """Our pooled figures, with the intervals over speakers that are theirs."""
  from ser_jax.evaluation import figures

  rows = [row for row in rows if "summary" in row]
  if not rows:
    return
  summaries = [row["summary"][metric] for row in rows]
  if any(summary["ci95"] for summary in summaries):
    label += ", 95 %"
  pooled = np.array([summary["pooled"] for summary in summaries])
  ends = np.array([figures.ends(summary) for summary in summaries])
  axes.errorbar(
    [places.index(row["x"]) - 0.08 for row in rows],
    100 * pooled,
    100 * np.abs(ends.T - pooled),
    fmt=f"o{line}", color=figures.BLUE, capsize=3, label=label,
  )  # fmt: skip
