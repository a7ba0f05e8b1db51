import numpy as np
import pytest
import scipy.stats

from ser_jax.evaluation import markdown, pairing, statistics, tables


def report(values, folds=5, of=None):
  values = np.asarray(values)
  part = {
    "mean": float(values.mean()),
    "std": float(values.std(ddof=1)),
    "pooled": float(values.mean()),
    "ci95": [float(values.min()), float(values.max())],
    "by_seed": values.reshape(-1, folds).mean(axis=1).tolist(),
  }
  return {
    "runs": [
      {"fold": f"fold{i % folds}", "seed": i // folds, "wa": v, "uar": v,
       "seconds": 2.0, "validation": {"wa": v + 0.1, "uar": v + 0.1}}
      for i, v in enumerate(values)
    ],
    "summary": {"wa": part, "uar": part},
    "folds": folds,
    "protocol": {"folds": of or folds},
    **{"speaker_independent": True, "transductive": False, "speakers": 12},
    "seeds": len(values) // folds,
    "epochs": 100,
    "command": "python -m ser_jax.reproduce",
  }  # fmt: skip


def row(name, against=None, paper=(70.0, 5.0), x="none"):
  return {
    "name": name, "label": f"row {name}", "paper": paper, "against": against,
    "curve": "depth 1", "x": x,
  }  # fmt: skip


def test_a_baseline_stands_for_every_seed():
  """It has no seeds, and nothing that trains a network is its matter."""
  accuracies = [0.5, 0.6, 0.5, 0.6, 0.5]
  ours, svm = report(np.linspace(0.6, 0.78, 10)), report(accuracies)
  svm["epochs"] = 0
  for each, rate in ((ours, 1.0), (svm, 2.0)):
    each["fields"] = {"optimizer.learning_rate": rate, "data.target": "emotion"}
    each["changes"] = {"optimizer.learning_rate": [rate, 3.0]}

  def values(found):
    return {(run["fold"], run["seed"]): run["uar"] for run in found["runs"]}

  found = pairing.against(ours, svm, values)
  every = np.linspace(0.6, 0.78, 10).reshape(2, 5).mean(axis=0)
  difference = every - accuracies
  assert found["pairs"] == 5
  assert found["difference"] == pytest.approx(difference.mean())
  assert found["p"] == statistics.paired_permutation(difference)
  svm["changes"]["data.target"] = ["valence", "emotion"]
  svm["fields"]["data.target"] = "valence"
  assert pairing.against(ours, svm, values) == {"differ": ["data.target"]}
  svm["epochs"] = 100  # of a network all fields count
  assert len(pairing.against(ours, svm, values)["differ"]) == 2


ROWS = [row("a"), row("b", "a", x="1"), row("c", "a", x="2"), row("d", "a")]
A = np.linspace(0.5, 0.7, 10)
REPORTS = {
  "a": report(A),
  "b": report(A + 0.03),
  "c": report(A + np.tile([0.02, -0.02], 5)),
}


def test_rows_are_compared_over_equal_folds():
  found = {r["name"]: r for r in tables.compare(ROWS, REPORTS, "wa")["rows"]}
  assert found["b"]["difference"] == pytest.approx(0.03)
  assert found["b"]["p"] == pytest.approx(2 / 2**5)  # the least possible
  assert found["c"]["difference"] == pytest.approx(0.0, abs=1e-12)
  assert found["b"]["pairs"] == 5
  assert "p" not in found["a"] and "summary" not in found["d"]
  assert found["b"]["seconds"] == 20.0


def test_seeds_of_a_fold_count_once():
  """What folds differ by is not found again in each of their seeds."""
  rng = np.random.default_rng(0)
  rejected = 0
  for _ in range(200):
    of_fold, of_run = rng.normal(size=8), 0.5 * rng.normal(size=(8, 3))
    ours = {
      (str(fold), seed): of_fold[fold] + of_run[fold, seed]
      for fold, seed in np.ndindex(8, 3)
    }
    found = pairing.paired(ours, dict.fromkeys(ours, 0.0))
    assert found["pairs"] == 8
    rejected += found["p"] <= 0.05
  assert rejected <= 20  # of 200; 10 are expected


def test_a_single_fold_leaves_its_seeds():
  ours = {("a", seed): value for seed, value in enumerate((0.1, 0.3, 0.2))}
  found = pairing.paired(ours, dict.fromkeys(ours, 0.0))
  assert found == {"pairs": 3, "difference": pytest.approx(0.2), "p": 2 / 8}
  assert pairing.paired({("a", 0): 0.1}, ours) == {}


def test_folds_weigh_the_same_however_many_seeds_they_have():
  ours = {("a", 0): 0.1, ("a", 1): 0.3, ("b", 0): 0.4}
  found = pairing.paired(ours, dict.fromkeys(ours, 0.0))
  assert (found["pairs"], found["difference"]) == (2, pytest.approx(0.3))


