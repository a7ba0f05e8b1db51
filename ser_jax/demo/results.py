"""Workdirs -> tables of test utterances, for the app; no device needed."""

import dataclasses
import pathlib

import numpy as np
import pandas as pd
from jaxtyping import Float

from ser_jax import atomic, inference
from ser_jax.errors import UserError
from ser_jax.evaluation import metrics

# Emo-DB's speakers, as its web site describes them.
AGES = {
  "emodb": {
    **{"03": 31, "08": 34, "09": 21, "10": 32, "11": 26},
    **{"12": 30, "13": 32, "14": 35, "15": 25, "16": 31},
  }
}
ALL = "all"
_COPY_AGAIN = "copy it again from where it was trained."

Finished = tuple[tuple[str, int], ...]  # see `finished`


@dataclasses.dataclass(frozen=True)
class Results:
  """The finished runs of an experiment.

  Attributes:
    folder: the workdir.
    corpus: its name.
    classes: names by class index.
    genders: of speakers, where known.
    table: a row an utterance and run: utterance, speaker, fold, seed, run,
      rate (empty where runs do not differ in it), true, predicted, correct.
    scores: probabilities, in the order of the table.
  """

  folder: pathlib.Path
  corpus: str
  classes: tuple[str, ...]
  genders: dict[str, str]
  table: pd.DataFrame
  scores: Float[np.ndarray, "rows classes"]


def find_experiments(folder: pathlib.Path) -> dict[str, pathlib.Path]:
  """Workdirs with a finished run, in a folder or below.

  Args:
    folder: a workdir, or what holds several.

  Returns:
    Folders by name.

  Raises:
    UserError: there is none.
  """
  found = {}
  for path in sorted(
    {folder, *(p.parent for p in folder.rglob("config.json"))}
  ):
    if (path / "config.json").is_file() and any(
      path.glob("runs/*/predictions.npz")
    ):
      name = path.name if path == folder else str(path.relative_to(folder))
      found[name] = path
  if not found:
    raise UserError(
      f"{folder} holds no finished run: give a folder that "
      "--mode=train wrote, or one above several."
    )
  return found


def finished(folder: pathlib.Path) -> Finished:
  """The finished runs of an experiment, as the key of a cache.

  Args:
    folder: the workdir.

  Returns:
    Paths of their predictions, and when these were written, in nanoseconds.
  """
  paths = sorted(folder.glob("runs/*/predictions.npz"))
  return tuple((str(path), path.stat().st_mtime_ns) for path in paths)


def read_results(folder: pathlib.Path) -> Results:
  """Joins the predictions of an experiment's runs.

  Args:
    folder: the workdir.

  Returns:
    The results.

  Raises:
    UserError: contours, which have no classes, or a file that is damaged.
  """
  config = atomic.read_json(folder / "config.json", _COPY_AGAIN)
  data, rates = config["data"], config["optimizer"].get("learning_rates")
  classes = tuple(data["classes"])
  parts = []
  for path in sorted(folder.glob("runs/*/predictions.npz")):
    name = path.parent.name
    rate = name.rpartition("-lr")[-1] if rates else ""
    parts.append(atomic.read_arrays(path, _COPY_AGAIN))
    for key, value in (("run", name), ("rate", rate)):
      parts[-1][key] = np.full(len(parts[-1]["fold"]), value)
  if any(part["scores"].ndim != 2 for part in parts):
    raise UserError(
      f"{folder.name} predicts contours in time: its report.md shows them; "
      "recordings can be predicted here all the same."
    )
  joined = {k: np.concatenate([part[k] for part in parts]) for k in parts[0]}
  names = np.array(classes)
  predicted = joined["scores"].argmax(axis=1)
  genders = {}
  if (folder / inference.FILE).exists():
    genders = inference.load(folder)[0].genders
  return Results(
    folder=folder,
    corpus=data["corpus"],
    classes=classes,
    genders=genders,
    table=pd.DataFrame(
      {
        "utterance": joined["utterance"],
        "speaker": joined["speaker"],
        "fold": joined["fold"],
        "seed": joined["seed"],
        "run": joined["run"],
        "rate": joined["rate"],
        "true": names[joined["target"]],
        "predicted": names[predicted],
        "correct": predicted == joined["target"],
      }
    ),
    scores=joined["scores"],
  )


