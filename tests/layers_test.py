"""Who may import whom: the layers of the architecture, held on the source.

A unit is a package or a module of ours. The table says which other units each
may import; inside a unit modules may import one another, without cycles.
"""

import ast
import graphlib
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
PACKAGES = ("ser_jax", "data_prep", "configs")
MAX_LINES = 400

FLOOR = {
  *("ser_jax.atomic", "ser_jax.batch", "ser_jax.errors"),
  *("ser_jax.progress", "ser_jax.run_names"),
}
PIPELINE = {
  "ser_jax.data",
  "ser_jax.evaluation",
  "ser_jax.models",
  "ser_jax.tasks",
  "ser_jax.train",
}
MAY_IMPORT = {
  "ser_jax": set(),
  "ser_jax.atomic": {"ser_jax.errors"},
  "ser_jax.errors": set(),
  "ser_jax.progress": set(),
  "ser_jax.run_names": set(),
  "ser_jax.batch": set(),
  # What data_prep uses runs without JAX, hence without Batch.
  "ser_jax.features": {"ser_jax.errors"},
  "ser_jax.nn": FLOOR,
  "ser_jax.models": FLOOR | {"ser_jax.nn"},
  "ser_jax.losses": FLOOR,
  "ser_jax.streaming": FLOOR | PIPELINE | {"ser_jax.system", "ser_jax.trained"},
  "ser_jax.cells": FLOOR
  | PIPELINE
  | {"ser_jax.assembly", "ser_jax.command_line", "ser_jax.experiment"}
  | {
    "ser_jax.features",
    "ser_jax.inspection",
    "ser_jax.predictions",
    "ser_jax.runs",
  }
  | {"ser_jax.system", "ser_jax.trained", "ser_jax.workdir"},
  "ser_jax.tasks": FLOOR | {"ser_jax.losses"},
  "ser_jax.data": FLOOR,
  # The step divides: `losses.mean`.
  "ser_jax.train": FLOOR | {"ser_jax.data", "ser_jax.losses", "ser_jax.tasks"},
  "ser_jax.evaluation": FLOOR | {"ser_jax.data", "ser_jax.workdir"},
  "ser_jax.workdir": FLOOR,
  "ser_jax.checks": FLOOR | {"ser_jax.data"},
  # Read where features are made, hence without JAX (see below), which
  # `data.recordings` does without, too.
  "ser_jax.inference": FLOOR | {"ser_jax.data"},
  "ser_jax.export": FLOOR | {"ser_jax.features", "ser_jax.inference"},
  "ser_jax.predictions": FLOOR | PIPELINE,
  "ser_jax.runs": FLOOR | PIPELINE | {"ser_jax.predictions", "ser_jax.workdir"},
  "ser_jax.inspection": FLOOR
  | PIPELINE
  | {"ser_jax.predictions", "ser_jax.runs"},
  "ser_jax.reporting": FLOOR
  | PIPELINE
  | {"ser_jax.predictions", "ser_jax.runs"},
  "ser_jax.system": FLOOR | PIPELINE,
  "ser_jax.assembly": FLOOR
  | PIPELINE
  | {"ser_jax.features", "ser_jax.runs", "ser_jax.system"},
  "ser_jax.trained": FLOOR
  | PIPELINE
  | {"ser_jax.features", "ser_jax.inference", "ser_jax.predictions"}
  | {"ser_jax.runs", "ser_jax.system", "ser_jax.workdir"},
  "ser_jax.experiment": FLOOR
  | PIPELINE
  | {"ser_jax.assembly", "ser_jax.checks", "ser_jax.features"}
  | {"ser_jax.inference", "ser_jax.inspection", "ser_jax.predictions"}
  | {"ser_jax.reporting", "ser_jax.runs", "ser_jax.system", "ser_jax.workdir"},
  "ser_jax.analysis": FLOOR
  | PIPELINE
  | {
    "ser_jax.assembly",
    "ser_jax.experiment",
    "ser_jax.features",
    "ser_jax.runs",
    "ser_jax.workdir",
  },
  "ser_jax.demo": FLOOR
  | PIPELINE
  | {"ser_jax.export", "ser_jax.features", "ser_jax.inference", "ser_jax.nn"}
  | {"ser_jax.predictions", "ser_jax.system", "ser_jax.trained"},
  "ser_jax.memory": set(),
  "ser_jax.overrides": {"ser_jax.errors"},
  "ser_jax.command_line": FLOOR | {"ser_jax.memory", "ser_jax.overrides"},
  "ser_jax.reproduce": FLOOR
  | PIPELINE
  | {"ser_jax.assembly", "ser_jax.command_line", "ser_jax.experiment"}
  | {"ser_jax.reporting"}
  | {"ser_jax.workdir"},
  "ser_jax.main": FLOOR
  | {"ser_jax.analysis", "ser_jax.command_line", "ser_jax.demo"}
  | {"ser_jax.experiment", "ser_jax.train"},
  "data_prep": set(),
  "data_prep.utterance": {"ser_jax.errors"},
  "data_prep.copies": {
    "ser_jax.errors",
    "ser_jax.features",
    "data_prep.excerpt",
    "data_prep.utterance",
  },
  "data_prep.corpora": {"ser_jax.errors", "data_prep.utterance"},
  "data_prep.excerpt": {
    "ser_jax.errors",
    "ser_jax.features",
    "data_prep.utterance",
  },
  "data_prep.skipped": {"ser_jax.errors", "data_prep.utterance"},
  "data_prep.extract": {
    "ser_jax.errors",
    "ser_jax.features",
    "ser_jax.progress",
    "data_prep.excerpt",
    "data_prep.skipped",
    "data_prep.utterance",
  },
  "data_prep.write_shards": {
    "ser_jax.errors",
    "ser_jax.features",
    "ser_jax.progress",
    "data_prep.excerpt",
    "data_prep.extract",
    "data_prep.skipped",
    "data_prep.utterance",
  },
  "data_prep.build": {
    "ser_jax.errors",
    "ser_jax.features",
    "data_prep.copies",
    "data_prep.corpora",
    "data_prep.utterance",
    "data_prep.write_shards",
  },
  "configs": set(),
  "configs.common": set(),
  "configs.tables": {
    "configs.aae",
    "configs.adieu",
    "configs.dat",
    "configs.dcaen",
    "configs.ds_lstm",
  },
}
# The only files that may name these distributions.
ONLY_IN = {
  "tensorflow": {"ser_jax.data.stream"},
  "tensorflow_datasets": {"data_prep.write_shards"},
  "orbax": {"ser_jax.train.checkpoint"},
}
# What runs without JAX, so that features are made where there is none.
WITHOUT_JAX = ("data_prep", "ser_jax.features")
JAX = {"jax", "jaxlib", "flax", "optax", "orbax"}
HEAVY = {
  "tensorflow",
  "tensorflow_datasets",
  "librosa",
  "opensmile",
  "soundfile",
}


