"""What a trained run does inside: outputs of recurrent layers, attention."""

import jax
import numpy as np
from jaxtyping import Float

from ser_jax import inference
from ser_jax.data.prepare import prepare
from ser_jax.demo.predictor import device_plans, make_batch
from ser_jax.inference import Features
from ser_jax.nn.attention import Attention
from ser_jax.nn.recurrent import DSLSTM, GRU, LSTM, Bidirectional
from ser_jax.system import make_model
from ser_jax.trained import Opened

SHOWN = (LSTM, GRU, DSLSTM, Bidirectional, Attention)


def make_look(opened: Opened):
  """A function from features to what the layers put out.

  Args:
    opened: runs, on one device.

  Returns:
    From the number of a run and one utterance's features to arrays by layer:
    `[time, units]`, or `[time]` where it weighs steps; empty for systems
    without such layers. It compiles at its first call.
  """
  model = make_model(
    opened.config,
    classes=len(opened.recipe.classes),
    speakers=opened.recipe.speakers,
  )
  plans = device_plans(opened.recipe)

  @jax.jit
  def captured(weights, statistics, inputs, lengths):
    batch = prepare(make_batch(inputs, lengths), statistics, plans)
    _, found = model.apply(
      {"params": weights.params, "batch_stats": weights.batch_stats},
      batch.inputs,
      batch.lengths,
      train=False,
      capture_intermediates=lambda module, method: (
        isinstance(module, SHOWN) and method == "__call__"
      ),
      mutable=["intermediates"],
    )
    return found.get("intermediates", {})

  def look(number: int, features: Features) -> dict[str, np.ndarray]:
    inputs, lengths = inference.pack(opened.recipe, [features], 1)
    run = opened.weights[number], opened.statistics[number]
    found = captured(*run, inputs, lengths)
    return {
      _name(keys): _heard(np.asarray(leaf)[0])
      for keys, leaf in jax.tree_util.tree_flatten_with_path(found)[0]
      if leaf.ndim in (2, 3)
    }

  return look


def _name(keys) -> str:
  """The path of a layer, without what flax adds."""
  words = [getattr(key, "key", None) for key in keys]
  return "/".join(w for w in words if isinstance(w, str) and w != "__call__")


def _heard(
  values: Float[np.ndarray, "time *units"],
) -> Float[np.ndarray, "heard *units"]:
  """Up to the last step that is not padding, which layers leave at 0."""
  steps = np.flatnonzero(values.reshape(len(values), -1).any(axis=1))
  return values[: steps[-1] + 1] if len(steps) else values[:1]
