"""Sizes, padding, and which group each variant has."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ser_jax.models.complementary import VARIANTS, Complementary

SMALL = {
  "embedding": 4,
  "hidden": 3,
  "filters": (10, 10),
}
GROUPS = {
  "features": {"features", "features_head"},
  "raw": {"raw", "head"},
  "dual": {"features", "raw", "head"},
  "dual_raw": {"features", "raw", "head"},
  "dual_projected": {"projection", "raw", "head"},
}


def inputs(frames=3, samples=8, batch=2):
  rng = np.random.default_rng(0)
  lengths = np.array([frames, frames - 1][:batch], np.int32)
  waveform = rng.normal(size=(batch, frames, samples)).astype(np.float32)
  waveform[np.arange(frames) >= lengths[:, None]] = 0.0
  return (
    {
      "waveform": jnp.asarray(waveform),
      "functionals": jnp.asarray(
        rng.normal(size=(batch, 88)).astype(np.float32)
      ),
    },
    {"waveform": jnp.asarray(lengths), "functionals": jnp.ones(batch, int)},
  )


def sizes(model, method="__call__", samples=640):
  given = inputs(samples=samples)
  shapes = jax.eval_shape(
    lambda: model.init(jax.random.key(0), *given, train=False, method=method)
  )["params"]
  return {
    name: sum(x.size for x in jax.tree.leaves(tree))
    for name, tree in shapes.items()
  }


def test_the_feature_network_s_parameters():
  found = sizes(Complementary(4), "feature_network")
  assert set(found) == GROUPS["features"]
  assert sum(found.values()) == 5956


def test_the_raw_network_s_parameters():
  """Convolutions, LSTMs with one bias, Dense; then a vector an attention."""
  found = sizes(Complementary(4, "raw"))
  plain = 840 + 64040 + 4 * 256 * (1280 + 256 + 1)
  plain += 4 * 256 * (256 + 256 + 1) + 256 * 64 + 64
  assert plain == 2_180_528
  assert found == {"raw": plain + 2 * 256, "head": 64 * 4 + 4}


@pytest.mark.parametrize("variant", VARIANTS)
def test_each_variant_has_its_groups(variant):
  model = Complementary(4, variant, **SMALL)
  assert set(sizes(model, samples=8)) == GROUPS[variant]


def test_both_embeddings_are_classified():
  found = sizes(Complementary(4))
  assert found["head"] == 128 * 4 + 4
  assert sizes(Complementary(4, "dual_raw"))["head"] == 64 * 4 + 4


@pytest.mark.parametrize("variant", ["dual", "dual_projected"])
def test_padding_and_filler_change_nothing(variant):
  model = Complementary(4, variant, **SMALL)
  given, lengths = inputs()
  params = jax.jit(lambda: model.init(jax.random.key(1), given, lengths,
                                      train=False))()  # fmt: skip
  params = jax.tree.map(lambda x: x + 0.05, params)
  run = jax.jit(lambda *given: model.apply(params, *given, train=False))
  one = run(given, lengths)
  longer = {
    "waveform": jnp.pad(given["waveform"], ((0, 1), (0, 2), (0, 0))),
    "functionals": jnp.pad(given["functionals"], ((0, 1), (0, 0))),
  }
  other = run(longer, {n: jnp.pad(x, (0, 1)) for n, x in lengths.items()})
  assert set(one) == set(other)
  for name, wanted in one.items():
    found = other[name][:2]
    if name.startswith("attention"):
      np.testing.assert_allclose(found.sum(axis=1), 1.0, rtol=1e-5)
      assert not found[:, 3:].any() and not found[1, 2:].any()
      found = found[:, :3]
    np.testing.assert_allclose(found, wanted, atol=1e-5)
  assert all(jnp.isfinite(x).all() for x in other.values())


@pytest.mark.parametrize(("frozen", "equal"), [(True, True), (False, False)])
def test_a_frozen_embedding_has_no_dropout(frozen, equal):
  model = Complementary(4, frozen=frozen, **SMALL)
  given = inputs()
  params = jax.jit(lambda: model.init(jax.random.key(1), *given,
                                      train=False))()  # fmt: skip
  quiet, trained = (
    jax.jit(
      lambda train: model.apply(
        params, *given, train=train, rngs={"dropout": jax.random.key(2)}
      ),
      static_argnums=0,
    )(train)["embedding_features"]
    for train in (False, True)
  )
  assert bool((quiet == trained).all()) == equal


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"variant": "both"}, "none of features"),
    ({"variant": "raw", "frozen": False}, "feature network"),
  ],
)
def test_options_that_do_not_exist_are_refused(options, message):
  with pytest.raises(ValueError, match=message):
    Complementary(4, **options)
