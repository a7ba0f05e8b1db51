"""A config's optimizer section -> an optax transformation, by name.

Names are looked up in `optax`, then in `optax.contrib`; arguments are strict.
Schedules count epochs (fractions included), so that a recipe does not change
with the batch size.
"""

import ast
import difflib
import functools
import inspect
from collections.abc import Callable

import jax
import numpy as np
import optax
import optax.contrib
from jaxtyping import Array, Float, PyTree

from ser_jax.errors import UserError
from ser_jax.run_names import rate_suffix

_END = ("decay_steps", "transition_steps")
# optax puts the corners of these on whole steps: they count thousandths.
_ON_WHOLE_STEPS = ("cosine_onecycle_schedule", "linear_onecycle_schedule")
_PARTS = 1000
# What follows the warm-up of others makes one of no length harmless.
_ALL_WARMUP = {"warmup_constant_schedule": ("warmup_steps",)}
_MASKS = ("mask", "weight_decay_mask")
_VALUES = ("value", "init_value", "peak_value")
_NEED_MORE = {
  "dpsgd": "the gradient of every example",
  "galore": "checkpoints of empty arrays",
  "lbfgs": "a line search over one fixed objective",
  "noisy_sgd": "a random key for every run",
  "schedule_free": "a base optimizer",
  "sophia": "Hessian estimates from labels sampled from the model",
}
# What every optimizer must be able to move: matrices and vectors.
_TRIAL = {"kernel": np.ones((3, 2), np.float32), "bias": np.ones(2, np.float32)}


def parse_arguments(
  text: str, field: str, example: str = "momentum=0.9,nesterov=True"
) -> dict:
  """Reads `'momentum=0.9,nesterov=True'` as keyword arguments.

  Args:
    text: Python keyword arguments with literal values.
    field: the config field, for messages.
    example: of what the field may be, for messages.

  Returns:
    The arguments by name.

  Raises:
    UserError: the text is not of that form.
  """
  try:
    call = ast.parse(f"f({text})", mode="eval").body
    if not isinstance(call, ast.Call) or call.args:
      raise ValueError("not keyword arguments")
    return {word.arg: ast.literal_eval(word.value) for word in call.keywords}
  except (ValueError, SyntaxError) as error:
    raise UserError(
      f"{field}={text!r} cannot be read ({error}): write Python keyword "
      f"arguments with literal values, for example '{example}'."
    ) from error


def _find(
  name: str, modules: tuple, field: str, suits: Callable[[str, Callable], bool]
) -> Callable:
  """Looks a public optax factory up by name."""
  known = {
    key: value
    for module in reversed(modules)
    for key, value in vars(module).items()
    if _is_function(value) and suits(key, value)
  }
  if name not in known:
    usable = sorted(known.keys() - _NEED_MORE.keys())
    near = difflib.get_close_matches(name, usable, n=3) or usable
    raise UserError(
      f"{field}={name!r} is not among optax's: did you mean {', '.join(near)}?"
    )
  return known[name]


def _is_function(value) -> bool:
  """Functions, and those with some arguments bound (`nadamw`)."""
  return inspect.isfunction(value) or isinstance(value, functools.partial)


def _is_schedule(name: str, factory: Callable) -> bool:
  """Those of one rate: others join schedules, or scale updates."""
  return not inspect.signature(factory).parameters.keys().isdisjoint(_VALUES)


def _is_optimizer(name: str, factory: Callable) -> bool:
  """Whole ones: parts named `scale_by_` leave the sign to others."""
  taken = inspect.signature(factory).parameters
  return "learning_rate" in taken and not name.startswith(("_", "scale_by_"))


def _check(given: dict, factory: Callable, field: str) -> None:
  """Refuses arguments that a factory does not take."""
  taken = inspect.signature(factory).parameters
  for name in given:
    if name not in taken:
      near = difflib.get_close_matches(name, taken, n=1)
      hint = f" (did you mean {near[0]}?)" if near else ""
      raise UserError(
        f"{field} has {name!r}, which that function of optax does "
        f"not take{hint}; it takes {', '.join(taken)}."
      )


