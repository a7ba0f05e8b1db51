import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
import pytest

from ser_jax.errors import UserError
from ser_jax.train.optimizers import (
  _NEED_MORE,
  _is_function,
  _is_optimizer,
  _is_schedule,
  at_rates,
  current_rate,
  evaluated,
  make_optimizer,
  parse_arguments,
)

PARAMS = {"kernel": jnp.ones((4, 3)), "bias": jnp.ones((3,))}
# Every schedule, with the arguments that it cannot do without.
SCHEDULES = {
  "constant_schedule": "",
  "cosine_decay_schedule": "",
  "cosine_onecycle_schedule": "",
  "exponential_decay": "decay_rate=0.5",
  "linear_onecycle_schedule": "",
  "linear_schedule": "end_value=0",
  "piecewise_constant_schedule": "boundaries_and_scales={5: 0.1}",
  "piecewise_interpolate_schedule": (
    "interpolate_type='linear', boundaries_and_scales={5: 0.1}"
  ),
  "polynomial_schedule": "end_value=0, power=2",
  "warmup_constant_schedule": "warmup_steps=2",
  "warmup_cosine_decay_schedule": "warmup_steps=2",
  "warmup_exponential_decay_schedule": "warmup_steps=2, decay_rate=0.5",
}


def offered(suits, *modules):
  """Names that are looked up there."""
  return {
    name
    for module in modules
    for name, value in vars(module).items()
    if _is_function(value) and suits(name, value)
  }


def section(**changes):
  fields = {
    "name": "adam",
    "learning_rate": 1e-2,
    "learning_rates": (),
    "kwargs": "",
    "schedule": "constant",
    "schedule_kwargs": "",
    "clip_norm": 0.0,
    "decay": "all",
  }
  return ml_collections.ConfigDict(fields | changes)


def make(epochs=10, steps=4, **changes):
  return make_optimizer(
    section(**changes), epochs=epochs, steps_per_epoch=steps
  )


def rates(tx, steps):
  state, found = tx.init(PARAMS), []
  update = jax.jit(lambda s: tx.update(PARAMS, s, PARAMS, value=jnp.array(1.0)))
  for _ in range(steps):
    _, state = update(state)
    found.append(float(state.hyperparams["learning_rate"]))
  return found


@pytest.mark.parametrize(
  "name",
  ["adam", "adamw", "sgd", "lion", "lamb", "nadamw", "adafactor", "muon"]
  + ["prodigy", "adopt", "rmsprop", "radam", "schedule_free_adamw"],
)
def test_optimizers_of_optax_and_contrib_move_every_parameter(name):
  tx = make(name=name)
  state = tx.init(PARAMS)
  for _ in range(3):  # some wait a step before they move
    updates, state = tx.update(PARAMS, state, PARAMS, value=jnp.array(1.0))
  for update in jax.tree.leaves(updates):
    assert (np.asarray(update) != 0).all()


def test_it_is_the_optimizer_named():
  ours, theirs = make(name="sgd", kwargs="momentum=0.9"), optax.sgd(1e-2, 0.9)
  state, other = ours.init(PARAMS), theirs.init(PARAMS)
  for _ in range(3):
    one, state = ours.update(PARAMS, state, PARAMS)
    two, other = theirs.update(PARAMS, other, PARAMS)
  np.testing.assert_allclose(one["kernel"], two["kernel"], rtol=1e-6)


def test_schedules_count_epochs():
  halved = make(
    schedule="piecewise_constant_schedule",
    schedule_kwargs="boundaries_and_scales={1: 0.5, 2: 0.5}",
  )
  assert rates(halved, 12) == pytest.approx(
    [1e-2] * 4 + [5e-3] * 4 + [2.5e-3] * 4
  )
  cosine = rates(make(schedule="cosine_decay_schedule", epochs=2), 9)
  assert cosine[4] == pytest.approx(5e-3)
  assert cosine[8] == pytest.approx(0.0, abs=1e-9)


