"""The page in Debian's own browser: a fold, an utterance, an upload."""

import os
import pathlib
import shutil
import socket
import subprocess
import sys
import time
import urllib.request

import pytest

from tests.demo.clips_test import wav

ROOT = pathlib.Path(__file__).resolve().parents[2]

pytest.importorskip("streamlit", reason="needs the extra demo")
playwright = pytest.importorskip(
  "playwright.sync_api", reason="needs playwright, of the extra dev"
)
CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(
  CHROMIUM is None, reason="needs Debian's chromium on PATH"
)


@pytest.fixture(scope="module")
def address(trained, raw):
  """A server of the app; its own port."""
  with socket.socket() as free:
    free.bind(("localhost", 0))
    port = free.getsockname()[1]
  server = subprocess.Popen(
    [
      *(str(ROOT / "launch.sh"), "demo", "--no-install"),
      *(str(trained), f"--raw={raw}"),
    ],
    env=os.environ
    | {
      "PYTHON": sys.executable,
      "STREAMLIT_SERVER_PORT": str(port),
      "XLA_FLAGS": "",
    },
    stdout=subprocess.DEVNULL,
  )
  address = f"http://localhost:{port}"
  deadline = time.monotonic() + 60
  while time.monotonic() < deadline:
    try:
      urllib.request.urlopen(f"{address}/_stcore/health").close()
      break
    except OSError:
      time.sleep(0.2)
  yield address
  server.terminate()
  server.wait(timeout=30)


@pytest.fixture(scope="module")
def browser():
  with playwright.sync_playwright() as started:
    # Root has no sandbox to run in; the page is our own.
    browser = started.chromium.launch(
      executable_path=CHROMIUM, args=["--no-sandbox"]
    )
    yield browser
    browser.close()


def shoot(page, name, tmp_path):
  folder = pathlib.Path(os.environ.get("SER_JAX_SCREENSHOTS", tmp_path))
  folder.mkdir(exist_ok=True)
  path = folder / f"{name}.png"
  page.screenshot(path=path)
  assert path.stat().st_size > 10_000


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_visit(address, browser, tmp_path, scheme):
  page = browser.new_page(
    viewport={"width": 1300, "height": 1400}, color_scheme=scheme
  )
  page.set_default_timeout(60_000)
  page.goto(address)
  page.get_by_role("heading", name="Confusion").wait_for()
  page.get_by_role("combobox").nth(1).click()
  page.get_by_role("option", name="session1").click()
  page.get_by_text("8", exact=True).first.wait_for()
  shoot(page, f"results-{scheme}", tmp_path)

  page.get_by_test_id("stRadio").get_by_text("Utterances").click()
  page.get_by_role("heading", name="One utterance").wait_for()
  player = page.locator("audio")
  player.wait_for()
  player.evaluate("player => { player.muted = true; return player.play(); }")
  page.wait_for_function(
    "() => document.querySelector('audio').currentTime > 0"
  )
  shoot(page, f"utterances-{scheme}", tmp_path)

  page.get_by_test_id("stRadio").get_by_text("Classify").click()
  page.locator("input[type=file]").set_input_files(
    {"name": "a.wav", "mimeType": "audio/wav", "buffer": wav(2.0)}
  )
  page.get_by_text("runs say so").wait_for()
  shoot(page, f"classify-{scheme}", tmp_path)

  page.locator("input[type=file]").set_input_files(
    {"name": "b.wav", "mimeType": "audio/wav", "buffer": b"no audio"}
  )
  page.get_by_text("cannot be read as audio").wait_for()
  page.close()
