"""The demonstration: results, utterances, comparisons, and new recordings.

./launch.sh demo RUN --raw=CORPUS

RUN is a workdir or a folder of several; with the raw corpus, utterances can be
listened to. What a visitor uploads is bounded, decoded in memory and written
nowhere, and nothing that a visitor types is a path.
"""

import argparse
import pathlib

import streamlit as st

from ser_jax.demo import pages, results
from ser_jax.errors import UserError

PAGES = {
  "Results": pages.show_results,
  "Utterances": pages.show_utterances,
  "Compare": pages.show_comparison,
  "Classify": pages.show_classifier,
}


def arguments() -> argparse.Namespace:
  """Where the runs are, and the corpus."""
  parser = argparse.ArgumentParser(prog="./launch.sh demo")
  parser.add_argument("workdir", type=pathlib.Path, metavar="RUN")
  parser.add_argument("--raw", type=pathlib.Path, metavar="CORPUS")
  return parser.parse_args()


def main() -> None:
  """Draws the page that the sidebar asks for."""
  st.set_page_config("Speech emotion recognition", layout="wide")
  given = arguments()
  try:
    found = results.find_experiments(given.workdir)
    page = st.sidebar.radio("Page", PAGES)
    name = st.sidebar.selectbox("Experiment", found)
    PAGES[page](pages.Chosen(name, found, given.raw))
  except UserError as error:
    st.error(str(error))


main()
