"""Sizes of the thesis' encoders, padding, and the speaker head's place."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import dat
from ser_jax import experiment
from ser_jax.models.speaker_invariant import SpeakerInvariant

# GRU inputs and steps by depth, from 281 frames (Emo-DB, 9 s).
MFCC = [(640, 141), (320, 71), (192, 36), (128, 18)]
LMS = [(4096, 141), (2048, 71), (1024, 36), (512, 18)]
# Compiling takes longer than running here.
QUICK = {"xla_backend_optimization_level": 0}
SMALL = {"classes": 3, "speakers": 4, "channels": 6, "hidden": 5, "head": 7}
ENCODERS = {
  "depth1": {"depth": 1},
  "depth2": {"depth": 2},
  "5x5, stride 2": {"depth": 1, "kernel": 5, "stride": 2},
  "tdnn_bilstm": {"encoder": "tdnn_bilstm"},
  "cnn_gru": {"encoder": "cnn_gru"},
}


def inputs(batch=4, time=40, dim=11, lengths=None):
  x = np.random.default_rng(0).normal(size=(batch, time, dim))
  lengths = np.full(batch, time) if lengths is None else np.array(lengths)
  x[np.arange(time) >= lengths[:, None]] = 0.0
  return (
    {"features": jnp.asarray(x, jnp.float32)},
    {"features": jnp.asarray(lengths, jnp.int32)},
  )


def init(model, x, lengths):
  return jax.jit(
    lambda key: model.init(key, x, lengths, train=False),
    compiler_options=QUICK,
  )(jax.random.key(0))


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
@pytest.mark.parametrize(
  ("dim", "sizes"), [(20, MFCC), (128, LMS)], ids=["mfcc", "lms"]
)
def test_sizes_are_those_of_the_thesis(depth, dim, sizes):
  """SYSTEMS: inputs of the GRU at depths 1 to 4; the embedding has 1024."""
  config = dat.get_config(f"depth{depth},gamma1.25,emodb")
  model = experiment.make_model(config, classes=7, speakers=6)
  x, lengths = inputs(batch=2, time=281, dim=dim)

  def run():
    variables = model.init(jax.random.key(0), x, lengths, train=False)
    outputs, state = model.apply(
      variables, x, lengths, train=False, capture_intermediates=True,
      mutable=["intermediates"],
    )  # fmt: skip
    return variables, outputs, state["intermediates"]

  variables, outputs, state = jax.eval_shape(run)
  width, steps = sizes[depth - 1]
  gru = variables["params"]["encoder"]["gru_forward"]
  assert gru["kernel"].shape == (width, 3 * 256)
  block = state["encoder"][f"block_{depth - 1}"]["__call__"][0][0]
  assert block.shape[1] == steps
  assert outputs["embedding"].shape == (2, 1024)
  assert outputs["logits"].shape == (2, 7)
  assert outputs["speaker"].shape == (2, 6)


def test_strides_need_no_form_of_their_own():
  x, lengths = inputs()
  options = {"depth": 2, "kernel": 5, "stride": 2, **SMALL}
  plain, other = (
    jax.eval_shape(
      functools.partial(
        SpeakerInvariant(forms=forms, **options).init, train=False
      ),
      *(jax.random.key(0), x, lengths),
    )
    for forms in (("direct", "direct"), ("patches", "blocked"))
  )
  assert plain == other


@pytest.mark.parametrize("options", ENCODERS.values(), ids=ENCODERS)
def test_padding_and_filler_change_nothing(options):
  model = SpeakerInvariant(adversary=True, **SMALL, **options)
  x, lengths = inputs(lengths=[40, 37, 31, 0])
  longer, _ = inputs(time=53, lengths=[40, 37, 31, 0])
  longer["features"] = jnp.pad(x["features"], ((0, 0), (0, 13), (0, 0)))
  longer["features"] = longer["features"].at[:, 40:].set(9.0)
  variables = init(model, x, lengths)

  @functools.partial(jax.jit, compiler_options=QUICK)
  def train(x, lengths):
    return model.apply(
      variables,
      x,
      lengths,
      train=True,
      mutable=["batch_stats"],
      rngs={"dropout": jax.random.key(1)},
    )

  def without_filler(x, lengths):
    return {"features": x["features"][:3]}, {
      "features": lengths["features"][:3]
    }

  (plain, stats), (padded, padded_stats) = (
    train(x, lengths),
    train(longer, lengths),
  )
  for got, want in zip(
    jax.tree.leaves((padded, padded_stats)),
    jax.tree.leaves((plain, stats)),
    strict=True,
  ):
    np.testing.assert_allclose(got, want, rtol=2e-4, atol=2e-5)
  _, few = train(*without_filler(x, lengths))
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5),
    few,
    stats,
  )


def test_reversal_reaches_the_encoder_and_not_the_speaker_head():
  model = SpeakerInvariant(adversary=True, **SMALL)
  x, lengths = inputs()
  variables = init(model, x, lengths)

  @functools.partial(jax.jit, compiler_options=QUICK)
  def gradients(reversal):
    def loss(params):
      outputs = model.apply(
        {**variables, "params": params}, x, lengths, train=False,
        reversal=reversal,
      )  # fmt: skip
      return jnp.sum(jnp.sin(outputs["speaker"]))

    return jax.grad(loss)(variables["params"])

  plain, off, half = (gradients(jnp.float32(s)) for s in (-1.0, 0.0, 0.5))
  for leaf in jax.tree.leaves(off["encoder"]):
    np.testing.assert_array_equal(leaf, 0.0)
  for other, factor in ((off, 0.0), (half, -0.5)):
    jax.tree.map(
      lambda a, b, f=factor: np.testing.assert_allclose(
        a, f * b, rtol=1e-5, atol=1e-7
      ),
      other["encoder"],
      plain["encoder"],
    )
    jax.tree.map(
      np.testing.assert_array_equal,
      other["speaker_head"],
      plain["speaker_head"],
    )
  assert max(np.abs(g).max() for g in jax.tree.leaves(plain["encoder"])) > 1e-4


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"encoder": "rnn"}, "encoder='rnn'"),
    ({"depth": 0}, "depth=0"),
    ({"forms": ("direct", "fft")}, "must be two of direct, patches, blocked"),
  ],
)
def test_choices_are_checked(options, message):
  with pytest.raises(ValueError, match=message):
    SpeakerInvariant(classes=3, **options)
