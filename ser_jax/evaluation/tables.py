"""A published table beside ours: rows, paired tests and Markdown.

Rows are those of `configs/tables/rows.py`: of each its name, label, paper's
figures, the row that it is tested against, and its place in the figure.
"""

import numpy as np

from ser_jax.evaluation import (
  conditions,
  metrics,
  pairing,
  pooled,
  small_classes,
  statistics,
)
from ser_jax.evaluation.markdown import (
  p_value,
  percent,
  spread,
  table,
)
from ser_jax.evaluation.markdown import pooled as with_interval

NOTES = """\
Pooled: all test utterances of all runs (fold and seed) together; 95 %: speakers
drawn with replacement. Mean ± sd: over {ours}, as are the last epoch
and {other}. All are of the weights of each run's best validation epoch, but for
the last epoch, which is not selected. Differences are from the row under
"against", over the folds and seeds that both rows have: pooled, the seeds'
differences averaged and the same speakers drawn for both; and of the means.
"""
OURS = {"run": "runs", "seed": "seeds, their folds pooled"}
FOLDS = """\
Folds: mean ± sd over runs, which the difference of means is of. p (t): of a
one-tailed t-test (Welch) that the row's mean over seeds is the higher one, of
the seeds of which both rows have the same folds: on these speakers, whatever
others would say.
"""
VALIDATION = """\
Validation: of the epochs kept, which is what a choice between rows may look at.
"""
RECALLS = """\
Recall of each class, of all test utterances of all runs; in brackets the
paper's{on}.
"""
NAMES = {"wa": "WA", "uar": "UAR"}
METRICS = {"wa": metrics.wa, "uar": metrics.uar}


def compare(rows: list[dict], reports: dict[str, dict], metric: str) -> dict:
  """Pairs what was measured with what was published.

  Args:
    rows: of the table.
    reports: by row name, see `conditions.read` and `pooled.with_counts`; rows
      without one are not measured yet.
    metric: `wa` or `uar`: what the paper reports.

  Returns:
    `metric`, what `render` takes, and `rows` with what was measured, the
    differences from the row that each is tested against, of pooled figures and
    of means, and p-values over the runs that both have: `p` of a paired
    permutation test over folds, `p_holm` corrected for the number of tests in
    the table, `p_t` of a one-tailed t-test over seeds; `small`, see
    `small_classes.find`.
  """
  found = []
  for row in rows:
    report, other = (reports.get(row[key]) for key in ("name", "against"))
    entry = pairing.measured(row, report)
    entry |= {key: row.get(key) for key in ("panel", "recalls", "paper_wa")}
    entry["chance"] = row.get("baseline") == "majority"
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
          entry |= pooled.difference(report, other, METRICS[metric])
    found.append(entry)
  pairing.correct(found)
  small = small_classes.find(reports.values())
  told = {"metric": metric, "by": "run", "extra": (), "small": small}
  return told | {"rows": found}


def _values(report: dict, metric: str) -> pairing.Values:
  return {(run["fold"], run["seed"]): run[metric] for run in report["runs"]}


def _validation(report: dict, metric: str) -> dict:
  """The mean over runs on validation speakers; nothing without a log."""
  if not all(run.get("validation") for run in report["runs"]):
    return {}
  values = [run["validation"][metric] for run in report["runs"]]
  return {"validation": statistics.mean_and_std(np.array(values))}


def _one_tailed(report: dict, other: dict, metric: str) -> dict:
  """Over the seeds, whose folds are pooled, that both have: at least two.

  Those alone of which both have the same folds: others are easier, or harder.
  """
  ours, theirs = (_by_seed(r, metric) for r in (report, other))
  both = sorted(ours.keys() & theirs.keys())
  if len(both) < 2:
    return {}
  ours, theirs = (np.array([x[each] for each in both]) for x in (ours, theirs))
  return {"p_t": statistics.one_tailed_t_test(ours, theirs)}


def _by_seed(
  report: dict, metric: str
) -> dict[tuple[int, frozenset[str]], float]:
  """Pooled figures, by seed and the folds that it has."""
  folds = {}
  for run in report["runs"]:
    folds.setdefault(run["seed"], set()).add(run["fold"])
  values = report["summary"][metric]["by_seed"]
  return {
    (seed, frozenset(folds[seed])): value
    for seed, value in zip(sorted(folds), values, strict=True)
  }


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
  by = found["by"]
  header = [
    *("", f"paper{theirs}, {found.get('published', metric)} %"),
    *(f"{metric} %, pooled (95 %)", f"mean ± sd over {by}s"),
    *("last epoch", f"{other} %", "against", "pooled difference (95 %)"),
    *("difference of means", "p", "p (Holm)", "folds × seeds"),
  ]
  labels = {row["name"]: row["label"] for row in found["rows"]}
  lines = [_line(row, found["metric"], by, labels) for row in found["rows"]]
  notes = NOTES.format(ours=OURS[by], other=other) + pairing.NOTES
  for name in (*found["extra"], *(["folds"] if by == "seed" else [])):
    titles, cells, note = EXTRA[name]
    header += titles
    notes += note
    for line, row in zip(lines, found["rows"], strict=True):
      line += cells(row, found["metric"])
  text = f"# {title}, on {corpus}\n\n{table(header, lines)}\n\n"
  told = [found.get("note", ""), small_classes.render(found.get("small"))]
  text += conditions.render(found["rows"], told) + notes
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
  p = p_value(row["p_t"]) if "p_t" in row else ""
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


def _line(row: dict, metric: str, by: str, labels: dict[str, str]) -> list[str]:
  paper = _published(row["paper"])
  if "summary" not in row:
    return [row["label"], paper, "not yet", *[""] * 9]
  summary, other = row["summary"], "uar" if metric == "wa" else "wa"
  runs, last = row["runs"], row["last_epoch"]
  return [
    row["label"],
    paper,
    with_interval(summary[metric]),
    _spread(summary[metric], runs, by),
    "" if last is None else _spread(last[metric], runs, by),
    _spread(summary[other], runs, by),
    *_tested(row, labels),
    row["size"],
  ]


def _tested(row: dict, labels: dict[str, str]) -> list[str]:
  """Against which row, and what of the differences is known."""
  cells = ["", "", "", ""]
  if "pooled_difference" in row:
    cells[0] = _apart(row["pooled_difference"])
  if "p" in row:
    cells[1:] = [
      _signed(row["difference"]),
      p_value(row["p"]),
      p_value(row["p_holm"]),
    ]
  return [labels[row["against"]] if any(cells) else "", *cells]


def _signed(value: float) -> str:
  """0.0123 -> +1.2."""
  # Adding zero turns -0.0 into +0.0.
  return f"{round(100 * value, 1) + 0.0:+.1f}"


def _apart(found: dict) -> str:
  """A pooled difference and its interval, if it has one."""
  value = _signed(found["value"])
  if found["ci95"] is None:
    return value
  return f"{value} ({' to '.join(map(_signed, found['ci95']))})"
