"""The adversarial loss, its annealing, and what lambda = 0 amounts to."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
import pytest

from ser_jax import losses
from ser_jax.batch import Batch
from ser_jax.errors import UserError
from ser_jax.nn.gradient_reversal import reverse_gradient
from ser_jax.tasks import classify, domain_adversarial
from ser_jax.tasks.task import Turn
from ser_jax.train.state import init_state
from ser_jax.train.step import train_step


class Linear(nn.Module):
  """A linear encoder and two linear heads."""

  adversary: bool = True

  @nn.compact
  def __call__(self, inputs, lengths, *, train, reversal=0.0):
    embedding = nn.Dense(5, name="encoder")(inputs["x"])
    logits = nn.Dense(3, name="emotion_head")(embedding)
    outputs = {"logits": logits, "heads": {"emotion": logits}}
    if self.adversary:
      reversed_ = reverse_gradient(embedding, jnp.asarray(reversal))
      outputs["speaker"] = nn.Dense(2, name="speaker_head")(reversed_)
    return outputs


@pytest.fixture
def batch():
  draw = np.random.default_rng(0)
  return Batch(
    inputs={"x": jnp.asarray(draw.normal(size=(6, 4)), jnp.float32)},
    lengths={"x": jnp.ones(6, jnp.int32)},
    targets={
      "emotion": jnp.array([0, 1, 2, 0, 1, 2]),
      "speaker": jnp.array([0, 0, 1, 1, 0, 1]),
    },
    weight=jnp.array([1.0, 1.0, 1.0, 1.0, 0.0, 0.0]),
    speaker=jnp.zeros(6, jnp.int32),
    index=jnp.arange(6),
  )


class WithStatistics(Linear):
  """A model must give back its running statistics, if only to count calls."""

  @nn.compact
  def __call__(self, inputs, lengths, *, train, reversal=0.0):
    calls = self.variable("batch_stats", "calls", jnp.zeros, ())
    if train:
      calls.value += 1.0
    return super().__call__(inputs, lengths, train=train, reversal=reversal)


def make(gamma=2.5, **options):
  return domain_adversarial.domain_adversarial(
    WithStatistics(), optax.sgd(0.5), gamma=gamma, **options
  )


def gradients(task, params, batch, progress):
  def loss(params):
    turn = Turn(jax.random.key(1), progress)
    pair, *others = task.phases[0].loss_fn(
      params, {"calls": jnp.zeros(())}, batch, turn
    )
    return losses.mean(*pair), tuple(others)

  return jax.jit(jax.value_and_grad(loss, has_aux=True))(params)


@pytest.mark.parametrize("gamma", [0.0, 1.25, 2.5, 3.33])
def test_annealing_follows_the_thesis(gamma):
  for progress in (0.0, 0.3, 1.0):
    want = 2 / (1 + np.exp(-gamma * progress)) - 1
    got = domain_adversarial.annealed(jnp.float32(progress), gamma)
    assert float(got) == pytest.approx(want, abs=1e-6)


def test_loss_and_gradients_by_hand(batch):
  task, progress = make(), jnp.float32(0.6)
  params, _ = task.init(jax.random.key(0), batch)
  (_, (_, totals)), grads = gradients(task, params, batch, progress)
  strength = float(domain_adversarial.annealed(progress, 2.5))

  def loss_of(params, head, labels, classes):
    hidden = batch.inputs["x"][:4] @ params["encoder"]["kernel"]
    hidden += params["encoder"]["bias"][None]
    logits = hidden @ params[head]["kernel"] + params[head]["bias"][None]
    picked = jax.nn.log_softmax(logits)[jnp.arange(4), labels[:4]]
    return -picked.mean()

  def of(head, target, classes):
    return jax.value_and_grad(
      functools.partial(
        loss_of, head=head, labels=batch.targets[target], classes=classes
      )
    )(params)

  emotion, of_emotion = of("emotion_head", "emotion", 3)
  speaker, of_speaker = of("speaker_head", "speaker", 2)
  assert float(totals["loss"][0] / 4) == pytest.approx(float(emotion), 1e-5)
  assert float(totals["speaker_loss"][0] / 4) == pytest.approx(
    float(speaker), 1e-5
  )
  assert float(totals["reversal"][0] / 4) == pytest.approx(strength, 1e-5)
  want = {
    "encoder": jax.tree.map(
      lambda e, s: e - strength * s,
      of_emotion["encoder"],
      of_speaker["encoder"],
    ),
    "emotion_head": of_emotion["emotion_head"],
    "speaker_head": of_speaker["speaker_head"],  # at its full rate
  }
  for group, leaves in want.items():
    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
      grads[group],
      leaves,
    )


def test_the_legacy_loss_makes_the_speaker_head_maximise(batch):
  task, progress = make(legacy_thesis_loss=True), jnp.float32(0.6)
  params, _ = task.init(jax.random.key(0), batch)
  (value, _), grads = gradients(task, params, batch, progress)
  strength = float(domain_adversarial.annealed(progress, 2.5))

  def legacy(params):
    outputs = WithStatistics().apply(
      {"params": params, "batch_stats": {"calls": jnp.zeros(())}},
      batch.inputs, batch.lengths, train=False, reversal=-1.0,
    )  # fmt: skip

    def twice(logits, labels):
      twofold = jax.nn.log_softmax(jax.nn.softmax(logits[:4]))
      return -twofold[jnp.arange(4), labels[:4]].mean()

    return twice(
      outputs["logits"], batch.targets["emotion"]
    ) - strength * twice(outputs["speaker"], batch.targets["speaker"])

  want, want_grads = jax.value_and_grad(legacy)(params)
  assert float(value) == pytest.approx(float(want), 1e-5)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
    grads,
    want_grads,
  )


def test_without_strength_the_encoder_learns_as_without_adversary(batch):
  """gamma = 0: the same encoder and emotion head, step for step."""
  plain = classify.classify(Linear(adversary=False), optax.sgd(0.5))
  states = []
  for task in (make(gamma=0.0), plain):
    state = init_state(jnp.uint32(3), batch, task)
    step = jax.jit(functools.partial(train_step, task=task, total_steps=9))
    for _ in range(3):
      state, _ = step(state, batch)
    states.append(state.params)
  assert "speaker_head" not in states[1]
  for group in ("encoder", "emotion_head"):
    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7),
      states[0][group],
      states[1][group],
    )


@pytest.mark.parametrize(
  ("model", "gamma", "message"),
  [
    (Linear(adversary=False), 2.5, "config.model.adversary=True"),
    (nn.Dense(3), 2.5, "config.model.adversary=True"),
    (Linear(), 0.0, "config.task.gamma=0.0 must be above 0"),
    (Linear(), -2.0, "config.task.gamma=-2.0 must be above 0"),
    (Linear(), float("nan"), "config.task.gamma=nan must be above 0"),
  ],
)
def test_no_stage_is_made_without_an_adversary(model, gamma, message):
  task = {"gamma": gamma, "label_smoothing": 0.0, "legacy_thesis_loss": False}
  config = ml_collections.ConfigDict({"epochs": 1, "task": task})
  with pytest.raises(UserError, match=message):
    domain_adversarial.stages(model, config, lambda _: optax.sgd(0.5))