def module_name(path: pathlib.Path, root: pathlib.Path = ROOT) -> str:
  """The dotted name of a source file."""
  parts = path.relative_to(root).with_suffix("").parts
  return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def source_files() -> dict[str, pathlib.Path]:
  """Module name -> file, for all modules of ours."""
  return {
    module_name(path): path
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("*.py"))
  }


FILES = source_files()


def imports_of(module: str, source: str, is_package: bool = False) -> set[str]:
  """Absolute dotted names that a module imports, functions included.

  `from a import b` counts as `a.b`, which `ours` cuts back to a module.
  """
  names = set()
  for node in ast.walk(ast.parse(source)):
    if isinstance(node, ast.Import):
      names.update(alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      base = node.module or ""
      if node.level:
        up = node.level - 1 if is_package else node.level
        parts = module.split(".")
        stem = parts[: len(parts) - up]
        base = ".".join([*stem, *([node.module] if node.module else [])])
      names.update(f"{base}.{alias.name}" for alias in node.names)
  return names


def imports(module: str) -> set[str]:
  path = FILES[module]
  return imports_of(module, path.read_text(), path.name == "__init__.py")


def ours(name: str) -> str | None:
  """The module of ours that an imported name lies in, if any."""
  while name:
    if name in FILES:
      return name
    name = name.rpartition(".")[0]
  return None


def unit(module: str) -> str | None:
  """The longest entry of the table that holds a module."""
  alone = module.startswith("configs.") and module.count(".") == 1
  if alone and module not in MAY_IMPORT:
    return module  # every config is a unit of its own
  name = module
  while name and name not in MAY_IMPORT:
    name = name.rpartition(".")[0]
  # A bare package's entry stands for its __init__ alone.
  return name if name not in PACKAGES or name == module else None


def allowed(of_unit: str) -> set[str]:
  return MAY_IMPORT.get(of_unit, {"configs.common"})


@pytest.mark.parametrize("module", FILES)
def test_imports_respect_the_layers(module: str):
  here = unit(module)
  assert here, f"{module} is in no layer: give it one in MAY_IMPORT"
  imported = {ours(name) for name in imports(module)} - {None, module}
  wrong = {
    name for name in imported if unit(name) not in allowed(here) | {here}
  }
  assert not wrong, f"{here} may import only {sorted(allowed(here))}"


def test_imports_have_no_cycles():
  graph = {
    module: {ours(name) for name in imports(module)} - {None, module}
    for module in FILES
  }
  graphlib.TopologicalSorter(graph).prepare()


def test_the_table_has_no_cycles():
  graphlib.TopologicalSorter(MAY_IMPORT).prepare()


@pytest.mark.parametrize("distribution", ONLY_IN)
def test_only_one_file_names(distribution: str):
  naming = {
    module
    for module in FILES
    if any(name.split(".")[0] == distribution for name in imports(module))
  }
  assert naming <= ONLY_IN[distribution]


@pytest.mark.parametrize(
  "module", [name for name in FILES if name.startswith(WITHOUT_JAX)]
)
def test_features_are_made_without_jax(module: str):
  assert not {name.split(".")[0] for name in imports(module)} & JAX


def test_no_import_hides_from_this_test():
  hidden = {
    module
    for module, path in FILES.items()
    for node in ast.walk(ast.parse(path.read_text()))
    if getattr(node, "id", getattr(node, "attr", None))
    in ("__import__", "import_module", "eval", "exec")
  }
  assert not hidden


def imported_with(*modules: str) -> set[str]:
  """Top-level names in sys.modules once a new Python has imported modules."""
  code = f"import sys, {', '.join(modules)}; print(*sys.modules, sep='\\n')"
  result = subprocess.run(
    [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True
  )
  assert result.returncode == 0, result.stderr
  return {name.split(".")[0] for name in result.stdout.split()}


def test_training_imports_nothing_heavy():
  loaded = imported_with("ser_jax.experiment", "ser_jax.main")
  assert "jax" in loaded
  assert not loaded & HEAVY


def test_features_import_nothing_heavy():
  modules = [name for name in FILES if name.startswith("ser_jax.features")]
  assert not imported_with(*modules) & HEAVY


def test_files_to_predict_are_read_without_jax():
  assert not imported_with("ser_jax.demo.clips", "ser_jax.inference") & JAX


def test_files_are_short():
  folders = (*PACKAGES, "tests", "benchmarks")
  long = {
    str(path.relative_to(ROOT)): lines
    for folder in folders
    for path in (ROOT / folder).rglob("*.py")
    if (lines := len(path.read_text().splitlines())) > MAX_LINES
  }
  assert not long, f"more than {MAX_LINES} lines: {long}"


# --- the reader of imports itself --------------------------------------------


@pytest.mark.parametrize(
  "source, names",
  [
    ("import jax.numpy as jnp, numpy", {"jax.numpy", "numpy"}),
    ("from ser_jax import losses", {"ser_jax.losses"}),
    ("def f():\n  import tensorflow as tf", {"tensorflow"}),
    ("from . import step", {"ser_jax.train.step"}),
    ("from ..nn import conv", {"ser_jax.nn.conv"}),
    ("from .step import train_step", {"ser_jax.train.step.train_step"}),
  ],
)
def test_reader_sees_every_form_of_import(source: str, names: set[str]):
  assert imports_of("ser_jax.train.loop", source) == names


def test_reader_resolves_a_package_s_own_imports():
  source = "from .step import train_step"
  found = imports_of("ser_jax.train", source, is_package=True)
  assert found == {"ser_jax.train.step.train_step"}


@pytest.mark.parametrize(
  "name, module",
  [
    ("ser_jax.batch.Batch", "ser_jax.batch"),
    ("ser_jax.errors", "ser_jax.errors"),
    ("numpy.linalg", None),
  ],
)
def test_reader_finds_our_modules(name: str, module: str | None):
  assert ours(name) == module


def test_units():
  assert unit("ser_jax.train.loop") == "ser_jax.train"
  assert unit("ser_jax.losses") == "ser_jax.losses"
  assert unit("configs.ds_lstm") == "configs.ds_lstm"
  assert unit("ser_jax.unheard_of") is None