def make_schedule(
  name: str, arguments: str, learning_rate: float, epochs: int
) -> Callable:
  """A learning rate over epochs.

  Args:
    name: an optax schedule such as `cosine_decay_schedule`, or `constant`.
    arguments: its keyword arguments as text; times are in epochs. The start or
      peak value and the end of the decay need not be given: they are the
      learning rate and the number of epochs.
    learning_rate: the start or peak value.
    epochs: the length of the stage.

  Returns:
    A function from epochs done to the learning rate.

  Raises:
    UserError: unknown schedule or argument.
  """
  field = "config.optimizer.schedule"
  known = "constant_schedule" if name == "constant" else name
  factory = _find(known, (optax,), field, _is_schedule)
  given = parse_arguments(arguments, f"{field}_kwargs", "alpha=0.1")
  _check(given, factory, f"{field}_kwargs")
  taken = inspect.signature(factory).parameters
  usual = dict.fromkeys(_VALUES, learning_rate) | dict.fromkeys(_END, epochs)
  if "peak_value" in taken:
    usual["init_value"] = 0.0
  given = {key: x for key, x in usual.items() if key in taken} | given
  for key in given.keys() & {*_END, *_ALL_WARMUP.get(name, ())}:
    _check_length(key, given[key], f"{field}_kwargs")
  try:
    if name in _ON_WHOLE_STEPS:
      parts = round(given["transition_steps"] * _PARTS)
      schedule = factory(**given | {"transition_steps": parts})
      return lambda epoch: schedule(epoch * _PARTS)
    return factory(**given)
  except (TypeError, ValueError, AttributeError) as error:
    raise UserError(f"{field}={name!r} with {given}: {error}.") from error


def _check_length(key: str, value, field: str) -> None:
  """Refuses lengths at which optax stays at the start value for good."""
  if not isinstance(value, int | float) or not value > 0:
    raise UserError(
      f"{field} has {key}={value!r}, which must be a number of epochs above 0: "
      "with none the rate would stay where it starts."
    )


def make_optimizer(
  config, *, epochs: int, steps_per_epoch: int, factor: float = 1.0
) -> optax.GradientTransformationExtraArgs:
  """Builds the optimizer that a config names.

  Args:
    config: `name`, `learning_rate`, `kwargs`, `schedule`, `schedule_kwargs`,
      `clip_norm` (0 for none), `decay` (which parameters a weight decay
      reaches: `all`, or `kernels` for matrices and filters alone), and
      `learning_rates`: if there are any, each run has its own, see `at_rates`.
    epochs: the length of the stage.
    steps_per_epoch: steps in an epoch.
    factor: of the learning rate, for phases that learn slower or faster.

  Returns:
    The transformation; its state holds `hyperparams['learning_rate']`.

  Raises:
    UserError: a name or argument that optax does not have, or cannot use.
  """
  factory = _find(
    config.name,
    (optax, optax.contrib),
    "config.optimizer.name",
    _is_optimizer,
  )
  if config.name in _NEED_MORE:
    raise UserError(
      f"config.optimizer.name={config.name!r} needs {_NEED_MORE[config.name]}, "
      "which the training step does not offer: choose another optimizer."
    )
  _check_rates(config)
  given = _arguments(config, factory)
  rate = make_schedule(
    config.schedule, config.schedule_kwargs, config.learning_rate, epochs
  )

  def transformation(learning_rate, relative=1.0):
    parts = [factory(learning_rate=learning_rate * relative, **given)]
    if config.clip_norm:
      parts.insert(0, optax.clip_by_global_norm(config.clip_norm))
    return optax.chain(*parts)

  own = {"relative": 1.0} if config.learning_rates else {}
  injected = optax.inject_hyperparams(transformation)(
    learning_rate=lambda step: factor * rate(step / steps_per_epoch), **own
  )
  tx = optax.with_extra_args_support(injected)
  _try_out(tx, config)
  return tx


def _check_rates(config) -> None:
  """Refuses rates that runs cannot each have one of."""
  rates = config.learning_rates
  told = {rate_suffix(each) for each in rates}
  if len(told) < len(rates) or any(each <= 0 for each in rates):
    raise UserError(
      f"config.optimizer.learning_rates={tuple(rates)} must be different "
      "numbers above 0: runs are named by their first six digits."
    )
  if rates and config.learning_rate <= 0:
    raise UserError(
      f"config.optimizer.learning_rate={config.learning_rate} must be above 0: "
      "config.optimizer.learning_rates are told by their proportion to it."
    )


