"""Which optimizers a share of each parameter is enough for."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import common
from ser_jax.errors import UserError
from ser_jax.train.optimizers import make_optimizer
from ser_jax.train.sharing import require_elementwise, sharing


def optimizer(name, **changes):
  config = common.get_config().optimizer
  config.name = name
  config.kwargs = ""
  config.update(changes)
  return make_optimizer(config, epochs=9, steps_per_epoch=2)


@pytest.mark.parametrize(
  "name", ["sgd", "adam", "adamw", "nadamw", "lion", "rmsprop", "adagrad"]
)
def test_values_by_themselves(name):
  require_elementwise(optimizer(name))


@pytest.mark.parametrize(
  ("name", "changes"),
  [
    ("lamb", {}),
    ("adafactor", {}),
    ("muon", {}),
    ("prodigy", {}),
    ("dadapt_adamw", {"learning_rate": 1.0}),
    (
      "adam",
      {
        "clip_norm": 1.0,
        "learning_rate": 1e-4,
        "schedule": "warmup_cosine_decay_schedule",
        "schedule_kwargs": "warmup_steps=5",
      },
    ),
    ("schedule_free_adamw", {}),
    *(("adam", {"clip_norm": norm}) for norm in (1.0, 1e3, 1e6)),
  ],
)
def test_values_that_need_each_other_are_refused(name, changes):
  with pytest.raises(UserError, match="optimizer_state='sharded'"):
    require_elementwise(optimizer(name, **changes))


def test_decay_of_kernels_finds_kernels():
  """One device: rows of values, by which nothing may change."""
  tx = optimizer("adamw", decay="kernels", kwargs="weight_decay=0.5")
  params = {
    "kernel": jnp.ones((3, 4)),
    "bias": jnp.ones(5),
    "scale": jnp.ones(()),
  }
  grads = {name: 0.1 * x for name, x in params.items()}
  found = {}
  for kind, each in (("whole", tx), ("shared", sharing(tx, None))):
    state = each.init(params)
    for _ in range(2):
      updates, state = each.update(grads, state, params, value=jnp.ones(()))
      found[kind] = optax.apply_updates(params, updates)
  for name, x in found["whole"].items():
    np.testing.assert_allclose(found["shared"][name], x, rtol=1e-6)
  assert found["whole"]["kernel"][0, 0] < found["whole"]["bias"][0]
