"""Scanned recurrent layers over padded utterances: LSTM, GRU, DS-LSTM.

Every layer takes `[batch, time, dim]` and lengths, and returns the hidden
states, zero past each utterance; states freeze there, so padding changes
nothing. All gates are one matrix product a step. The input's share of it is
either hoisted out of the scan (one large product: faster on accelerators) or
not (less memory traffic: faster for some shapes on CPU); both are equal. Both
directions of a bidirectional layer take each step together: a loop costs an
accelerator its iterations, not what is in them.
"""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

from ser_jax.batch import valid_frames
from ser_jax.nn.masking import zero_padding
from ser_jax.nn.normalization import BatchNorm
from ser_jax.nn.recurrent_batch_norm import (
  RecurrentBatchNorm,
  normalize_step,
)
from ser_jax.nn.scan import Inputs, Step, Weight, hoisted, scan

Weights = dict[str, Weight]
Frames = Float[Array, "batch time dim"]
Hidden = Float[Array, "batch time hidden"]
Valid = Bool[Array, "batch time"]
Carry = tuple[Float[Array, "batch hidden"], Float[Array, "batch hidden"]]


def uniform(bound: float) -> Callable:
  """Draws from U(-bound, bound)."""

  def draw(key, shape, dtype=jnp.float32):
    return jax.random.uniform(key, shape, dtype, -bound, bound)

  return draw


def keep(
  valid: Bool[Array, "batch"], new: jax.Array, old: jax.Array
) -> jax.Array:
  """The new state of utterances that reach a step, the old one of others."""
  return jnp.where(valid[:, None], new.astype(old.dtype), old)


def time_major(tree: PyTree) -> PyTree:
  """`[batch, time, ...]` to `[time, batch, ...]`, for scans."""
  return jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), tree)


class LSTM(nn.Module):
  """Long short-term memory (Hochreiter and Schmidhuber 1997).

  Attributes:
    hidden: units.
    hoist: whether to project the whole input before the scan.
    unroll: steps of time in one iteration of the scan.
    biases: 1, or 2 as in PyTorch (they act as one with twice the rate).
  """

  hidden: int
  hoist: bool = True
  unroll: int = 1
  biases: int = 1

  def __call__(
    self, x: Frames, lengths: Int[Array, "batch"], carry: Carry | None = None
  ) -> Hidden | tuple[Hidden, Carry]:
    """Runs over each utterance.

    Args:
      x: frames.
      lengths: valid frames.
      carry: states to start from; None for zero.

    Returns:
      The hidden states; given a carry, also the states at the end.
    """
    valid = valid_frames(lengths, x.shape[1])
    hidden, end = self.run(*self.read(x), valid, carry)
    hidden = zero_padding(hidden, lengths)
    return hidden if carry is None else (hidden, end)

  @nn.compact
  def read(self, x: Frames) -> tuple[Weights, Inputs]:
    """What the scan needs: weights, and frames, projected if hoisted."""
    size, draw = self.hidden, uniform(self.hidden**-0.5)
    kernel = self.param("kernel", draw, (x.shape[-1], 4 * size))
    recurrent = self.param("recurrent", draw, (size, 4 * size))
    bias = sum(
      self.param(f"bias{n or ''}", draw, (4 * size,))
      for n in range(self.biases)
    )
    weights = {"kernel": (kernel, bias), "recurrent": (recurrent, None)}
    inputs = {"kernel": x}
    return hoisted(weights, inputs) if self.hoist else (weights, inputs)

  @nn.nowrap
  def run(
    self, weights: Weights, inputs: Inputs, valid: Valid, carry=None
  ) -> tuple[Hidden, Carry]:
    """The hidden states, held where frames are not valid, and the last."""

    def step(product, _, carry, xs):
      h, c = carry
      inputs, valid = xs
      z = inputs["kernel"] + product("recurrent", h)
      i, f, g, o = jnp.split(z, 4, axis=-1)
      c_new = nn.sigmoid(f) * c + nn.sigmoid(i) * jnp.tanh(g)
      h_new = nn.sigmoid(o) * jnp.tanh(c_new)
      h, c = keep(valid, h_new, h), keep(valid, c_new, c)
      return (h, c), h

    shape = len(valid), self.hidden
    # The cell is a sum over time, for which half precision is too coarse.
    start = carry or (
      jnp.zeros(shape, inputs["kernel"].dtype),
      jnp.zeros(shape),
    )
    xs = time_major((inputs, valid))
    end, ys = scan(step, weights, None, start, *xs, unroll=self.unroll)
    return jnp.swapaxes(ys, 0, 1), end