def _arguments(config, factory: Callable) -> dict:
  """What an optimizer is made with, its learning rate apart."""
  field = "config.optimizer.kwargs"
  given = parse_arguments(config.kwargs, field)
  _check(given, factory, field)
  if "learning_rate" in given:
    raise UserError(
      f"{field}={config.kwargs!r} has the learning rate: set config.optimizer."
      "learning_rate instead."
    )
  if config.decay == "kernels":
    taken = inspect.signature(factory).parameters
    mask = next((key for key in _MASKS if key in taken), None)
    if mask is None:
      raise UserError(
        f"config.optimizer.decay='kernels' needs an optimizer with a decay "
        f"mask, which optax's {config.name} has not: use adamw, or 'all'."
      )
    given[mask] = lambda params: jax.tree.map(lambda p: p.ndim > 1, params)
  elif config.decay != "all":
    raise UserError(
      f"config.optimizer.decay={config.decay!r} is neither 'all' nor 'kernels'."
    )
  return given


def _try_out(tx: optax.GradientTransformationExtraArgs, config) -> None:
  """Traces a step, which shows arguments of a wrong kind."""

  def step(params):
    return tx.update(params, tx.init(params), params, value=np.float32(1))

  try:
    jax.eval_shape(step, _TRIAL)
  except (TypeError, ValueError) as error:
    raise UserError(
      f"config.optimizer.kwargs={config.kwargs!r} does not go with config."
      f"optimizer.name={config.name!r}: {str(error).splitlines()[0]}"
    ) from error


def at_rates(
  opt_state: dict[str, PyTree], rates: Float[np.ndarray, "runs"], config
) -> dict[str, PyTree]:
  """Gives each run its own learning rate.

  Args:
    opt_state: by phase, `[runs, ...]`, of optimizers that `learning_rates`
      has made ready for it.
    rates: in place of the config's; phases and schedules keep their proportion
      to it.
    config: see `make_optimizer`.

  Returns:
    The states.
  """
  relative = np.float32(rates / config.learning_rate)
  return {
    phase: state._replace(
      hyperparams={**state.hyperparams, "relative": relative}
    )
    for phase, state in opt_state.items()
  }


def current_rate(state: PyTree) -> Float[Array, "*runs"]:
  """The learning rate of an optimizer's last step."""
  found = state.hyperparams
  if "relative" in found:
    return found["learning_rate"] * found["relative"]
  return found["learning_rate"]


def evaluated(params: dict, opt_state: dict[str, PyTree]) -> dict:
  """The parameters to predict with: those trained, or an average of them.

  Schedule-free optimizers (Defazio et al. 2024) take gradients at y, between
  the average x and the iterate z: y = b1 x + (1 - b1) z. Predictions are of x.

  Args:
    params: by top-level group; of one run, or of several, runs first.
    opt_state: by phase.

  Returns:
    Parameters of the same shapes.

  Raises:
    UserError: two phases average the same group, each its own way.
  """
  found = {}
  for phase, tree in opt_state.items():
    leaves = jax.tree.leaves(tree, is_leaf=is_schedule_free)
    for state in filter(is_schedule_free, leaves):
      twice = found.keys() & state.z.keys()
      if twice:
        raise UserError(
          f"config.optimizer.name: the phase {phase} and another both move "
          f"{', '.join(sorted(twice))}, and a schedule-free optimizer averages "
          "what one phase does: choose another optimizer for this system."
        )
      found |= {
        group: jax.tree.map(
          functools.partial(_average, state.b1), params[group], state.z[group]
        )
        for group in state.z
      }
  return params | found


def is_schedule_free(node) -> bool:
  """Whether a part of an optimizer's state holds averaged parameters."""
  return isinstance(node, optax.contrib.ScheduleFreeState)


def _average(
  b1: Float[Array, "*runs"], y: Float[Array, "..."], z: Float[Array, "..."]
) -> Float[Array, "..."]:
  """The x of y = b1 x + (1 - b1) z."""
  b1 = b1.reshape(b1.shape + (1,) * (y.ndim - b1.ndim))
  return (y - (1 - b1) * z) / b1