def test_one_cycle_peaks_within_an_epoch():
  """At .3 of it, whatever the length of the stage."""
  for name in ("cosine_onecycle_schedule", "linear_onecycle_schedule"):
    found = rates(make(schedule=name, epochs=1, steps=20), 21)
    theirs = getattr(optax, name)(20, peak_value=1e-2)
    expected = [float(theirs(step)) for step in range(21)]
    assert found == pytest.approx(expected, rel=1e-4)
    assert found[6] == max(found) > 10 * found[0]


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_start_or_peak_at_the_learning_rate(name):
  tx = make(schedule=name, schedule_kwargs=SCHEDULES[name], steps=1)
  assert max(rates(tx, 10)) == pytest.approx(1e-2)


def test_no_other_schedule_is_offered():
  assert offered(_is_schedule, optax) == set(SCHEDULES)


def test_states_of_all_optimizers_offered_can_be_saved():
  """Nothing empty, and no random keys."""
  names = offered(_is_optimizer, optax, optax.contrib)
  assert names > _NEED_MORE.keys()
  for name in names - _NEED_MORE.keys():
    for leaf in jax.tree.leaves(jax.eval_shape(make(name=name).init, PARAMS)):
      kinds = (jnp.number, jnp.bool_)
      assert leaf.size and any(
        jnp.issubdtype(leaf.dtype, kind) for kind in kinds
      ), name


def test_each_run_may_have_its_own_rate():
  """Stacked states at rates of their own move as each would alone."""
  config = section(learning_rates=(1e-3, 1e-1))
  tx = make_optimizer(config, epochs=10, steps_per_epoch=4)
  one = tx.init(PARAMS)
  stacked = jax.tree.map(lambda x: jnp.stack([x, x]), {"phase": one})
  wanted = np.array(config.learning_rates)
  state = at_rates(stacked, wanted, config)["phase"]
  updates, state = jax.vmap(lambda s: tx.update(PARAMS, s, PARAMS))(state)
  np.testing.assert_allclose(current_rate(state), wanted, rtol=1e-6)
  for number, rate in enumerate(wanted):
    alone = make(learning_rate=float(rate))
    expected, _ = alone.update(PARAMS, alone.init(PARAMS), PARAMS)
    np.testing.assert_allclose(
      updates["kernel"][number], expected["kernel"], rtol=1e-5
    )


def test_clipping_bounds_the_norm():
  tx = make(name="sgd", clip_norm=0.5, learning_rate=1.0)
  updates, _ = tx.update(PARAMS, tx.init(PARAMS), PARAMS)
  assert float(optax.global_norm(updates)) == pytest.approx(0.5)


def test_decay_can_spare_biases():
  tx = make(name="adamw", decay="kernels", kwargs="weight_decay=0.5")
  zeros = jax.tree.map(jnp.zeros_like, PARAMS)
  updates, _ = tx.update(zeros, tx.init(PARAMS), PARAMS)
  assert (np.asarray(updates["bias"]) == 0).all()
  assert (np.asarray(updates["kernel"]) < 0).all()


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"name": "adamx"}, "did you mean adam"),
    ({"kwargs": "betta=0.9"}, "'betta'"),
    ({"kwargs": "b1=0.9 b2"}, "cannot be read"),
    ({"schedule": "cosin_schedule"}, "did you mean"),
    (
      {"schedule": "cosine_decay_schedule", "schedule_kwargs": "alpa=1"},
      "did you mean alpha",
    ),
    ({"schedule": "sgdr_schedule"}, "is not among optax's"),
    ({"schedule": "scale_by_schedule"}, "is not among optax's"),
    ({"schedule": "linear_schedule"}, "end_value"),
    ({"schedule_kwargs": "warmup_steps=2"}, "does not take"),
    (
      {
        "schedule": "warmup_constant_schedule",
        "schedule_kwargs": "warmup_steps=0",
      },
      "warmup_steps=0, which must be a number of epochs above 0",
    ),
    (
      {
        "schedule": "linear_schedule",
        "schedule_kwargs": "end_value=0.0, transition_steps=0",
      },
      "transition_steps=0, which must be a number of epochs above 0",
    ),
    (
      {
        "schedule": "cosine_decay_schedule",
        "schedule_kwargs": "decay_steps='all'",
      },
      "decay_steps='all', which must be a number",
    ),
    (
      {
        "schedule": "piecewise_constant_schedule",
        "schedule_kwargs": "boundaries_and_scales=3",
      },
      "schedule='piecewise_constant_schedule' with",
    ),
    ({"name": "lbfgs"}, "line search"),
    ({"name": "dpsgd"}, "gradient of every example"),
    ({"name": "galore"}, "empty arrays"),
    ({"name": "scale_by_rprop"}, "is not among optax's"),
    ({"name": "_deprecated_dpsgd"}, "is not among optax's"),
    ({"kwargs": "learning_rate=0.1"}, "set config.optimizer.learning_rate"),
    ({"kwargs": "b1='high'"}, "does not go with config.optimizer.name='adam'"),
    ({"name": "sgd", "kwargs": "momentum='high'"}, "does not go with"),
    ({"name": "sgd", "decay": "kernels"}, "decay mask"),
    ({"decay": "biases"}, "neither"),
    ({"learning_rates": (0.1, 0.1)}, "different numbers"),
    ({"learning_rates": (0.1, 0.1 + 1e-9)}, "first six digits"),
    ({"learning_rates": (0.1, 0.0)}, "above 0"),
    ({"learning_rates": (0.1,), "learning_rate": 0.0}, "must be above 0"),
  ],
)
def test_what_optax_lacks_is_refused(changes, message):
  with pytest.raises(UserError, match=message):
    make(**changes)


