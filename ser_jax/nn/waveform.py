"""The front end for raw waveforms.

Behind a blocked first convolution (`nn/conv1d.py`: the form for CPUs) a front
end takes one piece of an utterance after the other, leaves out pieces in which
there is no sound, and computes again in the backward pass what is cheaper to
compute than to keep: what lies in between stays in the cache, and a CPU waits
for memory rather than for arithmetic.
"""

import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Bool, Float, Int, PyTree

from ser_jax.batch import valid_frames
from ser_jax.nn.conv1d import FORMS, Step, prepare
from ser_jax.nn.pooling import WINNERS, axis_max

PIECE = 30  # frames whose maps a CPU's cache holds
KEPT = "kept"  # what the backward pass of a piece finds in memory

Frames = Float[Array, "batch frames samples"]
Mask = Bool[Array, "batch frames"]
Features = Float[Array, "batch frames dim"]
Layer = tuple[tuple[Step, ...], Float[Array, "_"]]


def guarded(wanted: Bool[Array, ""], step: Step, x: PyTree) -> PyTree:
  """`step(x)`, or zeros, which cost nothing, forward or backward.

  The condition lies within either pass: differentiated by JAX, it would keep
  the kernel of every round of a loop.

  Args:
    wanted: whether there is anything to compute.
    step: linear in the signal and in its kernel.
    x: the signal.

  Returns:
    What the step gives, or as many zeros.
  """
  shape = jax.ShapeDtypeStruct(x.shape, x.dtype)

  @jax.custom_vjp
  def run(wanted, kernel, x):
    return _either(wanted, step.apply, kernel, x)

  def forward(wanted, kernel, x):
    # What is linear in the signal alone needs nothing of it.
    return run(wanted, kernel, x), (wanted, (kernel, x) if kernel else ())

  def of_both(gradient, kernel, x):
    return jax.vjp(step.apply, kernel, x)[1](gradient)

  def of_signal(gradient):
    turned = jax.linear_transpose(lambda x: step.apply((), x), shape)
    return (), turned(gradient)[0]

  def backward(saved, gradient):
    wanted, needed = saved
    function = of_both if needed else of_signal
    return None, *_either(wanted, function, gradient, *needed)

  run.defvjp(forward, backward)
  return run(wanted, step.kernel, x)


def _either(
  wanted: Bool[Array, ""], function: Callable, *args: PyTree
) -> PyTree:
  """What a function gives, or as many zeros."""
  shapes = jax.eval_shape(function, *args)

  def zeros(*_):
    return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)

  return jax.lax.cond(wanted, function, zeros, *args)


