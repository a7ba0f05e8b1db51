"""What README.md and the pages behind it tell is there, and is so."""

import json
import pathlib
import re

import pytest

from configs import aae, adieu, dat, dcaen, ds_lstm
from data_prep.corpora import CORPORA
from ser_jax.features.sets import FEATURE_SETS

ROOT = pathlib.Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
README = ROOT / "README.md"
SPEED = ROOT / "benchmarks" / "README.md"
GUIDES = (README, SPEED, ROOT / "configs" / "README.md")
PAGES = (*GUIDES, *sorted(RESULTS.glob("*/README.md")))
SYSTEMS = ("ds_lstm", "dat", "aae", "dcaen", "adieu")
each_page = pytest.mark.parametrize(
  "page", PAGES, ids=lambda page: str(page.relative_to(ROOT))
)
each_guide = pytest.mark.parametrize(
  "page", GUIDES, ids=lambda page: str(page.relative_to(ROOT))
)


def _source(*folders: str) -> str:
  files = (path for f in folders for path in (ROOT / f).rglob("*.py"))
  return "\n".join(path.read_text() for path in files)


def known_flags() -> set[str]:
  """Of our programs, of the benchmarks and of launch.sh."""
  ours = _source("ser_jax", "data_prep")
  found = set(re.findall(r'DEFINE_\w+\(\s*"([\w-]+)"', ours))
  found |= {f"no{n}" for n in re.findall(r'DEFINE_bool\w*\(\s*"(\w+)"', ours)}
  found |= set(re.findall(r'"--([\w-]+)"', _source("benchmarks")))
  found |= set(re.findall(r"--([\w-]+)\)", (ROOT / "launch.sh").read_text()))
  # absl takes dashes for underscores.
  return {name.replace("-", "_") for name in found | {"config", "help"}}


def known_fields() -> set[str]:
  """Of the configs of all systems, with dots between section and field."""
  found = set()

  def walk(section, before=""):
    for name, value in section.items():
      found.add(before + name)
      if hasattr(value, "items"):
        walk(value, f"{before}{name}.")

  for module in (aae, adieu, dat, dcaen, ds_lstm):
    walk(module.get_config())
  return found


def tables(page: pathlib.Path) -> list[list[list[str]]]:
  """The cells of every table's rows, headers and rules included."""
  blocks = re.findall(r"(?:^\|.*\n)+", page.read_text(), re.MULTILINE)
  return [
    [[cell.strip() for cell in line.split("|")[1:-1]] for line in b.split("\n")]
    for b in blocks
  ]


def body(page: pathlib.Path, *columns: str) -> list[dict[str, str]]:
  """Rows of the page's only table with these columns, by column."""
  wanted = [t for t in tables(page) if set(columns) <= set(t[0])]
  assert len(wanted) == 1
  header, _, *rows = wanted[0]
  return [dict(zip(header, row, strict=True)) for row in rows if row]


def headings(page: pathlib.Path) -> set[str]:
  """Anchors of a page's headings, as GitHub makes them."""
  found = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
  return {re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in found}


@each_page
def test_flags_are_there(page):
  told = set(re.findall(r"(?<![\w-])--([a-z][\w-]*)", page.read_text()))
  told = {n.replace("-", "_") for n in told if not n.startswith("xla_")}
  assert told <= known_flags()


def test_flags_are_found():
  told = "\n".join(page.read_text() for page in GUIDES)
  assert len(set(re.findall(r"(?<![\w-])--([a-z][\w-]*)", told))) > 20


@each_page
def test_fields_are_there(page):
  pattern = r"--(?:config\.|set='?)([a-z_]\w*(?:\.\w+)*)"
  assert set(re.findall(pattern, page.read_text())) <= known_fields()


def test_fields_are_found():
  text = (ROOT / "configs" / "README.md").read_text()
  assert len(set(re.findall(r"--config\.([\w.]+)", text))) > 20


@each_page
def test_links_lead_somewhere(page):
  for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
    path, _, anchor = link.partition("#")
    there = (page.parent / path).resolve() if path else page
    assert there.exists(), link
    assert not anchor or anchor in headings(there), link


@pytest.mark.parametrize("page", GUIDES[:2], ids=("README", "benchmarks"))
def test_links_are_found(page):
  assert len(re.findall(r"\]\(([^)\s]+)\)", page.read_text())) > 10


@each_page
def test_files_are_there(page):
  for pattern in (r"(configs/[\w/]+\.py)", r"`(ser_jax/[\w/]+\.py)`"):
    for path in set(re.findall(pattern, page.read_text())):
      if not path.endswith("/NAME.py"):
        assert (ROOT / path).exists(), path


