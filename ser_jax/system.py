"""A config's model and task -> what every run trains."""

import dataclasses
import itertools

import optax

from ser_jax.errors import UserError
from ser_jax.models.table import MODELS
from ser_jax.tasks.table import TASKS
from ser_jax.tasks.task import Stage
from ser_jax.train import precision
from ser_jax.train.compile import Layout
from ser_jax.train.devices import device_kind
from ser_jax.train.optimizers import make_optimizer
from ser_jax.train.sharing import require_elementwise, sharing

KINDS = ("cpu", "accelerator")  # what `device_kind` may say


def make_model(config, kind: str | None = None, **sizes: int | str | None):
  """The model that a config names, with its options for a kind of devices.

  Args:
    config: the whole config.
    kind: one of `KINDS`; None for that of these devices.
    **sizes: what the data and the devices decide; a model takes those that it
      has a field for.

  Returns:
    The module.

  Raises:
    UserError: an option that the model does not have, on any kind of devices.
  """
  sections = {each: f"on_{each}" for each in KINDS}
  apart = ("name", *sections.values())
  options = {k: v for k, v in config.model.items() if k not in apart}
  build = MODELS[config.model.name]
  fields = build.__dataclass_fields__
  # Contours are named where classes are.
  sizes["targets"] = sizes.get("classes")
  sizes = {name: size for name, size in sizes.items() if name in fields}
  models = {}
  for each, section in sections.items():
    computed = dict(config.model.get(section, {}))
    try:
      models[each] = build(**sizes, **options | computed)
    except (TypeError, ValueError) as error:
      where = f"config.model with {section}" if computed else "config.model"
      raise UserError(f"{where}: {error}.") from error
  return models[kind or device_kind()]


def make_stages(
  config,
  layout: Layout,
  *,
  classes: int,
  speakers: int,
  steps: int | None,
  kind: str | None = None,
) -> tuple[Stage, ...]:
  """What every run trains, in order.

  Args:
    config: the whole config.
    layout: where it runs.
    classes: of the scores.
    speakers: that a speaker head tells apart.
    steps: in an epoch; None for stages that predict, and have no optimizer.
    kind: of devices, see `make_model`; None for that of the layout's.

  Returns:
    The stages.

  Raises:
    UserError: options that the model or the task does not have.
  """
  model = make_model(
    config,
    kind or device_kind(layout.platform),
    classes=classes,
    speakers=speakers,
    axis_name=layout.axis_name,
  )

  def optimizer(epochs: int, factor: float = 1.0):
    if steps is None:
      return optax.with_extra_args_support(optax.identity())
    tx = make_optimizer(
      config.optimizer, epochs=epochs, steps_per_epoch=steps, factor=factor
    )
    if config.parallel.optimizer_state == "replicated":
      return tx
    require_elementwise(tx)
    return sharing(tx, layout.axis_name)

  stages = TASKS[config.task.name](model, config, optimizer)
  for phase in itertools.chain(*(stage.task.phases for stage in stages)):
    if config.accumulate > 1 and not phase.additive:
      raise UserError(
        f"config.accumulate={config.accumulate}: the loss of the phase "
        f"{phase.name} is of a batch as a whole, and parts of it do not add "
        "up: set it to 1, or choose another loss (config.task)."
      )
  return tuple(
    dataclasses.replace(
      stage,
      task=precision.in_precision(
        stage.task, config.precision, layout.platform
      ),
    )
    for stage in stages
  )