class WaveformFrontEnd(nn.Module):
  """Samples in frames -> features in frames (Trigeorgis et al. 2016, 2.1).

  A convolution and max-pooling in time, a second convolution and max-pooling
  across neighbouring channels; what is left of a frame's steps and channels is
  flattened.

  Attributes:
    filters: of either convolution.
    taps: of either kernel, in samples at its rate.
    pool_time: steps that are pooled after the first convolution.
    pool_channels: channels that are pooled after the second.
    framed: whether each frame is convolved on its own, zeros around it, or the
      whole utterance at once.
    depthwise: whether the second convolution filters each channel alone.
    rectify: whether either convolution is rectified.
    forms: of either convolution, see `nn/conv1d.py`.
  """

  filters: tuple[int, int] = (40, 40)
  taps: tuple[int, int] = (20, 40)
  pool_time: int = 2
  pool_channels: int = 10
  framed: bool = True
  depthwise: bool = False
  rectify: tuple[bool, bool] = (True, True)
  forms: tuple[str, str] = ("direct", "direct")

  def __post_init__(self):
    """Checks every choice.

    Raises:
      ValueError: a form that does not exist, or sizes that do not divide.
    """
    for form in self.forms:
      if form not in FORMS:
        raise ValueError(f"forms has {form!r}, which is none of {FORMS}")
    if self.depthwise and self.forms[1] == "blocked":
      raise ValueError("depthwise kernels have no blocked form")
    if self.filters[1] % self.pool_channels:
      raise ValueError(
        f"filters={self.filters} must end in a multiple of "
        f"pool_channels={self.pool_channels}"
      )
    if self.depthwise and self.filters[1] % self.filters[0]:
      raise ValueError(
        f"filters={self.filters} must be a multiple of each other, depthwise"
      )
    super().__post_init__()

  @nn.compact
  def __call__(
    self,
    x: Float[Array, "batch frames samples"],
    lengths: Int[Array, "batch"],
  ) -> Float[Array, "batch frames dim"]:
    """Filters utterances.

    Args:
      x: samples in frames, zero past each utterance.
      lengths: valid frames.

    Returns:
      `samples / pool_time * filters / pool_channels` features a frame, zero
      past each utterance.
    """
    if self.forms[0] != "blocked":
      layers = self._layers(x.shape)
      return self._filter(layers, x, valid_frames(lengths, x.shape[1]))
    # Frames that a frame in the middle of a piece hears on either side.
    reach = self.taps[0] // 2 + self.pool_time * (self.taps[1] // 2)
    around = 0 if self.framed else -(-reach // x.shape[2])
    return self._piece_by_piece(x, lengths, around)

  def _piece_by_piece(
    self, x: Frames, lengths: Int[Array, "batch"], around: int
  ) -> Features:
    """Filters utterances in pieces, with the frames around them."""
    batch, frames, samples = x.shape
    # Long filters: a piece would be mostly what is around it.
    count = -(-frames // PIECE) if around < 2 else 1
    size = -(-frames // count)
    around = around if count > 1 else 0
    x = jnp.pad(x, ((0, 0), (around, count * size - frames + around), (0, 0)))
    starts = size * jnp.arange(count)[None]
    whole = size + 2 * around
    places = starts[..., None] + jnp.arange(whole)[None, None] - around
    pieces = jnp.stack([x[:, n * size :][:, :whole] for n in range(count)], 1)
    valid = (places >= 0) & (places < lengths[:, None, None])
    layers = self._layers((1, whole, samples))
    keep = jax.checkpoint_policies.save_only_these_names(KEPT, WINNERS)

    @functools.partial(jax.checkpoint, policy=keep)
    def one(x, valid, wanted):
      y = self._filter(layers, x[None], valid[None], wanted)
      return y[0, around : around + size]

    each = (pieces, valid, lengths[:, None] > starts)
    each = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), each)
    y = jax.lax.map(lambda piece: one(*piece), each)
    return y.reshape(batch, count * size, -1)[:, :frames]

  def _filter(
    self,
    layers: list[Layer],
    x: Frames,
    valid: Mask,
    wanted: Bool[Array, ""] | None = None,
  ) -> Features:
    """Convolves and pools, twice; unless `wanted`, if given, is false."""
    shape = x.shape

    def masked(y):
      return jnp.where(valid[..., None], y.reshape(*shape[:2], -1), 0)

    y = x.reshape(-1, self._length(shape), 1)
    for number, (steps, bias) in enumerate(layers):
      for step in steps:
        y = step(y) if wanted is None else guarded(wanted, step, y)
        if jnp.isrealobj(y):  # JAX keeps no complex values by name
          y = checkpoint_name(y, KEPT)
      y = y + bias[None, None]
      if number == 0:
        y = y.reshape(len(y), -1, self.pool_time, y.shape[-1])
        y = axis_max(y, 2, self.rectify[0])
        # The bias fills the padding, which the next convolution would see.
        y = masked(y).reshape(y.shape)
    y = y.reshape(*y.shape[:2], -1, self.pool_channels)
    return masked(axis_max(y, 3, self.rectify[1]))

  def _length(self, shape: tuple[int, ...]) -> int:
    """Samples that are convolved as one signal."""
    return shape[2] if self.framed else shape[1] * shape[2]

  def _layers(self, shape: tuple[int, ...]) -> list[Layer]:
    """The steps of either convolution, and its bias."""
    return [self._layer(number, self._length(shape)) for number in range(2)]

  def _layer(self, number: int, length: int) -> Layer:
    channels, outputs = 1, self.filters[number]
    if number:
      length, channels = length // self.pool_time, self.filters[0]
    inputs = 1 if self.depthwise and number else channels
    draw = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
    kernel = self.param(
      f"kernel_{number}", draw, (self.taps[number], inputs, outputs)
    )
    bias = self.param(f"bias_{number}", nn.initializers.zeros, (outputs,))
    return prepare(kernel, self.forms[number], length, channels), bias
