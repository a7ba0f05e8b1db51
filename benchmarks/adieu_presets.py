"""Time and memory of a step of every raw-waveform preset; the stream's pace.

  python -m benchmarks.adieu_presets --out=benchmarks/results/adieu_presets.json

Train step (forward, loss, backward, Adam) and predict step on one random batch
of 6 s an utterance; memory is what XLA sets aside beside arguments and results.
Processor time is told beside the clock, for machines that others use too. A
stream hears one utterance frame by frame; its real-time factor is the time that
a frame takes, by the clock and of the processor, over the 40 ms that it lasts.
"""

import argparse
import functools
import json
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.destination import destination
from benchmarks.step_time import machine
from configs import adieu
from ser_jax import memory
from ser_jax.batch import Batch
from ser_jax.streaming import Stream
from ser_jax.system import make_model
from ser_jax.tasks.table import TASKS
from ser_jax.train.optimizers import make_optimizer
from ser_jax.train.state import init_state
from ser_jax.train.step import predict_step, train_step

FRAMES, SAMPLES, TARGETS = 150, 640, 2
SECONDS = 0.04  # that a frame lasts
STREAMED = ("uni256", "tzirakis2017")


def batch_of(size: int) -> Batch:
  """Noise, and contours of noise."""
  generator = np.random.default_rng(0)
  shape = (size, FRAMES)
  return jax.device_put(
    Batch(
      inputs={
        "waveform": generator.normal(size=(*shape, SAMPLES)).astype(np.float32)
      },
      lengths={"waveform": np.full(size, FRAMES, np.int32)},
      targets={
        "contours": generator.normal(size=(*shape, TARGETS)).astype(np.float32),
        "frames": np.full(size, FRAMES, np.int32),
      },
      weight=np.ones(size, np.float32),
      speaker=np.zeros(size, np.int32),
      index=np.zeros(size, np.int32),
    )
  )


def timed(call, repetitions: int) -> dict[str, float]:
  """Medians of the clock and of the processor, in milliseconds."""
  clock, processor = [], []
  for _ in range(repetitions):
    starts = time.perf_counter(), time.process_time()
    jax.block_until_ready(call())
    clock.append(1e3 * (time.perf_counter() - starts[0]))
    processor.append(1e3 * (time.process_time() - starts[1]))
  return {
    "clock_ms": round(statistics.median(clock), 2),
    "least_ms": round(min(clock), 2),
    "processor_ms": round(statistics.median(processor), 2),
  }


def steps(preset: str, size: int, repetitions: int) -> dict:
  """Times both steps of a preset."""
  config, batch = adieu.get_config(preset), batch_of(size)

  def optimizer(epochs):
    return make_optimizer(config.optimizer, epochs=epochs, steps_per_epoch=10)

  model = make_model(config, classes=TARGETS)
  task = TASKS["regress"](model, config, optimizer, None)[-1].task
  state = jax.jit(functools.partial(init_state, task=task))(
    jnp.uint32(0), batch
  )
  found = {
    "forms": model.forms,
    "parameters": sum(x.size for x in jax.tree.leaves(state.params)),
  }
  for name, function, first in (
    ("train", functools.partial(train_step, task=task, total_steps=9), state),
    ("predict", functools.partial(predict_step, task=task), state.weights),
  ):
    start = time.perf_counter()
    program = jax.jit(function).lower(first, batch).compile()
    seconds = time.perf_counter() - start
    jax.block_until_ready(program(first, batch))
    memory = program.memory_analysis().temp_size_in_bytes
    found[name] = {
      **timed(functools.partial(program, first, batch), repetitions),
      "compile_seconds": round(seconds, 1),
      "temporary_mib": round(memory / 2**20, 1),
    }
  return found


def stream(preset: str) -> dict:
  """How a preset keeps up with one utterance, frame by frame."""
  config = adieu.get_config(preset)
  model = make_model(config, classes=TARGETS)
  batch = batch_of(1)
  x, lengths = batch.inputs["waveform"], batch.lengths
  params = model.init(jax.random.key(0), batch.inputs, lengths, train=False)
  heard = Stream(model, params["params"], samples=SAMPLES)
  clock, processor, told, state = [], [], [], heard.start()
  for frame in range(FRAMES):
    starts = time.perf_counter(), time.process_time()
    state, contours = heard.push(
      state, x[:, frame : frame + 1], last=frame == FRAMES - 1
    )
    told.append(jax.block_until_ready(contours))
    clock.append(time.perf_counter() - starts[0])
    processor.append(time.process_time() - starts[1])
  whole = model.apply(params, batch.inputs, lengths, train=False)["contours"]
  each = statistics.median(clock)
  return {
    "preset": preset,
    "milliseconds_a_frame": round(1e3 * each, 2),
    "real_time_factor": round(each / SECONDS, 4),
    "real_time_factor_processor": round(
      statistics.median(processor) / SECONDS, 4
    ),
    "frames_late": heard.context,
    "greatest_difference": float(
      jnp.abs(jnp.concatenate(told, axis=1) - whole).max()
    ),
  }


def main() -> None:
  memory.keep_freed()  # as the programs do
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--presets", nargs="+", default=list(adieu.PRESETS))
  parser.add_argument("--batch", type=int, default=4)
  parser.add_argument("--repetitions", type=int, default=3)
  parser.add_argument("--out", type=destination, required=True)
  arguments = parser.parse_args()
  found = {"machine": machine(), "batch": arguments.batch, "presets": {}}
  for preset in arguments.presets:
    found["presets"][preset] = steps(
      preset, arguments.batch, arguments.repetitions
    )
    print(preset, json.dumps(found["presets"][preset]), flush=True)
  found["streams"] = [stream(p) for p in STREAMED if p in arguments.presets]
  print(json.dumps(found["streams"]))
  arguments.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
  main()
