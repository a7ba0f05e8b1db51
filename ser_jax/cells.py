"""What a trained model's recurrent cells follow: Figure 2 of Adieu features.

  python -m ser_jax.cells --workdir=DIR

reads the first finished run of a training, lets it hear a recording of its test
part and writes `cells.json`, `cells.md` and `figures/cells.png` beside the
report.
The same network before training hears it, too: a control, for among hundreds of
cells one follows anything.
"""

import json
import pathlib
from collections.abc import Sequence

import jax
import numpy as np
from absl import flags
from jaxtyping import Float

from ser_jax import (
  assembly,
  atomic,
  command_line,
  experiment,
  inspection,
  predictions,
  runs,
  system,
  workdir,
)
from ser_jax.data.recordings import as_float, recording_of, start_of
from ser_jax.data.shards import identity
from ser_jax.errors import UserError
from ser_jax.evaluation import cells, contours, markdown
from ser_jax.features import prosody
from ser_jax.train import groups, loop, precision
from ser_jax.trained import of_this_version, read_config

WAVEFORM = "waveform"


def look(folder: pathlib.Path, recording: str | None = None) -> dict:
  """Correlates all cells of a run with prosody, and draws the best.

  Args:
    folder: `--workdir`, whose model must have cells.
    recording: of the run's test part; None for the longest.

  Returns:
    What `cells.json` holds.

  Raises:
    UserError: another model, no finished run, or no such recording.
  """
  found, group, number = finished(opened(folder))
  run = group[number]
  runs.require_trained(found, group)
  trained = runs.restore_best(found, group)
  fresh = runs.initial_state(found, found.stages[-1], group).weights
  weights = [jax.tree.map(lambda x: x[number], w) for w in (trained, fresh)]
  name, windows = choose(found, run, recording)
  samples, activations, untrained = hear(found, run, weights, windows, name)
  rate = found.dataset.shards.metadata["inputs"][WAVEFORM]["frame_rate"]
  features = prosody_of(samples, rate)
  units = activations.shape[-1] // found.config.model.layers
  every, before = (
    cells.correlations(x, features) for x in (activations, untrained)
  )
  summary = cells.summarize(every, units)
  speaker = found.dataset.shards.table.speakers[windows[0]]
  figure = cells.draw(
    folder,
    activations,
    features,
    summary,
    units=units,
    rate=rate,
    title=f"{name}, speaker {speaker}, not trained on ({run.name})",
  )
  result = {
    "recording": name,
    "speaker": str(speaker),
    "run": run.name,
    "seconds": len(samples) / rate,
    "best": summary,
    "untrained": cells.summarize(before, units),
    "figure": figure,
    "correlations": every.tolist(),
  }
  atomic.write_text(folder / "cells.json", json.dumps(result, indent=1))
  atomic.write_text(folder / "cells.md", render(result))
  return result


def opened(folder: pathlib.Path) -> list[runs.Experiment]:
  """The parts of a workdir's experiment whose model has cells.

  Raises:
    UserError: its model has none, or it is not of this version.
  """
  config = read_config(folder)
  if config.model.name != "raw_waveform":
    raise UserError(
      f"--workdir={folder} holds config.model.name={config.model.name!r}, "
      "which has no cells to look at: give a training of configs/adieu.py that "
      "reads samples."
    )
  with of_this_version(folder):
    # Whatever it was trained on: the result does not hang on it.
    config.parallel.run, config.parallel.data = 1, 0
    experiment.check(config)
  seeds = workdir.seeds(folder, config.seeds)
  parts = assembly.make_experiments(config, folder, seeds)
  workdir.keep_data(folder, identity(parts[0].dataset.shards))
  return parts


def prosody_of(
  samples: Float[np.ndarray, "frames samples"], rate: float
) -> Float[np.ndarray, "frames 3"]:
  """What cells are compared with (`cells.FEATURES`); `rate` frames a second."""
  frames, size = samples.shape
  told = prosody.contours(
    samples.reshape(-1).astype(np.float32),
    round(rate * size),
    size=size,
    most=frames,
  )
  return cells.prosody(samples, told[:, 0], told[:, 1], rate=rate)