@each_page
def test_modules_are_there(page):
  # A command may go over to the next line behind python -m.
  text = re.sub(r"\s+", " ", page.read_text())
  for name in set(re.findall(r"python -m ([\w.]+)", text)):
    assert (ROOT / name.replace(".", "/")).with_suffix(".py").is_file(), name


def test_corpora_are_all_told():
  told = [row["`--corpus`"].strip("`") for row in body(README, "`--corpus`")]
  assert sorted(told) == sorted(CORPORA)


def test_feature_sets_are_all_told():
  section = SPEED.read_text().partition("## Feature sets\n")[2]
  told = set(re.findall(r"`(\w+)`", section.partition("\n## ")[0]))
  assert told == set(FEATURE_SETS)


@each_guide
def test_lines_are_short(page):
  """But those of tables, which cannot be broken."""
  long = [
    line
    for line in page.read_text().splitlines()
    if len(line) > 100 and not line.startswith("|")
  ]
  assert not long


FIGURE = r"\d*\.\d+ ± \d*\.\d+|(?:\d+\.\d+ \()?\d+\.\d+–\d+\.\d+"
RESULT_COLUMNS = ("system", "folds × seeds", "transductive", "details")


def test_results_are_those_of_their_tables():
  """Every mean with its deviation, every interval with what it is of."""
  rows = body(README, *RESULT_COLUMNS)
  assert {row["system"].split("`")[1] for row in rows} == set(SYSTEMS)
  for row in rows:
    folder = ROOT / re.search(r"\((.+)\)", row["details"]).group(1)
    text = "\n".join(path.read_text() for path in folder.glob("*.md"))
    told = re.findall(FIGURE, " ".join(row.values()))
    assert told
    for figure in told:
      assert re.search(rf"(?<!\d){re.escape(figure)}(?!\d)", text), (
        row,
        figure,
      )


def test_transductive_results_are_said_to_be():
  """By what the tables themselves note of their rows."""
  for row in body(README, *RESULT_COLUMNS):
    folder = ROOT / re.search(r"\((.+)\)", row["details"]).group(1)
    note = re.search(
      r"TRANSDUCTIVE.*Rows: (.*)", (folder / "table.md").read_text()
    )
    name = {
      "both embeddings": "dcaen",
      "row `e_nc`: no cosine": "e_nc",
      "IS10 alone": "ftr_em",
      "raw network alone": "raw",
      "our own `best,by_speaker`": "best, by speaker",
    }.get(row["system"].partition(", ")[2])
    among = note.group(1).rstrip(".").split("; ") if note else []
    assert row["transductive"] == ("yes" if name in among else "no"), row


def measured() -> dict:
  """Of every system; the autoencoder's are of a run of its own."""
  found = {}
  for name in ("cpu", "cpu_aae"):
    found |= json.loads((RESULTS / f"{name}.json").read_text())["systems"]
  return found


def test_ratios_are_those_of_the_results():
  [found] = [
    t for t in tables(README) if t[0][:3] == ["system", "train", "both kept"]
  ]
  rows = [row for row in found[2:] if row]
  assert [row[0].strip("`") for row in rows] == list(SYSTEMS)
  for name, *told in rows:
    entry = measured()[name.strip("`")]
    expected = [
      entry[step][ratio]
      for step in ("train", "predict")
      for ratio in ("ratio", "ratio_kept")
    ]
    assert list(map(float, told)) == expected, name


def test_step_times_are_those_of_the_results():
  rows = body(SPEED, "step", "resident, ms", "ratio", "both kept")
  assert len(rows) == 2 * len(SYSTEMS)
  for row in rows:
    name = row["step"].split("`")[1]
    step = "train" if "train" in row["step"] else "predict"
    sides = measured()[name][step]
    assert float(row["ratio"]) == sides["ratio"], row
    assert float(row["both kept"]) == sides["ratio_kept"], row
    for column, side in {
      "resident, ms": "resident",
      "streamed, ms": "stream",
      "PyTorch eager, ms": "torch eager",
      "memory kept, ms": "torch eager, memory kept",
    }.items():
      told, median = float(row[column]), sides[side]["median_ms"]
      assert told == pytest.approx(median, rel=1e-3, abs=5e-3), (row, column)


def test_presets_are_those_of_the_results():
  found = json.loads((RESULTS / "adieu_presets.json").read_text())["presets"]
  rows = body(SPEED, "preset", "parameters", "memory, MiB")
  assert {row["preset"].strip("`") for row in rows} == set(found)
  for row in rows:
    entry = found[row["preset"].strip("`")]
    assert row["parameters"] == f"{entry['parameters']:,}"
    for step in ("train", "predict"):
      assert row[f"{step} step, ms"] == f"{entry[step]['clock_ms']:.0f}", row
    assert row["memory, MiB"] == f"{entry['train']['temporary_mib']:.0f}", row
