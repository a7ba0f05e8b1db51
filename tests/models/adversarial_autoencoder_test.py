"""Groups, parameter counts and shapes of Tables 1 and 2; padding."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ser_jax.models.adversarial_autoencoder import AdversarialAutoencoder


def shapes(model, shape):
  """Parameters, statistics and outputs, without computing anything."""
  x = jax.ShapeDtypeStruct(shape, jnp.float32)
  lengths = jax.ShapeDtypeStruct(shape[:1], jnp.int32)

  def run(x, lengths):
    outputs, variables = model.init_with_output(
      jax.random.key(0), {"x": x}, {"x": lengths}, train=False
    )
    return variables, outputs

  return jax.eval_shape(run, x, lengths)


def count(tree):
  return sum(leaf.size for leaf in jax.tree.leaves(tree))


def dense(*widths):
  return sum((a + 1) * b for a, b in zip(widths, widths[1:], strict=False))


def test_counts_of_the_utterance_model():
  model = AdversarialAutoencoder(classes=3, batch_norm=False)
  variables, outputs = shapes(model, (2, 6373))
  params = variables["params"]
  assert "batch_stats" not in variables
  assert {name: count(group) for name, group in params.items()} == {
    "encoder": dense(6373, 256, 256),
    "y": dense(256, 3),
    "z": dense(256, 100),
    "decoder": dense(103, 256, 256, 6373),
    "discriminator_y": dense(3, 256, 256, 1),
    "discriminator_z": dense(100, 256, 256, 1),
  }
  assert outputs["reconstruction"].shape == (2, 6373)
  assert outputs["judged"]["z"].shape == (2,)


def test_batch_norm_reaches_heads_and_the_decoder_s_output():
  model = AdversarialAutoencoder(classes=3)
  stats = shapes(model, (2, 6373))[0]["batch_stats"]
  assert {name: count(group) // 2 for name, group in stats.items()} == {
    "encoder": 512,
    "y": 3,
    "z": 100,
    "decoder": 512 + 6373,
  }


def test_the_baseline_is_the_classifier_alone():
  model = AdversarialAutoencoder(classes=3, autoencoder=False)
  variables, outputs = shapes(model, (2, 88))
  assert set(variables["params"]) == {"encoder", "y"}
  assert set(outputs) == {"hidden", "logits", "y"}


def test_counts_of_the_frame_model():
  """Table 2, with the kernel 4 and both dense layers of 256."""
  model = AdversarialAutoencoder(classes=3, frames=1024, batch_norm=False)
  variables, outputs = shapes(model, (2, 700, 65))
  params = variables["params"]

  def conv(*channels):
    return sum(
      (4 * a + 1) * b for a, b in zip(channels, channels[1:], strict=False)
    )

  assert count(params["encoder"]) == conv(65, 128, 128, 256, 256, 256) + dense(
    1024, 256, 256
  )
  assert count(params["decoder"]) == dense(103, 256, 256, 1024) + conv(
    256, 256, 256, 256, 128, 128, 65
  )
  assert outputs["reconstruction"].shape == (2, 1024, 65)


def test_frames_that_do_not_divide_are_refused():
  with pytest.raises(ValueError, match="frames=1000 must be a multiple of 256"):
    AdversarialAutoencoder(classes=3, frames=1000)


def test_channels_of_other_blocks_are_refused():
  with pytest.raises(ValueError, match="must be of 4 blocks"):
    AdversarialAutoencoder(classes=3, frames=256, channels=(8, 8))


def test_neither_padding_nor_filler_changes_a_frame_model():
  """Training outputs and running statistics, of valid utterances."""
  model = AdversarialAutoencoder(
    classes=3, frames=256, hidden=8, latent=2, channels=(4, 4, 4, 4),
    dropout=0.0, discriminator_dropout=0.0,
  )  # fmt: skip
  draw = np.random.default_rng(0)
  x = draw.normal(size=(3, 40, 5)).astype(np.float32)
  lengths = np.array([40, 23, 0], np.int32)
  x[1, 23:] = 0.0

  @jax.jit
  def init(x, lengths):
    return model.init(jax.random.key(0), {"x": x}, {"x": lengths}, train=False)

  @functools.partial(jax.jit, static_argnums=3)
  def run(variables, x, lengths, method):
    return model.apply(
      variables, {"x": x}, {"x": lengths}, train=True,
      mutable=["batch_stats"], method=method,
    )  # fmt: skip

  variables = init(x, lengths)
  reference, stats = run(variables, x, lengths, "__call__")
  padded = np.pad(x, ((0, 0), (0, 12), (0, 0)))
  found, _ = run(variables, padded, lengths, "encode")
  for name in ("logits", "z"):
    np.testing.assert_allclose(reference[name][:2], found[name][:2], atol=1e-5)
  x[2] = 100.0  # what filler holds
  found, others = run(variables, x, lengths, "__call__")
  for name in ("logits", "z", "reconstruction"):
    np.testing.assert_allclose(reference[name][:2], found[name][:2], atol=1e-5)
  for one, two in zip(
    jax.tree.leaves(stats), jax.tree.leaves(others), strict=True
  ):
    np.testing.assert_allclose(one, two, atol=1e-5)
