"""Trained runs in one file, read back without the code of the model.

    workdir -> predict step (jax.export) + arrays + recipe -> FILE.zip
    FILE.zip -> Predictor

The file holds `recipe.json`, the step as StableHLO, computed as CPUs want it
(`predict.cpu.jax`) and as accelerators do (`predict.accelerator.jax`), and
`arrays.npz`; features are made as ever, by the code of `ser_jax/features`.
"""

import io
import json
import pathlib
import zipfile
from collections.abc import Callable, Sequence

import jax
import jax.export
import numpy as np
from jaxtyping import Shaped

from ser_jax import atomic, inference
from ser_jax.errors import UserError
from ser_jax.features.sets import require_unchanged
from ser_jax.inference import Inputs, Lengths, Predictor, Recipe

FORMAT = 2
# JAX's names of platforms -> the kind of devices that they are.
PLATFORMS = {"cpu": "cpu", "cuda": "accelerator", "tpu": "accelerator"}


def write(
  path: pathlib.Path,
  recipe: Recipe,
  names: Sequence[str],
  batch_size: int,
  steps: dict[str, Callable],
  arrays: Sequence[Sequence[Shaped[np.ndarray, "..."]]],
) -> int:
  """Writes a file in one move.

  Args:
    path: of the file.
    recipe: of the runs.
    names: of the runs.
    batch_size: of every call.
    steps: by the kind of devices: arrays of a run, inputs and lengths of a
      batch, to scores.
    arrays: of each run: weights and statistics.

  Returns:
    Bytes written.

  Raises:
    UserError: the file cannot be written.
  """
  inputs, lengths = inference.pack(recipe, (), batch_size)
  shapes = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype),
    (list(arrays[0]), inputs, lengths),
  )
  lowered = {
    kind: jax.export.export(
      jax.jit(step), platforms=[p for p, of in PLATFORMS.items() if of == kind]
    )(*shapes)
    for kind, step in steps.items()
  }
  described = {
    "format": FORMAT,
    "recipe": json.loads(inference.to_json(recipe)),
    "runs": list(names),
    "batch_size": batch_size,
    "platforms": list(PLATFORMS),
    "jax": jax.__version__,
  }
  stored = io.BytesIO()
  np.savez(
    stored,
    **{
      f"{n:04d}": np.stack(leaf)
      for n, leaf in enumerate(zip(*arrays, strict=True))
    },
  )
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
      atomic.replacing(path) as temporary,
      zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as file,
    ):
      file.writestr("recipe.json", json.dumps(described, indent=2))
      for kind, module in lowered.items():
        file.writestr(_file_of(kind), module.serialize())
      file.writestr("arrays.npz", stored.getvalue())
  except OSError as error:
    raise UserError(
      f"--output={path} cannot be written ({error.strerror}): choose another."
    ) from error
  return path.stat().st_size


def _file_of(kind: str) -> str:
  """The file of the step for a kind of devices."""
  return f"predict.{kind}.jax"


def read(path: pathlib.Path, names: Sequence[str] = ()) -> Predictor:
  """Makes a predictor of an exported file.

  Args:
    path: of the file.
    names: of runs; empty for all.

  Returns:
    The predictor; it compiles at its first call.

  Raises:
    UserError: the file is damaged or of another version, has no such run, or
      features are made otherwise by now; or it is for other devices.
  """
  platform = jax.export.default_export_platform()
  if platform not in PLATFORMS:
    raise UserError(
      f"{path} is for {', '.join(PLATFORMS)}, not for {platform}: set "
      "JAX_PLATFORMS=cpu."
    )
  try:
    with zipfile.ZipFile(path) as file:
      described = json.loads(file.read("recipe.json"))
      if described["format"] != FORMAT:
        raise ValueError(f"format {described['format']}, not {FORMAT}")
      program = jax.export.deserialize(
        bytearray(file.read(_file_of(PLATFORMS[platform])))
      )
      with np.load(io.BytesIO(file.read("arrays.npz"))) as stored:
        arrays = [stored[name] for name in sorted(stored.files)]
    recipe = inference.from_json(json.dumps(described["recipe"]))
  except (OSError, ValueError, KeyError, TypeError,
          zipfile.BadZipFile) as error:  # fmt: skip
    raise UserError(
      f"{path} is no export that this version reads ({error}): write it again "
      "with --mode=export."
    ) from error
  require_unchanged(recipe.features, recipe.made, source=str(path))
  known = described["runs"]
  for name in names:
    if name not in known:
      raise UserError(
        f"--run={name} is not in {path}: choose from {', '.join(known)}."
      )
  chosen = list(names) or known
  placed = [
    [jax.device_put(leaf[known.index(name)]) for leaf in arrays]
    for name in chosen
  ]
  call = jax.jit(program.call)

  def step(number: int, inputs: Inputs, lengths: Lengths) -> np.ndarray:
    return np.asarray(call(placed[number], inputs, lengths))

  return Predictor(recipe, tuple(chosen), described["batch_size"], step)