class GRU(nn.Module):
  """Gated recurrent unit as PyTorch and cuDNN compute it.

  The reset gate acts after the recurrent product, so the candidate has a
  recurrent bias of its own.

  Attributes:
    hidden: units.
    hoist: whether to project the whole input before the scan.
    unroll: steps of time in one iteration of the scan.
  """

  hidden: int
  hoist: bool = True
  unroll: int = 1

  def __call__(self, x: Frames, lengths: Int[Array, "batch"]) -> Hidden:
    """Runs over each utterance from zero states."""
    valid = valid_frames(lengths, x.shape[1])
    hidden, _ = self.run(*self.read(x), valid)
    return zero_padding(hidden, lengths)

  @nn.compact
  def read(self, x: Frames) -> tuple[Weights, Inputs]:
    """What the scan needs: weights, and frames, projected if hoisted."""
    size, draw = self.hidden, uniform(self.hidden**-0.5)
    weights = {
      "kernel": (
        self.param("kernel", draw, (x.shape[-1], 3 * size)),
        self.param("bias", draw, (3 * size,)),
      ),
      "recurrent": (
        self.param("recurrent", draw, (size, 3 * size)),
        self.param("recurrent_bias", draw, (3 * size,)),
      ),
    }
    inputs = {"kernel": x}
    return hoisted(weights, inputs) if self.hoist else (weights, inputs)

  @nn.nowrap
  def run(
    self, weights: Weights, inputs: Inputs, valid: Valid
  ) -> tuple[Hidden, Float[Array, "batch hidden"]]:
    """The hidden states, held where frames are not valid, and the last."""
    dtype = inputs["kernel"].dtype

    def step(product, _, h, xs):
      inputs, valid = xs
      r, u, n = jnp.split(inputs["kernel"], 3, axis=-1)
      hr, hu, hn = jnp.split(product("recurrent", h.astype(dtype)), 3, axis=-1)
      candidate = jnp.tanh(n + nn.sigmoid(r + hr) * hn)
      # One minus the update gate: exact where half precision rounds that to 1.
      renewed = nn.sigmoid(-(u + hu))
      h = keep(valid, h + renewed * (candidate - h), h)
      return h, h.astype(dtype)

    # The state is a mean over time, for which half precision is too coarse.
    start = jnp.zeros((len(valid), self.hidden))
    xs = time_major((inputs, valid))
    end, ys = scan(step, weights, None, start, *xs, unroll=self.unroll)
    return jnp.swapaxes(ys, 0, 1), end


class Bidirectional(nn.Module):
  """A layer forwards and another backwards, in one loop over both.

  Attributes:
    forward: reads from the first frame.
    backward: reads from the last; otherwise alike.
  """

  forward: LSTM | GRU
  backward: LSTM | GRU

  def __call__(
    self, x: Frames, lengths: Int[Array, "batch"]
  ) -> Float[Array, "batch time both"]:
    """Concatenates both directions' outputs."""
    (weights, ahead), (others, behind) = (
      layer.read(x) for layer in (self.forward, self.backward)
    )
    valid = valid_frames(lengths, x.shape[1])
    # Read backwards, padding comes first: it leaves the state at zero.
    turned = jax.tree.map(lambda x: jnp.flip(x, 1), (behind, valid))
    both = jax.tree.map(
      lambda *directions: jnp.stack(directions),
      (weights, ahead, valid),
      (others, *turned),
    )
    (ahead, behind), _ = jax.vmap(self.forward.run)(*both)
    both = jnp.concatenate([ahead, jnp.flip(behind, 1)], axis=-1)
    return zero_padding(both, lengths)


