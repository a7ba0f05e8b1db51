"""A published table of CCC beside ours: rows, paired tests, Markdown, a figure.

Rows are those of `configs/tables/rows.py`, but for `paper`: two targets' CCC on
test and on development speakers, `{"test": (a, b), "development": (a, b)}`.
Both the paper's and ours are post-processed.
"""

import pathlib

import numpy as np

from ser_jax.evaluation import conditions, pairing
from ser_jax.evaluation.markdown import (
  decimals,
  p_value,
  pooled,
  spread,
  table,
)

NOTES = """\
CCC of all test recordings one after another, in brackets that of validation
speakers. Ours: mean ± deviation over runs (fold and seed) of the weights of
each run's best validation epoch, post-processed as validation speakers chose;
pooled: all runs together, 95 %: speakers drawn with replacement; plain: without
post-processing. Difference: of the mean over runs of the targets' mean,
post-processed, over the folds and seeds that both rows have.
"""


def compare(rows: list[dict], reports: dict[str, dict], metric: str) -> dict:
  """Pairs what was measured with what was published.

  Args:
    rows: of the table.
    reports: by row name, see `conditions.read`; rows without one are not
      measured yet.
    metric: `ccc`.

  Returns:
    `metric`, `targets`, and `rows` with what was measured, the difference from
    the row that each is tested against, `p` and `p_holm`.
  """
  found, targets = [], rows[0]["config"].data.classes
  for row in rows:
    report, other = (reports.get(row[key]) for key in ("name", "against"))
    entry = pairing.measured(row, report)
    if report is not None:
      entry["summary"] = report["postprocessed"]["summary"]
      entry["runs"] = len(report["postprocessed"]["runs"])
      if other is not None:
        entry |= pairing.against(report, other, lambda r: _values(r, metric))
    found.append(entry)
  pairing.correct(found)
  return {"metric": metric, "targets": list(targets), "rows": found}


def _values(report: dict, metric: str) -> pairing.Values:
  return {
    (run["fold"], run["seed"]): run["test"]["after"][metric]
    for run in report["postprocessed"]["runs"]
  }


def render(
  found: dict,
  title: str,
  corpus: str,
  paper_corpus: str,
) -> str:
  """The table as Markdown.

  Args:
    found: see `compare`; `note` as in `tables.render`.
    title: of the table.
    corpus: what ours is measured on.
    paper_corpus: what the paper's is.

  Returns:
    The text.
  """
  paper = [f"paper on {paper_corpus}, {n}" for n in ("arousal", "valence")]
  header = ["", *paper]
  for name in found["targets"]:
    header += [f"ours, {name}", "pooled (95 %)", "plain"]
  header += ["against", "difference of means", "p", "p (Holm)"]
  header.append("folds × seeds")
  labels = {row["name"]: row["label"] for row in found["rows"]}
  lines = [_line(row, found["targets"], labels) for row in found["rows"]]
  notes = conditions.render(found["rows"], [found.get("note", "")])
  notes += NOTES + pairing.NOTES
  return f"# {title}, on {corpus}\n\n{table(header, lines)}\n\n{notes}"


def _line(row: dict, targets: list[str], labels: dict[str, str]) -> list[str]:
  cells = [row["label"]]
  for test, development in zip(
    row["paper"]["test"], row["paper"]["development"], strict=True
  ):
    cells.append(f"{decimals(test)} ({decimals(development)})")
  if "summary" not in row:
    return [*cells, "not yet", *[""] * (3 * len(targets) + 4)]
  test, development = (row["summary"][p] for p in ("test", "development"))
  for name in targets:
    after = test["after"][f"ccc_{name}"]
    reached = decimals(development["after"][f"ccc_{name}"]["mean"])
    cells += [
      f"{spread(after, row['runs'], decimals)} ({reached})",
      pooled(after, decimals, " to "),
      decimals(test["before"][f"ccc_{name}"]["mean"]),
    ]
  tested = ["", "", "", ""]
  if "p" in row:
    tested = [
      *(labels[row["against"]], f"{row['difference']:+.3f}"),
      *(p_value(row["p"]), p_value(row["p_holm"])),
    ]
  return [*cells, *tested, row["size"]]


def draw(
  found: dict,
  path: pathlib.Path,
  title: str,
  x_label: str,
  corpus: str,
  paper_corpus: str,
) -> None:
  """Every row's CCC of every target, with intervals over speakers.

  Args:
    found: see `compare`.
    path: the PNG file to write.
    title: of the table.
    x_label: what rows are.
    corpus: what ours is measured on.
    paper_corpus: what the paper's is.
  """
  import matplotlib

  from ser_jax.evaluation import figures

  plt, targets, rows = figures.plt, found["targets"], found["rows"]
  own, paper = f"ours on {corpus}", f"paper on {paper_corpus}"
  size = 2.0 + 3.2 * len(targets), 0.6 + 0.4 * len(rows)
  places = np.arange(len(rows))[::-1]
  with matplotlib.rc_context(figures.STYLE):
    figure, panels = plt.subplots(
      1, len(targets), figsize=size, sharey=True, squeeze=False
    )
    for axes, name in zip(panels[0], targets, strict=True):
      _panel(axes, rows, places, name, own, paper)
      axes.set_xlabel(f"CCC of {name}, pooled")
    panels[0][0].set_yticks(places, [row["label"] for row in rows])
    panels[0][0].set_ylabel(x_label)
    figure.suptitle(f"{title}, on {corpus}", fontsize=10)
    figure.tight_layout()
    figure.legend(
      *panels[0][0].get_legend_handles_labels(), frameon=False, fontsize=8,
      loc="center left", bbox_to_anchor=(1.0, 0.5),
    )  # fmt: skip
    figures.write(figure, path)


def _panel(
  axes, rows: list[dict], places: np.ndarray, name: str, own: str, paper: str
) -> None:
  """One target: ours, and the paper's where it is of the same kind."""
  from ser_jax.evaluation import figures

  kinds = ("arousal", "valence")
  if name in kinds:
    axes.plot(
      [row["paper"]["test"][kinds.index(name)] for row in rows],
      places + 0.15, "s", color=figures.ORANGE, label=paper,
    )  # fmt: skip
  ours = [
    (place, row["summary"]["test"]["after"][f"ccc_{name}"])
    for place, row in zip(places, rows, strict=True)
    if "summary" in row
  ]
  if ours:
    pooled = np.array([summary["pooled"] for _, summary in ours])
    if any(summary["ci95"] for _, summary in ours):
      own += ", 95 %"
    ends = np.array([figures.ends(summary) for _, summary in ours])
    axes.errorbar(
      pooled, [place for place, _ in ours], fmt="o", color=figures.BLUE,
      xerr=np.abs(ends - pooled[:, None]).T, capsize=3, label=own,
    )  # fmt: skip
  axes.axvline(0.0, color=figures.GREY, linewidth=1)
