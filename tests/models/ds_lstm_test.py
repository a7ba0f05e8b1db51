"""The rows of Table 1: parameter counts, shapes, heads and padding."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ser_jax.models.ds_lstm import (
  PRESETS,
  VARIANTS,
  DSLSTMModel,
  SpectrogramCNN,
  align,
)

CLASSES = 4
SIZES = {
  "paper": {"mfcc": (300, 39), "s1": (459, 64), "s2": (230, 128)},
  "code": {"mfcc": (300, 39), "s1": (230, 128), "s2": (120, 256)},
}
# Small, but long enough for two convolutions, poolings and the alignment.
SMALL = {"mfcc": (9, 5), "s1": (40, 14), "s2": (22, 16)}
# Compiling takes longer than running here.
QUICK = {"xla_backend_optimization_level": 0}
HEADS = {
  "base1": {"mfcc"},
  "base2": {"s1"},
  "base3": {"s2"},
  "base4": {"s1", "s2"},
  "base5": {"mfcc", "s1", "s2"},
  "base6": {"mfcc", "s1"},
  "ds_lstm": {"ds_lstm"},
  "dual": {"mfcc", "ds_lstm"},
}
ROWS = [
  *((row, preset, {}) for row in VARIANTS for preset in PRESETS),
  ("dual", "paper", {"rbn": "pre", "output_bn": "shared"}),
  ("dual", "paper", {"rbn": "none", "output_bn": "none"}),
  ("dual", "paper", {"forms": ("patches", "blocked"), "hoist": False}),
]


def shapes(sizes, batch):
  return (
    {k: jax.ShapeDtypeStruct((batch, *s), "float32") for k, s in sizes.items()},
    {k: jax.ShapeDtypeStruct((batch,), "int32") for k in sizes},
  )


def small(variant="dual", **options):
  return DSLSTMModel(CLASSES, variant, hidden=8, channels=(4, 2), **options)


def variables_of(model, sizes=SMALL):
  """Parameters and statistics, drawn without compiling an initialiser."""
  init = functools.partial(model.init, jax.random.key(0), train=False)
  draw = np.random.default_rng(1)

  def fill(path, leaf):
    low = 0.3 if path[-1].key in ("variance", "scale") else -0.5
    return draw.uniform(low, 0.7, leaf.shape).astype(np.float32)

  tree = jax.eval_shape(init, *shapes(sizes, 2))
  return jax.tree_util.tree_map_with_path(fill, tree)


def random_inputs(batch=4, extra=0, seed=0):
  draw = np.random.default_rng(seed)
  return {
    name: draw.normal(size=(batch, time + extra, dim)).astype(np.float32)
    for name, (time, dim) in SMALL.items()
  }


@functools.partial(jax.jit, static_argnums=0, compiler_options=QUICK)
def evaluate(model, variables, inputs, lengths):
  """Outputs with the running statistics."""
  return model.apply(variables, inputs, lengths, train=False)


@functools.partial(jax.jit, static_argnums=0, compiler_options=QUICK)
def train_pass(model, variables, inputs, lengths, weights):
  """Outputs, statistics and the parameters' gradients of a weighted sum."""

  def loss(params):
    outputs, new = model.apply(
      {**variables, "params": params},
      inputs,
      lengths,
      train=True,
      mutable=["batch_stats"],
    )
    return jnp.sum(outputs["logits"] * weights), (outputs, new)

  return jax.grad(loss, has_aux=True)(variables["params"])


@pytest.mark.parametrize(
  "variant,count", [("base1", 515204), ("base4", 2189092), ("dual", 3732296)]
)
def test_parameter_counts_equal_the_published_ones(variant, count):
  model = DSLSTMModel(CLASSES, variant, "code")
  init = functools.partial(model.init, jax.random.key(0), train=False)
  tree = jax.eval_shape(init, *shapes(SIZES["code"], 2))["params"]
  assert sum(leaf.size for leaf in jax.tree.leaves(tree)) == count


@pytest.mark.parametrize(
  "preset,wanted,aligned",
  # Two steps make one: 112 -> 56, of which the 55 of the other are used.
  [
    ("paper", {"s1": (112, 208), "s2": (55, 464)}, 56),
    # The shapes that the authors' code states: X1 56, T3 = 56 // 2 - 1.
    ("code", {"s1": (56, 496), "s2": (29, 1008)}, 27),
  ],
)
def test_shapes_of_the_two_branches(preset, wanted, aligned):
  steps = {}
  for name, want in wanted.items():
    cnn = SpectrogramCNN(
      PRESETS[preset].kernels[name],
      PRESETS[preset].padding[name],
      False,
      (64, 16),
      ("direct", "direct"),
    )
    (out, lengths), _ = jax.eval_shape(
      functools.partial(cnn.init_with_output, jax.random.key(0), train=False),
      jax.ShapeDtypeStruct((2, *SIZES[preset][name]), "float32"),
      jax.ShapeDtypeStruct((2,), "int32"),
    )
    assert out.shape == (2, *want)
    steps[name] = out
  window = PRESETS[preset].window
  found, _ = jax.eval_shape(
    functools.partial(align, window=window), steps["s1"], lengths
  )
  assert found.shape == (2, aligned, wanted["s1"][1])