class DSLSTM(nn.Module):
  """Dual-sequence LSTM (Wang et al. 2020, equations 1-8).

  Gates f, i_T, i_F and o read both sequences, the candidate of T reads x and
  that of F reads y. The recurrence carries the raw h; the output is BN(h).

  Attributes:
    hidden: units.
    rbn: recurrent batch normalisation of the gates: `post` (after the sigmoid,
      the paper's), `pre` (before it, Cooijmans et al. 2016) or `none`.
    output_bn: normalisation of the output: `per_step` (the paper's), `shared`
      (one mean and variance for all steps) or `none`.
    hoist: whether to project both inputs before the scan.
    unroll: steps of time in one iteration of the scan.
    axis_name: a mapped axis that the batch is split over, if any.
  """

  hidden: int
  rbn: str = "post"
  output_bn: str = "per_step"
  hoist: bool = True
  unroll: int = 1
  axis_name: str | None = None

  @nn.compact
  def __call__(
    self,
    x: Float[Array, "batch time dim_x"],
    y: Float[Array, "batch time dim_y"],
    lengths: Int[Array, "batch"],
    *,
    train: bool,
  ) -> Float[Array, "batch time hidden"]:
    """Runs over both sequences at once.

    Args:
      x: the sequence with the better resolution in time.
      y: the one with the better resolution in frequency, of equal lengths.
      lengths: valid steps of both.
      train: batch statistics if true, else the running ones.

    Returns:
      Normalised hidden states, zero past each utterance.
    """
    size = self.hidden
    draw = uniform((x.shape[-1] + y.shape[-1] + size) ** -0.5)
    # Columns: f, i_T, i_F, o, then the candidate(s) that read the input.
    kernel_x = self.param("kernel_x", draw, (x.shape[-1], 5 * size))
    kernel_y = self.param("kernel_y", draw, (y.shape[-1], 5 * size))
    recurrent = self.param("recurrent", draw, (size, 6 * size))
    bias = self.param("bias", draw, (6 * size,))
    time = x.shape[1]
    if self.rbn == "none":
      scale = shift = running = store = None
    else:
      scale, shift, running, store = RecurrentBatchNorm(4 * size, name="rbn")(
        time, train=train
      )

    valid = valid_frames(lengths, time)
    weights = {
      "kernel_x": (kernel_x, None),
      "kernel_y": (kernel_y, None),
      "recurrent": (recurrent, bias),
    }
    inputs = {"kernel_x": x, "kernel_y": y}
    if self.hoist:
      weights, inputs = hoisted(weights, inputs)
    # The cell is a sum over time, for which half precision is too coarse.
    zeros = jnp.zeros((len(x), size), x.dtype), jnp.zeros((len(x), size))
    inputs, reached = time_major((inputs, valid))
    _, (ys, slots) = scan(
      *(self._step(train), weights, (scale, shift)),
      *(zeros, inputs, (reached, running)),
      unroll=self.unroll,
    )
    if train and store is not None:
      store(slots)
    out = self._normalize_output(jnp.swapaxes(ys, 0, 1), valid, train)
    return zero_padding(out, lengths)

  @nn.nowrap
  def _step(self, train: bool) -> Step:
    """Equations 1-8, for one step of time."""
    size = self.hidden

    def normalize(affine, gates, valid, running):
      scale, shift = affine
      return normalize_step(
        gates,
        valid,
        running,
        scale=scale,
        bias=shift,
        train=train,
        axis_name=self.axis_name,
      )

    def step(product, affine, carry, xs):
      h, c = carry
      inputs, (valid, running) = xs
      in_x, in_y = inputs["kernel_x"], inputs["kernel_y"]
      z = product("recurrent", h)
      gates = z[:, : 4 * size] + in_x[:, : 4 * size] + in_y[:, : 4 * size]
      if self.rbn == "pre":
        gates, running = normalize(affine, gates, valid, running)
      gates = nn.sigmoid(gates)
      if self.rbn == "post":
        gates, running = normalize(affine, gates, valid, running)
      f, i_t, i_f, o = jnp.split(gates, 4, axis=-1)
      candidate_t = jnp.tanh(z[:, 4 * size : 5 * size] + in_x[:, 4 * size :])
      candidate_f = jnp.tanh(z[:, 5 * size :] + in_y[:, 4 * size :])
      c_new = f * c + i_t * candidate_t + i_f * candidate_f
      h_new = o * jnp.tanh(c_new)
      h, c = keep(valid, h_new, h), keep(valid, c_new, c)
      return (h, c), (h, running)

    return step

  def _normalize_output(
    self,
    h: Float[Array, "batch time hidden"],
    valid: Bool[Array, "batch time"],
    train: bool,
  ) -> Float[Array, "batch time hidden"]:
    """BN(h): per step, shared by all steps, or none."""
    if self.output_bn == "none":
      return h
    if self.output_bn == "shared":
      return BatchNorm(self.axis_name, name="output_bn")(h, valid, train=train)
    scale, shift, running, store = RecurrentBatchNorm(
      self.hidden, scale_init=1.0, name="output_bn"
    )(h.shape[1], train=train)
    # All steps are known by now: one vectorised pass instead of a scan.
    normalize = jax.vmap(
      lambda h, valid, running: normalize_step(
        h,
        valid,
        running,
        scale=scale,
        bias=shift,
        train=train,
        axis_name=self.axis_name,
      ),
      in_axes=(1, 1, 0),
      out_axes=(1, 0),
    )
    out, slots = normalize(h, valid, running)
    if train:
      store(slots)
    return out