def test_several_tests_are_corrected_for():
  found = tables.compare(ROWS, REPORTS, "wa")["rows"]
  tested = [r for r in found if "p" in r]
  want = statistics.holm(np.array([r["p"] for r in tested]))
  np.testing.assert_allclose([r["p_holm"] for r in tested], want)
  assert tested[0]["p_holm"] == pytest.approx(2 * tested[0]["p"])


def test_runs_that_one_row_lacks_are_left_out():
  reports = REPORTS | {"b": report((A + 0.03)[:5])}
  found = tables.compare(ROWS[:2], reports, "wa")["rows"][1]
  assert found["pairs"] == 5


def test_markdown_has_paper_and_ours_side_by_side():
  text = tables.render(
    tables.compare(ROWS, REPORTS, "wa"), "Table 1", "emodb", "iemocap"
  )
  lines = text.splitlines()
  assert lines[0] == "# Table 1, on emodb"
  b = next(line for line in lines if line.startswith("| row b"))
  assert (
    "paper on iemocap, WA %" in text
    and "70.0 ± 5.0" in b
    and "+3.0" in b
    and "5 × 2" in b
  )
  assert "not yet" in next(x for x in lines if x.startswith("| row d"))
  counts = {line.count("|") for line in lines if line.startswith("|")}
  assert counts == {13}


def counted(right, each=20):
  """A report of a speaker a fold, whose predictions are counted."""
  right = np.asarray(right)
  found = report(right / each, folds=6)
  found["classes"] = ["low", "high"]
  found["counts"] = {
    (f"fold{i % 6}", i // 6): {
      f"s{i % 6}": np.array([[r, each - r], [0, each]])
    }
    for i, r in enumerate(right.tolist())
  }
  return found


def test_pooled_figures_stand_with_their_intervals():
  """And so do their differences, beside those of the means and whose."""
  theirs = np.array([4, 6, 8, 10, 12, 14] * 2)
  found = tables.compare(
    ROWS[:2], {"a": counted(theirs), "b": counted(theirs + 2)}, "wa"
  )
  text = tables.render(found, "Table 1", "emodb", "emodb")
  header, _, a, b = [x for x in text.splitlines() if x.startswith("|")]
  assert "| WA %, pooled (95 %) | mean ± sd over runs |" in header
  assert a.startswith("| row a | 70.0 ± 5.0 | 45.0 (20.0–70.0) | 45.0 ± 17.8 |")
  assert a.endswith("|  |  |  |  |  | 6 × 2 |")
  # Of 40 utterances of each speaker two more are right.
  assert b.endswith(
    "| row a | +5.0 (+5.0 to +5.0) | +10.0 | .031 | .031 | 6 × 2 |"
  )


def test_unequal_seeds_are_told_of():
  theirs = np.array([4, 6, 8, 10, 12, 14] * 2)
  reports = {"a": counted(theirs), "b": counted(theirs[:6] + 2)}
  reports["c"] = counted(theirs + 1)
  found = tables.compare(ROWS[:3], reports, "wa")
  assert [r.get("runs_of_both") for r in found["rows"]] == [None, 6, None]
  text = tables.render(found, "Table 1", "emodb", "emodb")
  assert text.count("runs that both rows have, not of") == 1
  assert "Differences of row b are over the 6 runs that both rows" in text
  reports["a"]["epochs"] = 0  # a baseline says the same in every seed
  reports["a"]["seeds"] = 1
  found = tables.compare(ROWS[:3], reports, "wa")
  assert not any("runs_of_both" in r for r in found["rows"])


def test_classes_of_a_few_utterances_are_told_of():
  few = {"a": counted([3] * 6, each=5), "b": counted([4] * 6, each=5)}
  found = tables.compare(ROWS[:2], few, "wa")
  text = tables.render(found, "Table 1", "emodb", "emodb")
  assert text.count("Smallest class of a fold: 5 of low in fold0") == 1
  many = {name: counted([9] * 6) for name in "ab"}
  found = tables.compare(ROWS[:2], many, "wa")
  assert "Smallest class" not in tables.render(found, "T", "emodb", "emodb")


def test_small_p_values_are_no_zeros():
  assert markdown.p_value(0.0004995) == "<.001"
  assert markdown.p_value(0.001) == ".001"
  assert markdown.p_value(0.0625) == ".062"
  assert markdown.p_value(1.0) == "1.000"


