"""A report's data -> Markdown for people, and the lines for the console."""

import pathlib
from collections.abc import Callable

from ser_jax.evaluation import statistics


def percent(value: float) -> str:
  """0.7345 -> 73.4."""
  return f"{100 * value:.1f}"


def decimals(value: float) -> str:
  """0.7345 -> .734, as papers print CCC."""
  # Adding zero turns -0.000 into 0.000.
  return f"{round(value, 3) + 0.0:.3f}".replace("0.", ".", 1)


def spread(
  summary: dict, runs: int, shown: Callable[[float], str] = percent
) -> str:
  """Mean ± deviation over runs; the value alone of one, which has none."""
  deviation = f" ± {shown(summary['std'])}" if runs > 1 else ""
  return shown(summary["mean"]) + deviation


def interval(
  summary: dict, shown: Callable[[float], str] = percent, to: str = "–"
) -> str:
  """A summary's interval; `none` where speakers are too few for one."""
  if summary["ci95"] is None:
    return "none"
  return to.join(map(shown, summary["ci95"]))


def pooled(
  summary: dict, shown: Callable[[float], str] = percent, to: str = "–"
) -> str:
  """A summary's pooled figure and its interval, if it has one."""
  value = shown(summary["pooled"])
  if summary["ci95"] is None:
    return value
  return f"{value} ({interval(summary, shown, to)})"


def p_value(value: float) -> str:
  """0.0625 -> .062; what rounds to nothing as `<.001`."""
  return "<.001" if value < 0.001 else decimals(value)


def protocol_warnings(found: dict) -> list[str]:
  """What of a report's protocol must be known before a number is quoted."""
  warnings = []
  if not found["speaker_independent"]:
    warnings.append(
      "SPEAKER-DEPENDENT: the same speakers are in training and test."
    )
  if found["transductive"]:
    warnings.append("TRANSDUCTIVE: test speakers' statistics were used.")
  if found["folds"] < found["protocol"]["folds"]:
    warnings.append(
      f"{folds(found)} folds: the speakers of the others are not tested."
    )
  if found["speakers"] < statistics.FEWEST:
    warnings.append(
      f"No 95 % intervals: {found['speakers']} test speakers are too few."
    )
  elif found["speakers"] < statistics.FEW:
    warnings.append(
      f"95 % intervals over {found['speakers']} speakers are too narrow: with "
      "5 to 10, in simulations, 83 to 91 % held the true figure."
    )
  if found.get("diverged"):
    warnings.append(
      f"DIVERGED, and not in any figure: {', '.join(found['diverged'])}."
    )
  return warnings


def folds(found: dict) -> str:
  """`2 of 5`, or `5` where every fold was run."""
  whole = found["protocol"]["folds"]
  chosen = f"{found['folds']} of " if found["folds"] < whole else ""
  return f"{chosen}{whole}"


def table(header: list[str], rows: list[list]) -> str:
  """A Markdown table, the first column left, the others right."""
  marks = [":--", *["--:"] * (len(header) - 1)]
  return "\n".join(
    "| " + " | ".join(map(str, row)) + " |" for row in (header, marks, *rows)
  )


def _published(paper: dict, name: str) -> str:
  """A paper's figure, as printed; empty where it has none."""
  if name not in paper:
    return ""
  deviation = paper.get(f"{name}_std")
  return f"{paper[name]}" + (f" ± {deviation}" if deviation else "")


def _headline(found: dict) -> str:
  """The table of what was measured, beside the paper's figures."""
  paper, runs = found["paper"], len(found["runs"])
  measured = [(f"this run ({found['corpus']})", found["summary"], runs)]
  if "averaged" in found:
    averaged = found["averaged"], found["folds"]
    measured.append(("same, its seeds averaged", *averaged))
  if "last_epoch" in found:
    measured.append(
      ("last epoch instead of best validation", found["last_epoch"], runs)
    )
  rows = [
    [
      label,
      spread(part["uar"], count),
      percent(part["uar"]["pooled"]),
      interval(part["uar"]),
      spread(part["wa"], count),
      percent(part["wa"]["pooled"]),
    ]
    for label, part, count in measured
  ]
  rows.append(
    [
      "majority class",
      percent(found["baseline"]["chance_uar"]),
      *["", "", percent(found["baseline"]["majority_wa"]), ""],
    ]
  )
  if paper:
    rows.append(
      [
        f"paper: {paper['source']} ({paper['corpus']}, {paper['protocol']})",
        _published(paper, "uar"),
        *["", ""],
        _published(paper, "wa"),
        "",
      ]
    )
  header = ["", "UAR %", "pooled", "95 % interval", "WA %", "pooled"]
  return table(header, rows)


