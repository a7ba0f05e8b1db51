import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import common
from ser_jax import losses
from ser_jax.batch import Batch
from ser_jax.tasks import classify, table
from ser_jax.tasks.task import Turn

TURN = Turn(jax.random.key(1), 0.0)


class TwoHeads(nn.Module):
  """Two linear heads, as the dual-level model has."""

  @nn.compact
  def __call__(self, inputs, lengths, *, train):
    heads = {name: nn.Dense(3, name=name)(inputs["x"]) for name in "ab"}
    return {"logits": sum(heads.values()) / 2, "heads": heads}


@pytest.fixture
def batch():
  draw = np.random.default_rng(0)
  return Batch(
    inputs={"x": jnp.asarray(draw.normal(size=(6, 4)), jnp.float32)},
    lengths={"x": jnp.ones(6, jnp.int32)},
    targets={"emotion": jnp.array([0, 1, 2, 0, 1, 2])},
    weight=jnp.array([1.0, 1.0, 1.0, 1.0, 0.0, 0.0]),
    speaker=jnp.zeros(6, jnp.int32),
    index=jnp.arange(6),
  )


def test_the_loss_is_the_average_of_the_heads(batch):
  """The dual-level model's loss (Wang et al. 2020, section 2.3.1)."""
  task = classify.classify(TwoHeads(), optax.sgd(0.1))
  params, stats = task.init(jax.random.key(0), batch)
  loss, _, totals = task.phases[0].loss_fn(params, stats, batch, TURN)
  outputs = TwoHeads().apply(
    {"params": params}, batch.inputs, batch.lengths, train=True
  )
  labels = batch.targets["emotion"][:4]
  each = [
    -jax.nn.log_softmax(outputs["heads"][name])[jnp.arange(4), labels].mean()
    for name in "ab"
  ]
  assert float(losses.mean(*loss)) == pytest.approx(
    float(sum(each) / 2), rel=1e-5
  )
  assert float(totals["loss"][1]) == 4.0
  correct = outputs["logits"][:4].argmax(axis=1) == labels
  assert float(totals["wa"][0]) == float(correct.sum())


def test_a_softmax_may_stand_before_the_cross_entropy(batch):
  """The thesis' code has two (Leow 2021, snippets 10 and 13)."""
  values = []
  for twice in (False, True):
    task = classify.classify(TwoHeads(), optax.sgd(0.1), double_softmax=twice)
    params, stats = task.init(jax.random.key(0), batch)
    loss, _, totals = task.phases[0].loss_fn(params, stats, batch, TURN)
    values.append((float(losses.mean(*loss)), totals["wa"]))
  outputs = TwoHeads().apply(
    {"params": params}, batch.inputs, batch.lengths, train=True
  )
  labels = batch.targets["emotion"][:4]
  each = [
    -jax.nn.log_softmax(jax.nn.softmax(logits[:4]))[jnp.arange(4), labels]
    for logits in outputs["heads"].values()
  ]
  assert values[1][0] == pytest.approx(float(sum(each).mean() / 2), rel=1e-5)
  assert values[1][0] != pytest.approx(values[0][0], rel=1e-3)
  assert values[1][1] == values[0][1]


def test_heads_count_by_their_shares(batch):
  class Shared(TwoHeads):
    def __call__(self, inputs, lengths, *, train):
      outputs = super().__call__(inputs, lengths, train=train)
      return outputs | {"shares": {"a": 0.75, "b": 0.25}}

  slopes = {}
  for model in (Shared(), TwoHeads()):
    task = classify.classify(model, optax.sgd(0.1))
    params, stats = task.init(jax.random.key(0), batch)
    loss = lambda params, task=task, stats=stats: losses.mean(  # noqa: E731
      *task.phases[0].loss_fn(params, stats, batch, TURN)[0]
    )
    slopes[type(model)] = jax.grad(loss)(params)
  for name, share in (("a", 0.75), ("b", 0.25)):
    one, other = (slopes[kind][name]["kernel"] for kind in (Shared, TwoHeads))
    np.testing.assert_allclose(one, other * share / 0.5, rtol=1e-5)


def test_scores_are_probabilities_of_the_averaged_logits(batch):
  task = classify.classify(TwoHeads(), optax.sgd(0.1))
  params, stats = task.init(jax.random.key(0), batch)
  scores = task.predict(params, stats, batch)["scores"]
  outputs = TwoHeads().apply(
    {"params": params}, batch.inputs, batch.lengths, train=False
  )
  np.testing.assert_allclose(
    scores, jax.nn.softmax(outputs["logits"]), rtol=1e-6
  )


def test_one_stage_of_the_config_s_epochs():
  config = common.get_config()
  stages = table.TASKS[config.task.name](
    TwoHeads(), config, lambda epochs: optax.sgd(0.1)
  )
  assert [(s.name, s.epochs, s.takes) for s in stages] == [
    ("train", config.epochs, ())
  ]
