"""Train and predict steps, ours beside PyTorch's, in turn.

  taskset -c 0 python -m benchmarks.step_time --out=benchmarks/results/NAME.json
  python -m benchmarks.table benchmarks/results/NAME.json

Ours are the programs of a training: the corpus resident, a batch gathered and
standardised inside the step; and streamed by tf.data from records in memory,
where the time includes the wait for the batch. PyTorch's are given their batch
as it is. Programs take turns, repetition by repetition, so that what else the
machine does hits all of them; the median counts. Restrict the cores with
`taskset`: both sides use what they are given. Without PyTorch or TensorFlow
their rows are left out.
"""

import argparse
import functools
import importlib.metadata
import importlib.util
import itertools
import json
import os
import pathlib
import platform
import statistics
import time
from collections.abc import Callable

import jax
import numpy as np

from benchmarks import systems
from ser_jax import runs

STEPS = ("train", "predict")
HELD = 64  # utterances of the resident corpus


def ours(name: str, source: str, precision: str, accelerator: bool) -> dict:
  """Our compiled steps: calls that block until they are done, and sizes."""
  changes = {"data__source": source, "precision": precision}
  config = systems.make_config(name, parallel__data=1, **changes)
  config.batch_size = 32
  if accelerator and "forms" in config.model:
    config.model.forms, config.model.hoist = ("direct", "direct"), True
  bench = systems.Bench(systems.make_experiment(config, HELD))
  engine = bench.engine
  if source == "resident":
    items = itertools.repeat(next(bench.items()))
  else:
    items = itertools.chain.from_iterable(bench.items() for _ in iter(int, 1))

  def call(step: str) -> None:
    frames, item = next(items)
    jax.block_until_ready(getattr(bench, step)(frames, item))

  for step in STEPS:
    call(step)
  programs = {"train": engine.train, "predict": engine.predict}
  found = {step: functools.partial(call, step) for step in STEPS}
  return found | {
    "first_call_seconds": {
      step: sum(program.compile_seconds.values())
      for step, program in programs.items()
    },
    "peak_mb": {
      step: _peak(program, next(items)[0]) for step, program in programs.items()
    },
  }


def _peak(program, frames) -> float:
  """Megabytes that a program needs, as XLA planned them."""
  found = program.executable(frames).memory_analysis()
  size = found.argument_size_in_bytes + found.temp_size_in_bytes
  size += found.output_size_in_bytes - found.alias_size_in_bytes
  return round(size / 1e6, 1)


def draw(experiment: runs.Experiment, size: int) -> tuple[dict, dict]:
  """Random inputs and targets in the shapes of an experiment."""
  examples, generator = experiment.dataset.examples, np.random.default_rng(0)
  inputs = {
    name: generator.normal(size=(size, *examples.shape(name, plan.frames)))
    for name, plan in examples.plans.items()
  }
  inputs = {name: x.astype(np.float32) for name, x in inputs.items()}
  frames = next(iter(inputs.values())).shape[1]
  return inputs, {
    "emotion": generator.integers(0, len(experiment.dataset.classes), size),
    "speaker": generator.integers(0, 6, size),
    "contours": generator.normal(size=(size, frames, 2)).astype(np.float32),
  }


def _peers() -> dict:
  """Each system in PyTorch: the module, and what makes its training step."""
  from benchmarks.peers import adversarial_autoencoder as aae
  from benchmarks.peers import complementary, ds_lstm, raw_waveform
  from benchmarks.peers import speaker_invariant as dat

  return {
    "ds_lstm": (ds_lstm.Dual, trainer),
    "dat": (dat.SpeakerInvariant, trainer),
    "aae": (aae.AdversarialAutoencoder, aae.trainer),
    "dcaen": (complementary.Complementary, trainer),
    "adieu": (raw_waveform.RawWaveform, trainer),
  }


def trainer(model, wrap: Callable) -> Callable:
  """One training step of a single loss; it goes through `wrap`."""
  import torch

  moved = [p for p in model.parameters() if p.requires_grad]
  optimizer, loss = torch.optim.Adam(moved, lr=1e-3), wrap(model.loss)

  def train(inputs: dict, targets: dict) -> None:
    optimizer.zero_grad()
    loss(inputs, targets).backward()
    optimizer.step()

  return train


