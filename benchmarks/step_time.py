"""Train and predict steps, ours beside PyTorch's, in turn.

  python -m benchmarks.step_time --out=benchmarks/results/NAME.json

Every system makes the same step on the same random batch: forward, loss,
backward, Adam. Programs take turns, repetition by repetition, so that what else
the machine does hits all of them; the median counts. Restrict the cores with
`taskset`: both sides use what they are given. Without PyTorch ours are timed
alone.
"""

import argparse
import functools
import importlib.metadata
import json
import os
import pathlib
import platform
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np

from configs import dat, ds_lstm
from ser_jax.batch import Batch
from ser_jax.experiment import make_model
from ser_jax.tasks.table import TASKS
from ser_jax.train.optimizers import make_optimizer
from ser_jax.train.state import init_state
from ser_jax.train.step import predict_step, train_step

# Config, batch, frames and dimensions of each input, classes, speakers.
SYSTEMS = {
  "ds_lstm": (
    lambda: ds_lstm.get_config("dual"),
    32,
    {"mfcc": (384, 39), "s1": (459, 64), "s2": (230, 128)},
    4,
    1,
  ),
  "dat": (
    lambda: dat.get_config("mfcc,depth1,gamma3.33"),
    32,
    {"features": (281, 20)},
    7,
    6,
  ),
}


def draw(name: str) -> tuple[dict, dict]:
  """Random inputs and targets."""
  _, size, shapes, classes, speakers = SYSTEMS[name]
  generator = np.random.default_rng(0)
  inputs = {
    key: generator.normal(size=(size, *shape)).astype(np.float32)
    for key, shape in shapes.items()
  }
  targets = {
    "emotion": generator.integers(0, classes, size),
    "speaker": generator.integers(0, speakers, size),
  }
  return inputs, targets


def ours(name: str, accelerator: bool) -> dict:
  """Our compiled steps: name to a call that blocks until it is done."""
  make_config, size, shapes, classes, speakers = SYSTEMS[name]
  config = make_config()
  if accelerator:
    config.model.forms, config.model.hoist = ("direct", "direct"), True
  inputs, targets = draw(name)
  batch = Batch(
    inputs=inputs,
    lengths={key: np.full(size, shapes[key][0], np.int32) for key in inputs},
    targets={key: value.astype(np.int32) for key, value in targets.items()},
    weight=np.ones(size, np.float32),
    speaker=np.zeros(size, np.int32),
    index=np.zeros(size, np.int32),
  )
  batch = jax.device_put(batch)
  model = make_model(config, classes=classes, speakers=speakers)

  def optimizer(epochs, **options):
    return make_optimizer(
      config.optimizer, epochs=epochs, steps_per_epoch=10, **options
    )

  task = TASKS[config.task.name](model, config, optimizer, None)[-1].task
  state = jax.jit(functools.partial(init_state, task=task))(
    jnp.uint32(0), batch
  )
  seconds, programs = {}, {}
  for step, function, first in (
    (
      "train",
      functools.partial(train_step, task=task, total_steps=1000),
      state,
    ),
    ("predict", functools.partial(predict_step, task=task), state.weights),
  ):
    start = time.perf_counter()
    donate = (0,) if step == "train" else ()
    programs[step] = (
      jax.jit(function, donate_argnums=donate).lower(first, batch).compile()
    )
    seconds[step] = time.perf_counter() - start
  held = [state]

  def train():
    held[0], metrics = programs["train"](held[0], batch)
    jax.block_until_ready((held[0], metrics))

  def predict():
    jax.block_until_ready(programs["predict"](held[0].weights, batch))

  return {"train": train, "predict": predict, "compile_seconds": seconds}


def theirs(name: str, compiled: bool) -> dict:
  """PyTorch's steps, eager or through torch.compile."""
  import torch

  from benchmarks.peers import ds_lstm as peer_ds_lstm
  from benchmarks.peers import speaker_invariant as peer_speaker_invariant

  torch.set_num_threads(len(os.sched_getaffinity(0)))
  device = "cuda" if torch.cuda.is_available() else "cpu"
  build = {
    "ds_lstm": peer_ds_lstm.Dual,
    "dat": peer_speaker_invariant.SpeakerInvariant,
  }[name]
  torch.manual_seed(0)
  model = build(SYSTEMS[name][2]).to(device)
  optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
  inputs, targets = (
    {key: torch.from_numpy(value).to(device) for key, value in part.items()}
    for part in draw(name)
  )
  loss, forward = model.loss, model.forward
  if compiled:
    static = functools.partial(torch.compile, dynamic=False)
    loss, forward = static(loss), static(forward)

  def wait():
    if device == "cuda":
      torch.cuda.synchronize()

  def train():
    model.train()
    optimizer.zero_grad()
    loss(inputs, targets).backward()
    optimizer.step()
    wait()

  def predict():
    model.eval()
    with torch.no_grad():
      forward(inputs)
    wait()

  start = time.perf_counter()
  train()
  seconds = {"train": time.perf_counter() - start}
  start = time.perf_counter()
  predict()
  seconds["predict"] = time.perf_counter() - start
  return {"train": train, "predict": predict, "compile_seconds": seconds}


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
  return {
    side: {
      "median_ms": round(statistics.median(values), 2),
      "least_ms": round(min(values), 2),
      "greatest_ms": round(max(values), 2),
      "first_call_seconds": round(sides[side]["compile_seconds"][step], 2),
    }
    for side, values in times.items()
  }


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
    "device": jax.devices()[0].device_kind,
    "python": platform.python_version(),
    "packages": packages,
  }


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--systems", nargs="+", default=list(SYSTEMS))
  parser.add_argument("--repetitions", type=int, default=10)
  parser.add_argument("--out", type=pathlib.Path, required=True)
  parser.add_argument("--no-compile", action="store_true",
                      help="leave torch.compile out")  # fmt: skip
  arguments = parser.parse_args()
  found = {"machine": machine(), "systems": {}}
  accelerator = jax.default_backend() != "cpu"
  for name in arguments.systems:
    sides = {"ser_jax": ours(name, accelerator)}
    if "torch" in found["machine"]["packages"]:
      sides["torch eager"] = theirs(name, compiled=False)
      if not arguments.no_compile:
        sides["torch.compile"] = theirs(name, compiled=True)
    entry = {"batch": SYSTEMS[name][1]}
    for step in ("train", "predict"):
      entry[step] = measure(sides, step, arguments.repetitions)
      medians = {k: v["median_ms"] for k, v in entry[step].items()}
      peers = [v for k, v in medians.items() if k != "ser_jax"]
      if peers:
        entry[step]["ratio"] = round(min(peers) / medians["ser_jax"], 2)
      print(name, step, medians, "ratio", entry[step].get("ratio"), flush=True)
    found["systems"][name] = entry
  arguments.out.parent.mkdir(parents=True, exist_ok=True)
  arguments.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
  main()
