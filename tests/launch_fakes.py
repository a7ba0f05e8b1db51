"""A checkout of launch.sh whose Python writes down how it was called.

It lies under a path with spaces and holds launch.sh and a pyproject.toml;
nothing is downloaded and nothing is trained.
"""

import json
import os
import pathlib
import shlex
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
LATENCY = "--xla_gpu_enable_latency_hiding_scheduler=true"
SEEN = (
  "XLA_FLAGS",
  "XLA_PYTHON_CLIENT_MEM_FRACTION",
  "JAX_PLATFORMS",
  "STREAMLIT_SERVER_ADDRESS",
  "STREAMLIT_SERVER_PORT",
  "JAX_COMPILATION_CACHE_DIR",
  "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS",
  "TFDS_DATA_DIR",
  "TF_CPP_MIN_LOG_LEVEL",
)

# A Python that makes "environments" holding itself. FAKE_PIP and FAKE_MAIN say
# what pip and the program do: leave with a status, or wait for a signal and
# leave with 40 + its number.
FAKE_PYTHON = """
import json, os, shutil, signal, sys, time
log, arguments = sys.argv[1], sys.argv[2:]
seen = {seen!r}
if arguments[0] == "-c":
  sys.version_info = tuple(map(int, os.environ.get("FAKE_VERSION",
      "3.12").split(".")))
  code, sys.argv = arguments[1], arguments[1:]
  exec(code)
  sys.exit()
if arguments[1:] == ["pip", "--version"]:
  sys.exit()
with open(log, "a") as file:
  environment = {{name: os.environ.get(name) for name in seen}}
  file.write(json.dumps([arguments, os.getcwd(), environment]) + "\\n")
print(arguments[1], flush=True)
if arguments[1] == "venv":
  os.makedirs(arguments[2] + "/bin")
  shutil.copy(os.environ["FAKE_SELF"], arguments[2] + "/bin/python")
  sys.exit()
behaviour = os.environ.get("FAKE_" + arguments[1].split(".")[-1].upper(), "0")
if behaviour == "wait":
  for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, lambda number, _: os._exit(40 + number))
  open(log + ".waiting", "w").close()
  time.sleep(60)
sys.exit(int(behaviour))
"""


def script(path: pathlib.Path, *lines: str) -> pathlib.Path:
  """An executable bash script."""
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text("\n".join(("#!/usr/bin/env bash", *lines)) + "\n")
  path.chmod(0o755)
  return path


class Checkout:
  """A copy of launch.sh to run, and what it called."""

  def __init__(self, folder: pathlib.Path):
    self.root = folder / "a checkout"
    self.bin = folder / "the bin"
    self.log = folder / "calls"
    self.venv = self.root / ".venv"
    self.root.mkdir()
    shutil.copy(ROOT / "launch.sh", self.root)
    (self.root / "pyproject.toml").write_text("[project]\n")
    code = folder / "fake.py"
    code.write_text(FAKE_PYTHON.format(seen=SEEN))
    command = shlex.join([sys.executable, str(code), str(self.log)])
    self.python = script(self.bin / "fake python", f'exec {command} "$@"')
    self.environment = {
      "HOME": str(folder / "home"),
      "PATH": f"{self.bin}:{os.environ['PATH']}",
      "PYTHON": str(self.python),
      "FAKE_SELF": str(self.python),
    }

  def command(self, *arguments: str) -> list[str]:
    return ["bash", str(self.root / "launch.sh"), *arguments]

  def run(
    self, *arguments: str, cwd: pathlib.Path | None = None, **environment: str
  ) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
      self.command(*arguments),
      env=self.environment | environment,
      cwd=cwd or self.root,
      capture_output=True,
      text=True,
      timeout=60,
    )

  def calls(self) -> list[tuple[list[str], str, dict[str, str | None]]]:
    """Arguments, working directory and environment of each Python."""
    if not self.log.exists():
      return []
    return [json.loads(line) for line in self.log.read_text().splitlines()]

  def modules(self) -> list[str]:
    return [arguments[1] for arguments, _, _ in self.calls()]
