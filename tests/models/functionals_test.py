"""One hidden layer over functionals: shapes, scale, dropout."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ser_jax.models.functionals import Functionals

LENGTHS = {"a": jnp.ones(3, jnp.int32), "b": jnp.ones(3, jnp.int32)}


@pytest.fixture(scope="module")
def inputs():
  draw = np.random.default_rng(0)
  return {
    "a": jnp.asarray(draw.normal(size=(3, 30)), jnp.float32),
    "b": jnp.asarray(draw.normal(size=(3, 20)), jnp.float32),
  }


@pytest.fixture(scope="module")
def variables(inputs):
  model = Functionals(classes=4, hidden=6)
  return model.init(jax.random.key(0), inputs, LENGTHS, train=False)


def test_the_network_by_hand(inputs, variables):
  out = Functionals(classes=4, hidden=6).apply(
    variables, inputs, LENGTHS, train=False
  )
  first, last = (variables["params"][name] for name in ("dense", "logits"))
  x = np.concatenate([inputs["a"], inputs["b"]], axis=1) / np.sqrt(50.0)
  hidden = np.maximum(x @ first["kernel"] + np.asarray(first["bias"])[None], 0)
  np.testing.assert_allclose(out["embedding"], hidden, atol=1e-5)
  want = hidden @ last["kernel"] + np.asarray(last["bias"])[None]
  np.testing.assert_allclose(out["logits"], want, atol=1e-5)


def test_units_are_dropped_in_training_alone(inputs, variables):
  model = Functionals(classes=4, hidden=6, dropout=0.5)

  def logits(seed, train):
    return model.apply(
      variables,
      inputs,
      LENGTHS,
      train=train,
      rngs={"dropout": jax.random.key(seed)},
    )["logits"]

  assert not np.allclose(logits(0, True), logits(1, True))
  np.testing.assert_array_equal(logits(0, False), logits(1, False))


def test_repeating_features_does_not_make_steps_larger():
  model = Functionals(classes=4, hidden=512)
  norms = []
  for dim in (100, 10_000):
    x = {"a": jnp.asarray(np.random.default_rng(1).normal(size=(3, dim)))}
    lengths = {"a": LENGTHS["a"]}
    variables = model.init(jax.random.key(0), x, lengths, train=False)
    out = model.apply(variables, x, lengths, train=False)
    norms.append(float(jnp.linalg.norm(out["embedding"])))
  assert norms[1] == pytest.approx(norms[0], rel=0.2)


def test_what_is_beside_is_a_network_of_its_own(inputs):
  """Its logits join in, its gradient is that of a network by itself."""
  both = Functionals(classes=4, hidden=6, dropout=0.0, beside="b", share=0.3)
  variables = both.init(jax.random.key(0), inputs, LENGTHS, train=False)
  params = variables["params"]
  alone = {
    "a": {name: params[name] for name in ("dense", "logits")},
    "b": {name: params[f"b_{name}"] for name in ("dense", "logits")},
  }

  def single(name, own):
    return Functionals(classes=4, hidden=6, dropout=0.0).apply(
      {"params": own},
      {name: inputs[name]},
      {name: LENGTHS[name]},
      train=False,
    )

  out = both.apply(variables, inputs, LENGTHS, train=False)
  parts = {name: single(name, own) for name, own in alone.items()}
  mixed = 0.7 * jax.nn.log_softmax(parts["a"]["logits"])
  mixed += 0.3 * jax.nn.log_softmax(parts["b"]["logits"])
  np.testing.assert_allclose(out["logits"], mixed, atol=1e-6)
  np.testing.assert_allclose(
    out["embedding"],
    np.concatenate([parts[name]["embedding"] for name in "ab"], axis=1),
    atol=1e-6,
  )

  def loss(logits):
    return -jax.nn.log_softmax(logits)[:, 0].sum()

  def joint(params):
    out = both.apply({"params": params}, inputs, LENGTHS, train=True)
    heads, shares = out["heads"], out["shares"]
    return sum(shares[name] * loss(heads[name]) for name in heads)

  whole = jax.grad(joint)(params)
  for name, prefix in (("a", ""), ("b", "b_")):
    own = jax.grad(lambda p, n=name: loss(single(n, p)["logits"]))(alone[name])
    for layer in own:
      jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, atol=1e-5),
        whole[f"{prefix}{layer}"],
        own[layer],
      )


@pytest.mark.parametrize(
  "options", [{"share": 0.3}, {"beside": "b"}, {"beside": "b", "share": 1.0}]
)
def test_a_share_of_nothing_is_refused(options):
  with pytest.raises(ValueError, match="must lie between 0 and 1"):
    Functionals(classes=4, **options)