def choose(
  results: Results, *, fold: str = ALL, seed: str = ALL, rate: str = ALL
) -> Results:
  """The rows of a fold, a seed and a learning rate; `ALL` takes every one."""
  keep = np.ones(len(results.table), bool)
  if fold != ALL:
    keep &= (results.table["fold"] == fold).to_numpy()
  if seed != ALL:
    keep &= (results.table["seed"].astype(str) == seed).to_numpy()
  if rate != ALL:
    keep &= (results.table["rate"] == rate).to_numpy()
  return dataclasses.replace(
    results,
    table=results.table[keep].reset_index(drop=True),
    scores=results.scores[keep],
  )


def confusion(results: Results) -> np.ndarray:
  """Counts: rows are true classes, columns predicted ones."""
  index = {name: number for number, name in enumerate(results.classes)}
  return metrics.confusion_matrix(
    results.table["true"].map(index).to_numpy(),
    results.table["predicted"].map(index).to_numpy(),
    len(results.classes),
  )


def per_class(results: Results) -> pd.DataFrame:
  """Precision, recall and F1 in per cent, and support, by emotion."""
  rows = pd.DataFrame(
    metrics.per_class(confusion(results)),
    index=pd.Index(results.classes, name="emotion"),
  )
  rates = ["precision", "recall", "f1"]
  rows[rates] = (100 * rows[rates]).round(1)
  return rows.rename(columns={"f1": "F1"})


def speakers(results: Results) -> pd.DataFrame:
  """A row a speaker: gender, age where known, utterances, WA in per cent."""
  ages = AGES.get(results.corpus, {})
  groups = results.table.groupby("speaker")
  names = list(groups.groups)
  return pd.DataFrame(
    {
      "gender": [results.genders.get(name, "") or "unknown" for name in names],
      "age": [str(ages.get(name, "unknown")) for name in names],
      "utterances": groups["utterance"].nunique().to_numpy(),
      "WA %": (100 * groups["correct"].mean()).round(1).to_numpy(),
    },
    index=pd.Index(names, name="speaker"),
  )


def compare(one: Results, other: Results) -> pd.DataFrame:
  """What two experiments say of the utterances that both tested.

  Each says what its runs say on average.

  Args:
    one: the first.
    other: the second, with the same classes.

  Returns:
    A row an utterance: speaker, true, both predictions and `change`.

  Raises:
    UserError: other classes, other labels, or no utterance in common.
  """
  if one.classes != other.classes:
    raise UserError(
      f"{other.folder.name} tells {', '.join(other.classes)} apart, "
      f"{one.folder.name} {', '.join(one.classes)}: choose two with the same "
      "classes."
    )
  here = _averaged(one).rename(columns={"predicted": "here"})
  there = _averaged(other)[["predicted", "true"]]
  names = ["there", "true there"]
  joined = here.join(there.set_axis(names, axis=1), how="inner")
  if joined.empty:
    raise UserError(
      f"{one.folder.name} and {other.folder.name} tested no utterance in "
      "common: choose two of one corpus."
    )
  true_there = joined.pop("true there")
  differ = joined.index[joined["true"] != true_there]
  if len(differ):
    raise UserError(
      f"{one.folder.name} and {other.folder.name} label {len(differ)} of "
      f"{len(joined)} utterances differently, such as {differ[0]}: choose two "
      "with the same labels."
    )
  right = joined["here"] == joined["true"]
  right_there = joined["there"] == joined["true"]
  joined["change"] = np.select(
    [right & right_there, ~right & right_there, right & ~right_there],
    ["both right", "right there only", "right here only"],
    "both wrong",
  )
  return joined


def _averaged(results: Results) -> pd.DataFrame:
  """A row an utterance, classified by the mean of its runs."""
  table = results.table.assign(
    **{f"p{n}": results.scores[:, n] for n in range(len(results.classes))}
  )
  columns = [f"p{n}" for n in range(len(results.classes))]
  groups = table.groupby("utterance")
  mean = groups[columns].mean().to_numpy()
  found = groups[["speaker", "true"]].first()
  found["predicted"] = np.array(results.classes)[mean.argmax(axis=1)]
  return found


def find_audio(raw: pathlib.Path | None) -> dict[str, pathlib.Path]:
  """Recordings of a raw corpus by the name of their file.

  Args:
    raw: the corpus' folder, or None.

  Returns:
    Paths by name; utterances are called after their files.
  """
  if raw is None:
    return {}
  return {
    path.stem: path
    for path in sorted(raw.rglob("*"))
    if path.suffix.lower() in (".wav", ".flac")
  }