def test_recalls_stand_beside_the_papers():
  rows = [row("a") | {"recalls": {"sad": 72.05, "happy": 27.81}}, row("b")]
  rows.append(row("c") | {"recalls": {"sad": 64.11, "happy": 52.87}})
  measured = {"sad": {"recall": 0.905}, "happy": {"recall": 0.5}}
  reports = {"a": report(A) | {"per_class": measured}}
  found = tables.compare(rows, reports, "uar")
  text = tables.render(found, "Table I", "emodb", "iemocap")
  lines = text[text.index("## Recalls") :].splitlines()
  assert lines[2] == "|  | sad % | happy % |"
  assert lines[4] == "| row a | 90.5 (72.05) | 50.0 (27.81) |"
  assert lines[5] == "| row c | (64.11) | (52.87) |"
  assert "the\npaper's on iemocap" in text
  assert "Recalls" not in tables.render(
    tables.compare(ROWS, REPORTS, "uar"), "Table 1", "emodb", "emodb"
  )


def test_chosen_folds_are_told_of_how_many():
  found = tables.compare(ROWS[:1], {"a": report(A, of=12)}, "wa")
  text = tables.render(found, "Table 1", "emodb", "emodb")
  assert "| 5 of 12 × 2 |" in text


def test_seeds_that_both_rows_have_are_tested_one_tailed():
  def p_of(ours):
    reports = REPORTS | {"b": report(ours)}
    return tables.compare(ROWS, reports, "wa")["rows"][1].get("p_t")

  def of_seeds(name, count):
    return REPORTS[name]["summary"]["wa"]["by_seed"][:count]

  want = scipy.stats.ttest_ind(
    *(of_seeds(name, 2) for name in "ba"),
    equal_var=False,
    alternative="greater",
  ).pvalue
  assert p_of(A + 0.03) == pytest.approx(want)
  more = np.append(A + 0.03, A[:5] + 0.2)  # a seed that the other row lacks
  assert p_of(more) == pytest.approx(want)
  assert p_of(A[:5]) is None  # a single seed has no spread
  found = tables.compare(ROWS, REPORTS, "wa")["rows"]
  assert "p_t" not in found[0]


def test_seeds_of_other_folds_are_not_tested_one_tailed():
  """A row that has lost its hardest fold is not the better for it."""

  def p_of(lost):
    runs = [r for r in REPORTS["a"]["runs"] if (r["fold"], r["seed"]) != lost]
    other = REPORTS["a"] | {"runs": runs}
    return tables.compare(ROWS, REPORTS | {"b": other}, "wa")["rows"][1]

  assert p_of(None)["p_t"] == pytest.approx(0.5)
  assert "p_t" not in p_of(("fold0", 1))  # leaves a single seed


def test_seeds_may_be_what_figures_are_of():
  found = tables.compare(ROWS, REPORTS, "wa")
  told = {"by": "seed", "extra": ("validation",)}
  text = tables.render(found | told, "Table 1", "emodb", "emodb")
  lines = [line for line in text.splitlines() if line.startswith("|")]
  assert {line.count("|") for line in lines} == {16}
  assert lines[0].endswith("| validation % | folds % | p (t) |")
  a = next(line for line in lines if line.startswith("| row a"))
  assert a.startswith("| row a | 70.0 ± 5.0 | 60.0 (50.0–70.0) | 60.0 ± 7.9 |")
  assert a.endswith("| 70.0 ± 6.7 | 60.0 ± 6.7 |  |")
  assert "| mean ± sd over seeds |" in text
  assert "over seeds, their folds pooled, as" in text
  assert "one-tailed t-test (Welch)" in text
  single = tables.compare(ROWS[:1], {"a": report(A[:5])}, "wa")
  text = tables.render(single | told, "Table 1", "emodb", "emodb")
  assert "(50.0–58.9) | 54.4 |" in text  # a single seed has no deviation


def test_one_run_has_no_deviation_and_few_speakers_no_interval():
  one = report(A[:2], folds=2) | {"speakers": 2}
  one["runs"] = one["runs"][:1]
  one["summary"]["wa"]["ci95"] = None
  found = tables.compare(ROWS[:1], {"a": one}, "wa")
  text = tables.render(found, "Table 1", "emodb", "emodb")
  assert "| row a | 70.0 ± 5.0 | 51.1 | 51.1 |  | 51.1 |" in text
  assert "2 test speakers are too few" in text


def test_what_a_table_file_says_of_the_paper_is_told():
  rows = [row | {"paper_wa": (70.1, 0.4)} for row in ROWS]
  found = tables.compare(rows, REPORTS, "uar")
  told = {"note": "Easier.", "published": "accuracy", "extra": ("paper_wa",)}
  text = tables.render(found | told, "Table 1", "emodb", "iemocap")
  header, _, first, *_ = [x for x in text.splitlines() if x.startswith("|")]
  assert header.startswith("|  | paper on iemocap, accuracy % |")
  assert header.endswith("| paper, WA % |")
  assert first.endswith("| 70.1 ± 0.4 |")
  assert "> **Note.** Easier." in text