def _runs(found: dict) -> str:
  rows = [
    [
      run["fold"],
      run["seed"],
      percent(run["uar"]),
      percent(run["wa"]),
      run["support"],
      f"{run['best_epoch']} / {run['epochs']}",
      f"{run['seconds']:.0f}",
    ]
    for run in found["runs"]
  ]
  header = ["fold", "seed", "UAR %", "WA %", "n", "best epoch", "s"]
  return table(header, rows)


def _classes(found: dict) -> str:
  rows = [
    [name, *[percent(row[k]) for k in ("precision", "recall", "f1")],
     row["support"], percent(found["baseline"]["shares"][name])]
    for name, row in found["per_class"].items()
  ]  # fmt: skip
  header = ["class", "precision", "recall", "F1", "support", "share %"]
  return table(header, rows)


def _confusion(found: dict) -> str:
  names = list(found["per_class"])
  rows = [
    [f"**{name}**", *row]
    for name, row in zip(names, found["confusion"], strict=True)
  ]
  return table(["true \\ predicted", *names], rows)


def _embeddings(found: dict) -> str:
  """What linear probes read from embeddings; nothing if none were saved."""
  if "embeddings" not in found:
    return ""
  rows = []
  for name, probes in found["embeddings"].items():
    speaker, emotion = probes["speaker"], probes["emotion"]
    rows.append(
      [
        name,
        spread(speaker | {"mean": speaker["accuracy"]}, probes["runs"]),
        percent(speaker["chance"]),
        spread(emotion | {"mean": emotion["uar"]}, probes["runs"]),
        percent(emotion["chance"]),
        probes["runs"],
      ]
    )
  header = [
    *("embedding", "speaker, accuracy %", "largest speaker"),
    *("emotion, UAR %", "chance", "runs"),
  ]
  return f"""
## Embeddings

Logistic regressions on the best weights' embeddings: the speaker among those of
the training part (cross-validated), the emotion category learned there and told
of test speakers. Mean ± standard deviation over the folds of the first seed.

{table(header, rows)}
"""


def title(found: dict) -> str:
  """What a report is of, and what its figures must not be taken for."""
  text = f"{found['system']} ({found['variant']}) on {found['corpus']}"
  if not found["speaker_independent"]:
    text += " — SPEAKER-DEPENDENT"
  if found["transductive"]:
    text += " — TRANSDUCTIVE"
  return text


def render(found: dict) -> str:
  """The report as Markdown.

  Args:
    found: the content of `report.json`.

  Returns:
    The text; figures are linked by relative paths.
  """
  protocol = found["protocol"]
  warnings = "".join(f"> **Note.** {w}\n>\n" for w in found["warnings"])
  figures = "\n\n".join(
    f"![{pathlib.Path(path).stem.replace('_', ' ')}]({path})"
    for path in found["figures"]
  )
  return f"""# {title(found)}

{_headline(found)}

{folds(found)} folds × {found["seeds"]} seeds, {found["speakers"]} test
speakers, {found["parameters"]:,} parameters. Protocol `{protocol["name"]}`:
{" ".join(protocol["notes"])}
Mean ± standard deviation (ddof 1) over runs; pooled: all test utterances
together; interval: bootstrap over speakers. The weights tested are those of
each run's best validation epoch.

{warnings}
{figures}

## Runs

{_runs(found)}

## Classes (all runs pooled)

{_classes(found)}

{_confusion(found)}
{_embeddings(found)}
## Again

```
{found["command"]}
```
"""


def console(found: dict, folder: pathlib.Path) -> str:
  """What the command line ends with.

  Args:
    found: the content of `report.json`.
    folder: `--workdir`.

  Returns:
    A few lines: table, warnings, where to look.
  """
  lines = ["", title(found), ""]
  for run in found["runs"]:
    lines.append(
      f"  {run['fold']:<12} seed {run['seed']}   UAR {percent(run['uar']):>5}"
      f"   WA {percent(run['wa']):>5}   n {run['support']}"
    )
  for name, label in (("uar", "UAR"), ("wa", "WA")):
    summary = found["summary"][name]
    chance = {
      "uar": ("chance", found["baseline"]["chance_uar"]),
      "wa": ("majority", found["baseline"]["majority_wa"]),
    }[name]
    lines.append(
      f"  {label:<4}{spread(summary, len(found['runs']))} %   pooled "
      f"{percent(summary['pooled'])}   95 % {interval(summary)}   "
      f"({chance[0]} {percent(chance[1])})"
    )
  shares = found["baseline"]["shares"].items()
  lines.append(
    "  classes "
    + ", ".join(f"{name} {percent(share)} %" for name, share in shares)
  )
  lines += [f"  note: {warning}" for warning in found["warnings"]]
  lines += ["", f"  {folder / 'report.md'}"]
  lines += [f"  {folder / path}" for path in found["figures"]]
  return "\n".join(lines)