def test_a_warm_up_of_no_length_is_none_where_more_follows():
  tx = make(
    schedule="warmup_cosine_decay_schedule", schedule_kwargs="warmup_steps=0"
  )
  assert rates(tx, 1)[0] == pytest.approx(1e-2)


def test_arguments_are_literals():
  assert parse_arguments("a=1, b=(2, 3), c='x'", "f") == {
    "a": 1,
    "b": (2, 3),
    "c": "x",
  }


def test_schedule_free_predicts_with_the_average_of_its_iterates():
  """By hand, SGD at a constant rate: x is the mean of all z."""
  tx = make(name="schedule_free_sgd", learning_rate=0.1, kwargs="b1=0.9")
  params, rows = {"head": PARAMS}, []
  state = tx.init(params)
  z = jax.tree.map(np.asarray, params)
  for number in range(3):
    grads = jax.tree.map(lambda x: x * 0 + number + 1.0, params)  # noqa: B023
    updates, state = tx.update(grads, state, params, value=jnp.array(1.0))
    params = optax.apply_updates(params, updates)
    z = jax.tree.map(lambda z, g: z - 0.1 * np.asarray(g), z, grads)
    rows.append(z)
  wanted = jax.tree.map(lambda *zs: np.mean(zs, axis=0), *rows)
  found = evaluated(params, {"classify": state})
  for one, other in zip(*map(jax.tree.leaves, (found, wanted)), strict=True):
    np.testing.assert_allclose(one, other, rtol=1e-5)


def test_stacked_runs_average_each_its_own():
  tx = make(name="schedule_free_adamw")

  def train(scale):
    params = {"head": jax.tree.map(lambda x: x * scale, PARAMS)}
    state = tx.init(params)
    updates, state = tx.update(params, state, params, value=jnp.array(1.0))
    params = optax.apply_updates(params, updates)
    return params, {"classify": state}

  scales = jnp.array([1.0, -2.0])
  together = evaluated(*jax.vmap(train)(scales))
  for number, scale in enumerate(scales):
    alone = evaluated(*train(scale))
    for one, other in zip(
      *map(jax.tree.leaves, (together, alone)), strict=True
    ):
      np.testing.assert_allclose(one[number], other, rtol=1e-6)


def test_other_optimizers_predict_with_what_they_train():
  params = {"head": PARAMS}
  state = make(name="adam").init(params)
  assert evaluated(params, {"classify": state})["head"] is PARAMS


def test_two_averages_of_one_group_are_refused():
  params = {"head": PARAMS}
  state = make(name="schedule_free_adamw").init(params)
  with pytest.raises(UserError, match="both move head"):
    evaluated(params, {"classify": state, "reconstruct": state})
