import numpy as np
import pytest

from ser_jax.evaluation import figures, table_figures, tables
from tests.evaluation.tables_test import REPORTS, ROWS, A, report, row


def drawn_of(rows, reports, tmp_path, monkeypatch):
  """The figure of a table."""
  drawn = []

  def keep(figure, _):
    drawn.append(figure)
    figures.plt.close(figure)

  monkeypatch.setattr(figures, "write", keep)
  found = tables.compare(rows, reports, "wa")
  path = tmp_path / "x.png"
  table_figures.draw(found, path, "Table", "x", "emodb", "iemocap")
  return drawn[0]


def test_a_level_line_is_pooled_as_points_are(tmp_path, monkeypatch):
  """The corpora of ours and of the paper's are named, too."""
  svm = report(A)
  svm["summary"]["wa"] = svm["summary"]["wa"] | {"mean": 0.1, "pooled": 0.8}
  rows = [row("a"), row("svm") | {"curve": None, "x": None, "paper": None}]
  reports = {"a": report(A), "svm": svm}
  figure = drawn_of(rows, reports, tmp_path, monkeypatch)
  (axes,), (legend,) = figure.axes, figure.legends
  assert figure.get_suptitle() == "Table, on emodb"
  level = next(x for x in axes.lines if x.get_label() == "row svm")
  assert level.get_ydata()[0] == pytest.approx(80.0)
  named = {text.get_text() for text in legend.get_texts()}
  assert named == {
    "paper on iemocap ± deviation", "ours on emodb, 95 %", "row svm"
  }  # fmt: skip


@pytest.mark.parametrize(
  ("places", "joined"),
  [
    (("none", "2.5", "1"), [1, 2]),  # those with numbers, in their order
    (("10%", "40%", "100%"), [0, 1, 2]),
    (("best", "without copies", "without either"), []),
    (("none", "0.5", "other"), []),  # one alone
  ],
)
def test_only_what_has_an_order_is_joined(
  places, joined, tmp_path, monkeypatch
):
  """And a panel with nothing to show is left out."""
  rows = [r | {"x": x} for r, x in zip(ROWS, places, strict=False)]
  rows.append(row("d") | {"curve": "ablations", "paper": None})
  (axes,) = drawn_of(rows, REPORTS, tmp_path, monkeypatch).axes
  assert axes.get_title("left") == "depth 1"
  for bars in axes.containers:
    assert bars.lines[0].get_linestyle() == "None"
  lines = [x for x in axes.lines if x.get_linestyle() in ("-", "--")]
  ends = [np.round(line.get_xdata()).tolist() for line in lines]
  order = sorted(joined, key=lambda n: float(places[n].rstrip("%")))
  assert ends == ([order] * 2 if joined else [])  # the paper's, and ours


@pytest.mark.parametrize("level", [0.15, 0.6])
def test_chance_is_a_line_only_where_it_fits(level, tmp_path, monkeypatch):
  """Far below it would press together what there is to see."""
  majority = report(np.full(10, level))
  rows = [*ROWS[:3], row("majority") | {"curve": None, "x": None}]
  rows[-1] |= {"paper": None, "baseline": "majority"}
  reports = REPORTS | {"majority": majority}
  figure = drawn_of(rows, reports, tmp_path, monkeypatch)
  (axes,), (legend,) = figure.axes, figure.legends
  low, high = axes.get_ylim()
  assert 40 < low < 65 and 75 < high < 80  # of the paper's and of ours
  names = [text.get_text() for text in legend.get_texts()]
  levels = [np.unique(line.get_ydata()).tolist() for line in axes.lines]
  if level == 0.15:
    assert "row majority: 15.0, below" in names
    assert [15.0] not in levels
  else:
    assert "row majority" in names
    assert any(each == pytest.approx([60.0]) for each in levels)


def test_a_figure_is_drawn_of_what_there_is(tmp_path):
  rows = [*ROWS, row("svm") | {"curve": None, "x": None, "paper": None}]
  for name, reports in (("some", REPORTS | {"svm": report(A)}), ("none", {})):
    path = tmp_path / f"{name}.png"
    found = tables.compare(rows, reports, "wa")
    table_figures.draw(found, path, "Table 1", "gamma", "emodb", "iemocap")
    assert path.read_bytes()[:4] == b"\x89PNG"
    assert list(tmp_path.glob(".*")) == []


def test_no_interval_is_said_where_there_is_none(tmp_path, monkeypatch):
  one = report(A[:1], folds=1)
  one["summary"]["wa"]["ci95"] = None
  figure = drawn_of(ROWS[:1], {"a": one}, tmp_path, monkeypatch)
  (axes,), (legend,) = figure.axes, figure.legends
  assert "ours on emodb" in {text.get_text() for text in legend.get_texts()}
  _, ours = axes.containers
  (interval,) = ours.lines[2][0].get_segments()
  assert not len(interval)


def test_nothing_is_drawn_of_nothing(tmp_path):
  """Baselines alone, of a table without published figures."""
  level = {"curve": None, "x": None, "paper": None}
  rows = [row("svm") | level, row("a") | {"paper": None}]
  found = tables.compare(rows, {"svm": report(A)}, "wa")
  table_figures.draw(found, tmp_path / "x.png", "Table", "x", "emodb", "emodb")
  assert not (tmp_path / "x.png").exists()
