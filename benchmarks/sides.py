"""What is timed: our steps, and PyTorch's, each side in its own process.

A process has its threads, caches and memory to itself, as if a user ran nothing
else; it waits while another side takes its turn.
"""

import functools
import itertools
import multiprocessing
import resource
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection

import jax
import numpy as np

from benchmarks import systems
from ser_jax import memory, runs
from ser_jax.features import cores

STEPS = ("train", "predict")
TURN = 0.1  # seconds that a turn lasts at least
BATCH = 32
HELD = 64  # utterances of the resident corpus


class Side:
  """A process that makes its steps and does some whenever it is told to."""

  def __init__(self, make: Callable[..., dict], *arguments, kept: bool):
    """Starts it, and waits until its steps have been done once.

    Args:
      make: `ours` or `theirs`.
      *arguments: of `make`.
      kept: whether the process keeps freed memory (see `ser_jax.memory`).
    """
    context = multiprocessing.get_context("spawn")
    self._pipe, theirs = context.Pipe()
    self._process = context.Process(
      target=_serve, args=(theirs, kept, make, arguments), daemon=True
    )
    self._process.start()
    theirs.close()
    self.kept = kept
    self.sizes = self._pipe.recv()

  def time(self, step: str) -> float:
    """Milliseconds of a step, of as many as fill a turn.

    A training does one after another: by itself the first of short ones would
    tell how fast a cold cache fills.
    """
    self._pipe.send(step)
    return self._pipe.recv()

  def end(self) -> float:
    """Ends the process; the most memory that it ever had, in MB."""
    self._pipe.send(None)
    peak = self._pipe.recv()
    self._process.join()
    return peak


def _serve(
  pipe: Connection, kept: bool, make: Callable[..., dict], arguments: tuple
) -> None:
  """Does turns of steps until it is told to end."""
  if kept:
    memory.keep_freed()
  made = make(*arguments)
  pipe.send({key: made[key] for key in made if key not in STEPS})
  while step := pipe.recv():
    start, done, seconds = time.perf_counter(), 0, 0.0
    while seconds < TURN:
      made[step]()
      done, seconds = done + 1, time.perf_counter() - start
    pipe.send(1e3 * seconds / done)
  # macOS counts in bytes, Linux in KiB.
  unit = 1 if sys.platform == "darwin" else 1024
  pipe.send(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6)


def ours(name: str, source: str, precision: str) -> dict:
  """Our compiled steps: calls that block until they are done, and sizes."""
  changes = {"data__source": source, "precision": precision}
  config = systems.make_config(name, parallel__data=1, **changes)
  config.batch_size = BATCH
  bench = systems.Bench(systems.make_experiment(config, HELD))
  engine = bench.engine
  items = bench.items()
  if source == "resident":
    items = itertools.repeat(next(items))

  def call(step: str) -> None:
    frames, item = next(items)
    jax.block_until_ready(getattr(bench, step)(frames, item))

  for step in STEPS:
    call(step)
  programs = {"train": engine.train, "predict": engine.predict}
  found = {step: functools.partial(call, step) for step in STEPS}
  return found | {
    "first_call_seconds": {
      step: round(sum(program.compile_seconds.values()), 2)
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
    "aae_classifier": (aae.Classifier, aae.trainer),
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


def theirs(
  name: str, compiled: bool, precision: str, inputs: dict, targets: dict
) -> dict:
  """PyTorch's steps, eager or through torch.compile."""
  import torch

  torch.set_num_threads(cores.available())
  device = "cuda" if torch.cuda.is_available() else "cpu"
  fast = precision != "float32"
  torch.backends.cuda.matmul.allow_tf32 = fast
  torch.backends.cudnn.allow_tf32 = fast
  build, make_trainer = _peers()[name]
  torch.manual_seed(0)
  shapes = {key: value.shape[1:] for key, value in inputs.items()}
  model = build(shapes).to(device)
  inputs, targets = (
    {key: torch.from_numpy(value).to(device) for key, value in part.items()}
    for part in (inputs, targets)
  )

  def wrap(function):
    if compiled:
      function = torch.compile(function, dynamic=False)
    if precision == "bfloat16":
      function = torch.autocast(device, torch.bfloat16)(function)
    return function

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
    seconds[name] = round(time.perf_counter() - start, 2)
  return found | {"first_call_seconds": seconds}
