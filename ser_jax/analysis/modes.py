"""What the command line asks for: analyses and profiles, as files and text."""

import json
import pathlib

from ser_jax import atomic
from ser_jax.analysis import compiled, markdown, measured, pictures
from ser_jax.analysis.trace import tracing
from ser_jax.errors import UserError
from ser_jax.evaluation import figures
from ser_jax.train import processes

__all__ = ["analyze", "profile", "tracing"]


def analyze(config, workdir: pathlib.Path, other: str | None) -> dict:
  """Describes the compiled steps of a config, as it would train here.

  Args:
    config: a config as in `configs/`.
    workdir: where `analysis.json` and `analysis.md` go.
    other: another `analysis.json`, to compare with.

  Returns:
    The analysis, and `text` for the console.

  Raises:
    UserError: anything the user can mend.
  """
  before = markdown.read_analysis(pathlib.Path(other)) if other else None
  _make(workdir)
  found = compiled.analyze(config, workdir)
  text = markdown.render_analysis(found)
  _write(workdir, "analysis", found, text)
  if before is not None:
    text += f"\n## Against {other}\n\n{markdown.compare(before, found)}\n"
  return found | {"text": f"{text}\n{workdir / 'analysis.md'}"}


def profile(config, workdir: pathlib.Path) -> dict:
  """Trains some steps and says where their time goes.

  Args:
    config: a config as in `configs/`.
    workdir: where `profile.json`, `.md`, `.png` and `trace/` go.

  Returns:
    The profile, and `text` for the console.

  Raises:
    UserError: anything the user can mend.
  """
  _make(workdir)
  found = measured.profile(config, workdir)
  text = markdown.render_profile(found)
  _write(workdir, "profile", found, text)
  picture = workdir / "profile.png"
  processes.on_primary(lambda: figures.write(pictures.draw(found), picture))
  return found | {"text": f"{text}\n{workdir / 'profile.md'}, {picture}"}


def _make(workdir: pathlib.Path) -> None:
  try:
    workdir.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise UserError(
      f"--workdir={workdir} cannot be written ({error.strerror}): choose "
      "another."
    ) from error


def _write(workdir: pathlib.Path, stem: str, found: dict, text: str) -> None:
  def write() -> None:
    atomic.write_text(workdir / f"{stem}.json", json.dumps(found, indent=2))
    atomic.write_text(workdir / f"{stem}.md", text)

  processes.on_primary(write)