def theirs(name: str, compiled: bool, inputs: dict, targets: dict) -> dict:
  """PyTorch's steps, eager or through torch.compile."""
  import torch

  torch.set_num_threads(len(os.sched_getaffinity(0)))
  device = "cuda" if torch.cuda.is_available() else "cpu"
  build, make_trainer = _peers()[name]
  torch.manual_seed(0)
  shapes = {key: value.shape[1:] for key, value in inputs.items()}
  model = build(shapes).to(device)
  inputs, targets = (
    {key: torch.from_numpy(value).to(device) for key, value in part.items()}
    for part in (inputs, targets)
  )
  wrap = functools.partial(torch.compile, dynamic=False)
  if not compiled:
    wrap = lambda function: function  # noqa: E731
  step, forward = make_trainer(model, wrap), wrap(model.forward)

  def wait():
    if device == "cuda":
      torch.cuda.synchronize()

  def train():
    model.train()
    step(inputs, targets)
    wait()

  def predict():
    model.eval()
    with torch.no_grad():
      forward(inputs)
    wait()

  found = {"train": train, "predict": predict}
  seconds = {}
  for name, call in found.items():
    start = time.perf_counter()
    call()
    seconds[name] = time.perf_counter() - start
  return found | {"first_call_seconds": seconds}


def measure(sides: dict, step: str, repetitions: int) -> dict:
  """Median, least and greatest milliseconds of each side, taking turns."""
  times = {side: [] for side in sides}
  for calls in sides.values():
    calls[step]()
  for _ in range(repetitions):
    for side, calls in sides.items():
      start = time.perf_counter()
      calls[step]()
      times[side].append(1e3 * (time.perf_counter() - start))
  found = {}
  for side, values in times.items():
    found[side] = {
      "median_ms": round(statistics.median(values), 2),
      "least_ms": round(min(values), 2),
      "greatest_ms": round(max(values), 2),
      "first_call_seconds": round(sides[side]["first_call_seconds"][step], 2),
    }
    if "peak_mb" in sides[side]:
      found[side]["peak_mb"] = sides[side]["peak_mb"][step]
  peers = [x["median_ms"] for side, x in found.items() if "torch" in side]
  if peers:
    found["ratio"] = round(min(peers) / found["resident"]["median_ms"], 2)
  return found


def machine() -> dict:
  """What was measured on."""
  model = platform.processor()
  cpuinfo = pathlib.Path("/proc/cpuinfo")
  if cpuinfo.exists():
    lines = cpuinfo.read_text().splitlines()
    model = next(x.split(": ")[1] for x in lines if x.startswith("model name"))
  packages = {}
  for name in ("jax", "flax", "optax", "numpy", "torch"):
    try:
      packages[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
      continue
  return {
    "cpu": model,
    "cores": len(os.sched_getaffinity(0)),
    "load": round(os.getloadavg()[0], 1),
    "device": jax.devices()[0].device_kind,
    "python": platform.python_version(),
    "packages": packages,
  }


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--systems", nargs="+", default=list(systems.SYSTEMS))
  parser.add_argument("--repetitions", type=int, default=7)
  parser.add_argument("--precision", default="tf32")
  parser.add_argument("--out", type=pathlib.Path, required=True)
  parser.add_argument("--compile", action="store_true",
                      help="torch.compile beside eager")  # fmt: skip
  arguments = parser.parse_args()
  found = {"machine": machine(), "precision": arguments.precision}
  found["systems"] = {}
  accelerator = jax.default_backend() != "cpu"
  streams = importlib.util.find_spec("tensorflow") is not None
  for name in arguments.systems:
    sides = {
      source: ours(name, source, arguments.precision, accelerator)
      for source in ("resident", *(("stream",) if streams else ()))
    }
    if "torch" in found["machine"]["packages"]:
      experiment = systems.make_experiment(systems.make_config(name), 1)
      batch = draw(experiment, 32)
      sides["torch eager"] = theirs(name, False, *batch)
      if arguments.compile:
        sides["torch.compile"] = theirs(name, True, *batch)
    entry = {"batch": 32}
    for step in STEPS:
      entry[step] = measure(sides, step, arguments.repetitions)
      print(name, step, entry[step], flush=True)
    found["systems"][name] = entry
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
  main()
