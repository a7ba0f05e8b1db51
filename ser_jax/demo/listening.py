"""Recordings in the app: sound, figures, and what trained runs say of them."""

import io
import pathlib

import numpy as np
import streamlit as st
from jaxtyping import Float

from ser_jax.demo import charts, clips, files, inside, predictor, results
from ser_jax.demo.results import Finished
from ser_jax.errors import UserError
from ser_jax.features import audio
from ser_jax.inference import Predictor, add_moments
from ser_jax.trained import Opened, open_runs

MOST_BYTES = 20_000_000
MOST_SECONDS = 120
TYPES = ["wav", "flac", "ogg", "mp3"]
LAYERS = 6

Samples = Float[np.ndarray, "samples"]


@st.cache_resource(max_entries=4, show_spinner="Loading the weights")
def _open(
  folder: pathlib.Path, names: tuple[str, ...], finished: Finished
) -> Opened:
  del finished  # a key: other runs are other weights
  return open_runs(folder, names, devices=1)


@st.cache_resource(max_entries=4)
def _predictor(
  folder: pathlib.Path, names: tuple[str, ...], finished: Finished
) -> Predictor:
  return predictor.make_predictor(_open(folder, names, finished))


@st.cache_resource(max_entries=4)
def _look(folder: pathlib.Path, name: str, finished: Finished):
  return inside.make_look(_open(folder, (name,), finished))


def play(path: pathlib.Path) -> tuple[Samples, int]:
  """A player of a corpus' recording, and its samples and rate."""
  data = path.read_bytes()
  st.audio(data, format=f"audio/{path.suffix[1:].lower()}")
  return decode(data, path.name)


def decode(data: bytes, source: str) -> tuple[Samples, int]:
  """Mono samples and the rate of a recording in memory.

  Args:
    data: the bytes of a file.
    source: what messages call it.

  Returns:
    Samples and the rate in Hz.

  Raises:
    UserError: too much, or what is no recording.
  """
  if len(data) > MOST_BYTES:
    raise UserError(
      f"{source} has {len(data) / 1e6:.0f} MB: at most "
      f"{MOST_BYTES / 1e6:.0f} MB are accepted here."
    )
  whole = clips.Windows(MOST_SECONDS, MOST_SECONDS, most=MOST_SECONDS)
  ((_, samples, rate, _),) = clips.cut(io.BytesIO(data), whole, source)
  return audio.check(samples, source=source), rate


def at(samples: Samples, rate: int) -> Samples:
  """Samples at the rate of the spectrogram."""
  return audio.resample(samples, rate, charts.RATE)


def classify(
  folder: pathlib.Path, names: tuple[str, ...], data: bytes, theme: str
) -> None:
  """Shows what runs say of a recording.

  Args:
    folder: the workdir.
    names: of the runs; empty for all.
    data: the bytes of a file.
    theme: `light` or `dark`.

  Raises:
    UserError: no recording, or a system that one recording is too little for.
  """
  samples, rate = decode(data, "the recording")
  st.audio(data)
  st.altair_chart(charts.waveform(samples, rate))
  st.pyplot(charts.mel_spectrogram(at(samples, rate), theme))
  model = _predictor(folder, names, results.finished(folder))
  if model.recipe.by_speaker:
    raise UserError(
      f"{model.recipe.system} standardises by each speaker's own mean and "
      "deviation: one recording is too little. Use --mode=predict with "
      "--same_speaker on several of one speaker."
    )
  windows = clips.make_windows(model.recipe)
  found = clips.read_clips(
    io.BytesIO(data), model.recipe, windows, source="the recording"
  )
  heard = [clip for clip in found if clip.features is not None]
  with st.spinner("Predicting"):
    scores = model.scores([clip.features for clip in heard])
  classes, contour_rate = model.recipe.classes, model.recipe.contour_rate
  if contour_rate is not None:
    contour = files.join_contour(
      model.recipe, found, scores.mean(axis=0), "the recording"
    )
    st.altair_chart(charts.contour(contour, contour_rate, classes))
    return
  mean = scores.mean(axis=(0, 1))
  votes = np.bincount(
    scores.mean(axis=1).argmax(axis=1), minlength=len(classes)
  )
  st.subheader(f"{classes[mean.argmax()]}, {100 * mean.max():.0f} %")
  st.write(
    f"{votes[mean.argmax()]} of {len(model.runs)} runs say so; trained on "
    f"{model.recipe.corpus}."
  )
  st.altair_chart(charts.probabilities(mean, classes))
  if len(heard) > 1:
    times = [(clip.start, clip.end) for clip in heard]
    st.altair_chart(charts.windows(times, scores.mean(axis=0), classes))


def show_layers(
  folder: pathlib.Path, run: str, samples: Samples, rate: int, theme: str
) -> None:
  """Shows attention and the outputs of recurrent layers.

  Args:
    folder: the workdir.
    run: its name.
    samples: of the utterance.
    rate: in Hz.
    theme: `light` or `dark`.
  """
  finished = results.finished(folder)
  look = _look(folder, run, finished)
  recipe = _open(folder, (run,), finished).recipe
  if recipe.by_speaker:
    st.info("This system needs to hear more of the speaker.")
    return
  features = clips.FEATURE_SETS[recipe.features].extract(
    samples, rate, pad_to=recipe.pad_to
  )
  (features,) = add_moments(recipe, [features], [0.0])
  with st.spinner("Computing"):
    found = look(0, features)
  if not found:
    st.info("This system has neither attention nor recurrent layers.")
  for name, values in list(found.items())[:LAYERS]:
    st.caption(name)
    if values.ndim == 1:
      st.altair_chart(charts.attention(values))
    else:
      st.pyplot(charts.activations(values, theme))
