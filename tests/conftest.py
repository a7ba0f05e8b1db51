"""Eight CPU devices, strict ranks, and where the real corpora are."""

import fcntl
import gc
import importlib.util
import os
import pathlib
import subprocess
import sys

from tests.compiling import FLAGS

os.environ.setdefault("XLA_FLAGS", FLAGS)
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import jax  # noqa: E402
import jaxtyping  # noqa: E402
import pytest  # noqa: E402

# Not the modules of batches, statistics and states: tree operations put
# placeholders into their fields.
jaxtyping.install_import_hook(
  [
    "data_prep",
    "ser_jax.atomic",
    "ser_jax.data.augment",
    "ser_jax.data.contours",
    "ser_jax.data.copies",
    "ser_jax.data.labels",
    "ser_jax.data.moments",
    "ser_jax.data.order",
    "ser_jax.data.prepare",
    "ser_jax.data.protocols",
    "ser_jax.data.recordings",
    "ser_jax.evaluation",
    "ser_jax.features",
    "ser_jax.losses",
    "ser_jax.models",
    "ser_jax.nn",
    "ser_jax.overrides",
  ],
  "beartype.beartype",
)
jax.config.update("jax_numpy_rank_promotion", "raise")
# Tracing makes many objects that live on: a tenth of its time is looking for
# garbage among them.
gc.set_threshold(50_000, 20, 20)

ROOT = pathlib.Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def corpora() -> pathlib.Path:
  """The folder of real corpora; skips where there is none."""
  folder = pathlib.Path(
    os.environ.get("SER_JAX_CORPORA", ROOT.parent / "shared" / "data")
  )
  if not (folder / "emodb").is_dir():
    pytest.skip(f"no corpora at {folder}: set SER_JAX_CORPORA")
  return folder


@pytest.fixture(scope="session")
def opensmile_installed() -> None:
  """Skips without openSMILE.

  It is not imported to find out: `ser_jax.features.opensmile` must load it,
  since TensorFlow may have been there first.
  """
  if importlib.util.find_spec("opensmile") is None:
    pytest.skip("needs the extra opensmile")


@pytest.fixture(scope="session")
def synthetic_shards(tmp_path_factory):
  """Feature set -> shards of forty short synthetic utterances.

  All of pytest's processes read the same ones, which none may change.
  """
  base = tmp_path_factory.getbasetemp()
  folder = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
  folder /= "shards"
  folder.mkdir(exist_ok=True)

  def build(features: str, speeds: tuple[float, ...] = ()) -> pathlib.Path:
    played = ",".join(map(str, speeds))
    out = folder / f"{features}{played}"
    if out.exists():  # whole, whatever another process is building
      return out
    with open(folder / "building", "w") as lock:
      fcntl.flock(lock, fcntl.LOCK_EX)
      if not out.exists():
        subprocess.run(
          [
            *(sys.executable, "-m", "data_prep.build", "--corpus=synthetic"),
            *("--synthetic_utterances=4", "--synthetic_seconds=0.8"),
            *(f"--raw={folder / 'raw'}", f"--features={features}"),
            *(f"--out={out}", "--workers=1", f"--speeds={played}"),
          ],
          check=True,
          cwd=ROOT,
        )
    return out

  return build
