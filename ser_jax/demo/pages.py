"""The pages of the app, each a function of what the sidebar chose."""

import dataclasses
import pathlib

import streamlit as st

from ser_jax.demo import charts, listening, results
from ser_jax.demo.results import ALL, Finished, Results
from ser_jax.evaluation import metrics


@dataclasses.dataclass(frozen=True)
class Chosen:
  """What the sidebar says.

  Attributes:
    name: of the experiment.
    experiments: workdirs by name.
    raw: the raw corpus, if given.
  """

  name: str
  experiments: dict[str, pathlib.Path]
  raw: pathlib.Path | None

  @property
  def folder(self) -> pathlib.Path:
    """The experiment's workdir."""
    return self.experiments[self.name]


@st.cache_data(max_entries=8)
def _read(folder: pathlib.Path, finished: Finished) -> Results:
  del finished  # a key: other runs are other rows
  return results.read_results(folder)


@st.cache_data
def _find_audio(raw: pathlib.Path | None) -> dict[str, pathlib.Path]:
  return results.find_audio(raw)


def _read_system(folder: pathlib.Path, label: str = "Learning rate") -> Results:
  """An experiment's rows; where it has several learning rates, those of one."""
  found = _read(folder, results.finished(folder))
  rates = found.table["rate"].unique()
  if len(rates) == 1:
    return found
  rate = st.sidebar.selectbox(label, sorted(rates, key=float))
  return results.choose(found, rate=rate)


def _choose_runs(chosen: Chosen) -> Results:
  """Selectors of learning rate, fold and seed, and the rows that they leave."""
  found = _read_system(chosen.folder)
  folds = sorted(found.table["fold"].unique())
  seeds = sorted(found.table["seed"].astype(str).unique())
  fold = st.sidebar.selectbox("Fold", [ALL, *folds])
  seed = st.sidebar.selectbox("Seed", [ALL, *seeds])
  return results.choose(found, fold=fold, seed=seed)


def show_results(chosen: Chosen) -> None:
  """Metrics, speakers, confusion, and precision, recall, F1, support."""
  found = _choose_runs(chosen)
  st.title("Results")
  counts = results.confusion(found)
  for column, (label, value) in zip(
    st.columns(4),
    {
      "UAR": f"{100 * metrics.uar(counts):.1f} %",
      "WA": f"{100 * metrics.wa(counts):.1f} %",
      "Test utterances": str(found.table["utterance"].nunique()),
      "Test speakers": str(found.table["speaker"].nunique()),
    }.items(),
    strict=True,
  ):
    column.metric(label, value)
  left, right = st.columns([3, 2])
  left.subheader("Confusion")
  left.altair_chart(charts.confusion(counts, found.classes))
  right.subheader("Emotions")
  right.dataframe(results.per_class(found))
  right.subheader("Speakers")
  right.dataframe(results.speakers(found))


def show_utterances(chosen: Chosen) -> None:
  """A cell an utterance, and one of them in detail."""
  found = _choose_runs(chosen)
  st.title("Utterances")
  table = _filter(found)
  if table.empty:
    st.info("No utterance is left: take filters away.")
    return
  wrong = int((~table["correct"]).sum())
  st.write(f"{len(table)} predictions, {wrong} wrong")
  st.altair_chart(charts.grid(table))
  with st.expander("What was predicted wrongly"):
    st.dataframe(table[~table["correct"]], hide_index=True)
  st.subheader("One utterance")
  row = st.selectbox(
    "Utterance",
    table.index,
    format_func=lambda index: _describe(table.loc[index]),
  )
  _show_one(chosen, found, row)


def _filter(found: Results):
  """The rows that the filters leave."""
  table = found.table
  left, middle, right = st.columns(3)
  speakers = left.multiselect("Speakers", sorted(table["speaker"].unique()))
  emotions = middle.multiselect("Emotions", found.classes)
  result = right.selectbox("Result", [ALL, "right", "wrong"])
  if speakers:
    table = table[table["speaker"].isin(speakers)]
  if emotions:
    table = table[table["true"].isin(emotions)]
  if result != ALL:
    table = table[table["correct"] == (result == "right")]
  return table


def _describe(row) -> str:
  sign = "✓" if row["correct"] else "✗"
  return (
    f"{sign} {row['utterance']}: {row['true']}, predicted {row['predicted']} "
    f"({row['fold']}, seed {row['seed']})"
  )


def _show_one(chosen: Chosen, found: Results, index: int) -> None:
  """Probabilities of an utterance and, with the corpus, its sound."""
  row = found.table.loc[index]
  left, right = st.columns(2)
  left.altair_chart(charts.probabilities(found.scores[index], found.classes))
  path = _find_audio(chosen.raw).get(row["utterance"])
  if path is None:
    st.info(
      "The sound is not here: start the demonstration with --raw=CORPUS, the "
      "folder of the recordings."
    )
    return
  with right:
    samples, rate = listening.play(path)
  st.altair_chart(charts.waveform(samples, rate))
  st.pyplot(charts.mel_spectrogram(listening.at(samples, rate), theme()))
  if st.toggle("What the layers do"):
    listening.show_layers(chosen.folder, row["run"], samples, rate, theme())


def show_comparison(chosen: Chosen) -> None:
  """Which utterances two experiments disagree on."""
  st.title("Compare")
  others = [name for name in chosen.experiments if name != chosen.name]
  if not others:
    st.info("There is one experiment only: start with a folder of several.")
    return
  other = st.selectbox("With", others)
  rows = results.compare(
    _read_system(chosen.folder, "Learning rate here"),
    _read_system(chosen.experiments[other], "Learning rate there"),
  )
  st.write(f"Here: {chosen.name}. There: {other}.")
  counts = rows["change"].value_counts()
  names = ("both right", "right here only", "right there only", "both wrong")
  for column, name in zip(st.columns(4), names, strict=True):
    column.metric(name, int(counts.get(name, 0)))
  changed = rows[rows["here"] != rows["there"]]
  st.subheader(f"{len(changed)} of {len(rows)} utterances changed")
  st.dataframe(changed)


def show_classifier(chosen: Chosen) -> None:
  """Classifies what a visitor uploads or records."""
  st.title("Classify")
  runs = sorted(path.parent.name for path in
                chosen.folder.glob("runs/*/predictions.npz"))  # fmt: skip
  run = st.sidebar.selectbox("Run", [ALL, *runs])
  left, right = st.columns(2)
  given = left.file_uploader(
    f"A recording of up to {listening.MOST_SECONDS} s", listening.TYPES
  )
  given = right.audio_input("Or record one") or given
  if given is None:
    st.info("Upload a recording, or record one.")
    return
  listening.classify(
    chosen.folder, () if run == ALL else (run,), given.getvalue(), theme()
  )


def theme() -> str:
  """`light` or `dark`, as the page is drawn."""
  return st.context.theme.type or "light"