@pytest.mark.parametrize("window,want", [(2, [0.5, 2.5, 4.5]), (3, [1.0, 3.0])])
def test_alignment_by_hand(window, want):
  x = jnp.arange(6.0).reshape(1, 6, 1)
  out, lengths = align(x, jnp.array([6]), window)
  np.testing.assert_allclose(out[0, :, 0], want)
  assert lengths == len(want)
  _, lengths = align(jnp.zeros((4, 6, 1)), jnp.array([0, 1, 3, 5]), window)
  np.testing.assert_array_equal(lengths, [0, 0, 1, 2])


# Base 5 is Base 1 and Base 4, which is Base 2 and Base 3.
SHARES = {("base5", "paper"): {"mfcc": 0.5, "s1": 0.25, "s2": 0.25}}


@pytest.mark.parametrize("variant,preset,options", ROWS)
def test_every_row_gives_logits(variant, preset, options):
  model = small(variant, preset=preset, **options)
  variables, inputs = variables_of(model), random_inputs()
  lengths = {k: np.full(4, v.shape[1], np.int32) for k, v in inputs.items()}
  outputs = evaluate(model, variables, inputs, lengths)
  heads = HEADS[variant]
  if preset == "code" and {"s1", "s2"} <= heads:
    heads = heads - {"s1", "s2"} | {"s1_s2"}
  assert set(outputs["heads"]) == heads
  assert outputs["logits"].shape == (4, CLASSES)
  assert np.all(np.isfinite(outputs["logits"]))
  assert np.std(outputs["logits"], axis=0).min() > 0
  assert outputs["shares"] == pytest.approx(
    SHARES.get((variant, preset), dict.fromkeys(heads, 1 / len(heads)))
  )
  mean = sum(outputs["shares"][name] * outputs["heads"][name] for name in heads)
  np.testing.assert_allclose(outputs["logits"], mean, rtol=1e-5, atol=1e-6)


def test_forms_and_hoisting_change_nothing():
  inputs = random_inputs()
  lengths = {k: np.full(4, v.shape[1], np.int32) for k, v in inputs.items()}
  model = small()
  args = (variables_of(model), inputs, lengths)
  other = small(forms=("patches", "blocked"), hoist=False)
  np.testing.assert_allclose(
    evaluate(model, *args)["logits"],
    evaluate(other, *args)["logits"],
    rtol=1e-4,
    atol=1e-5,
  )


@pytest.mark.parametrize(
  "preset,forms",
  [("paper", ("direct", "direct")), ("code", ("patches", "blocked"))],
)
def test_padding_and_filler_change_nothing(preset, forms):
  model = small(preset=preset, forms=forms)
  sizes = {name: (time + 8, dim) for name, (time, dim) in SMALL.items()}
  variables = variables_of(model, sizes)  # slots for the longer batch
  shorter = np.array([0, 0, 0, 1, 2, 3], np.int32)
  inputs = random_inputs(len(shorter))
  lengths = {k: v.shape[1] - shorter for k, v in inputs.items()}
  longer = random_inputs(len(shorter) + 2, extra=8, seed=9)
  for name, x in longer.items():
    x *= 100.0
    for row, part, n in zip(x, inputs[name], lengths[name], strict=False):
      row[:n] = part[:n]
  weights = np.random.default_rng(3).normal(size=(8, CLASSES)).astype("float32")

  want_grads, (want, want_stats) = train_pass(
    model, variables, inputs, lengths, weights[:6]
  )
  lengths = {k: np.append(v, np.int32([0, 0])) for k, v in lengths.items()}
  grads, (out, stats) = train_pass(
    model, variables, longer, lengths, weights * (np.arange(8) < 6)[:, None]
  )
  np.testing.assert_allclose(
    out["logits"][:6], want["logits"], rtol=1e-3, atol=1e-4
  )
  assert np.all(np.isfinite(out["logits"]))
  for (path, a), b in zip(
    jax.tree.leaves_with_path((grads, stats)),
    jax.tree.leaves((want_grads, want_stats)),
    strict=True,
  ):
    np.testing.assert_allclose(a, b, rtol=5e-3, atol=5e-4, err_msg=str(path))


@pytest.mark.parametrize("field", ["variant", "preset", "rbn", "output_bn"])
def test_unknown_choices_are_refused(field):
  with pytest.raises(ValueError, match=f"{field}='base7' is none of"):
    DSLSTMModel(**{"classes": CLASSES, field: "base7"})


def test_unknown_forms_are_refused():
  with pytest.raises(ValueError, match="must be two of direct, patches, block"):
    DSLSTMModel(CLASSES, forms=("direct", "slow"))