def finished(
  parts: Sequence[runs.Experiment],
) -> tuple[runs.Experiment, groups.Group, int]:
  """The first run that has predictions: its part, group and number there.

  Raises:
    UserError: none has.
  """
  for found in parts:
    for group in found.groups:
      for number, run in enumerate(group):
        if predictions.file_of(found.workdir, run).exists():
          return found, group, number
  raise UserError(
    f"--workdir={parts[0].workdir} has no finished run: train it with "
    "--mode=train."
  )


def choose(
  found: runs.Experiment, run: loop.Run, wanted: str | None
) -> tuple[str, np.ndarray]:
  """A recording of the test part, and its utterances.

  Raises:
    UserError: it is not in the test part.
  """
  table = found.dataset.shards.table
  names = np.array([recording_of(str(name)) for name in table.ids[run.test]])
  if wanted is None:
    frames = table.frames[WAVEFORM][run.test]
    total = {name: frames[names == name].sum() for name in np.unique(names)}
    wanted = max(total, key=total.get)
  if wanted not in names:
    raise UserError(
      f"--recording={wanted} is not in the test part of {run.name}: choose "
      f"from {', '.join(np.unique(names)[:20])} ..."
    )
  return str(wanted), run.test[names == wanted]


def hear(
  found: runs.Experiment,
  run: loop.Run,
  weights: Sequence,
  windows: np.ndarray,
  name: str,
) -> tuple[Float[np.ndarray, "frames values"], ...]:
  """Lets the model hear a recording.

  Args:
    found: the experiment.
    run: by whose training part inputs are standardised, if they are.
    weights: those that it hears with, one after the other.
    windows: the recording's utterances.
    name: of the recording.

  Returns:
    Its samples and, for each of the weights, the outputs of all cells, windows
    joined.
  """
  config, dataset = found.config, found.dataset
  model = system.make_model(config, classes=len(dataset.classes))

  def cells_of(params, inputs, lengths):
    outputs = model.apply({"params": params}, inputs, lengths, train=False)
    return outputs["cells"]

  step = jax.jit(precision.computed(cells_of, config.precision))
  samples, starts, activations = [], [], [[] for _ in weights]
  batch = inspection.prepared(found, run, windows)
  for number, index in enumerate(windows):
    inputs, lengths = jax.tree.map(
      lambda x, n=number: x[n : n + 1], (batch.inputs, batch.lengths)
    )
    frames = int(lengths[WAVEFORM][0])
    x = as_float(dataset.shards.read(int(index))[WAVEFORM])
    samples.append(x[:frames])
    for each, heard in zip(weights, activations, strict=True):
      heard.append(np.asarray(step(each.params, inputs, lengths)[0, :frames]))
    name_of = str(dataset.shards.table.ids[index])
    starts.append(start_of(name_of, dataset.contours.rate))
  return tuple(
    contours.merge(parts, starts, name) for parts in (samples, *activations)
  )


def render(found: dict) -> str:
  """The correlations as Markdown."""
  rows = [
    [
      row["feature"],
      f"{row['correlation']:.2f}",
      f"layer {row['layer']}, cell {row['cell']}",
      f"{row['median']:.2f}",
      f"{control['correlation']:.2f}",
      f"{control['median']:.2f}",
    ]
    for row, control in zip(found["best"], found["untrained"], strict=True)
  ]
  header = ["feature", "r of the best cell", "which", "median of all, absolute"]
  header += ["best before training", "median before training"]
  return f"""# What the cells of {found["run"]} follow

{markdown.table(header, rows)}

Recording {found["recording"]} ({found["seconds"]:.1f} s), speaker
{found["speaker"]}, who was not trained on. Trigeorgis et al. 2016, Figure 2, on
RECOLA: .81, .73 and .72. Before training: of the weights that this run began
with. What they reach, so many cells reach by chance.

![cells]({found["figure"]})
"""


def run(argv) -> int:
  """Looks, and tells."""
  command_line.refuse_arguments(argv)
  given = flags.FLAGS
  print(render(look(pathlib.Path(given.workdir), given.recording)))
  return 0


def define_flags() -> None:
  """Here, since other programs of ours have flags of the same names."""
  flags.DEFINE_string("workdir", None, "Where it was trained.")
  flags.DEFINE_string(
    "recording", None, "A recording of the test part. Default: the longest."
  )
  flags.mark_flag_as_required("workdir")


if __name__ == "__main__":
  define_flags()
  command_line.start(run)
