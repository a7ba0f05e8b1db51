"""--config and the fields that a command line overrides, before they count.

    arguments -> a file that is there, fields that it has -> values that go

What is wrong is told in one line, with the nearest name.
"""

import difflib
import pathlib
import re
import runpy
from collections.abc import Iterator, Sequence

from absl import flags
from ml_collections import ConfigDict

from ser_jax.errors import UserError

FLAG = "config"
CONFIGS = pathlib.Path(__file__).parents[1] / "configs"
NOT_CONFIGS = ("__init__", "common")


def check_names(arguments: Sequence[str]) -> None:
  """Refuses a config file that is not there, and fields that it has not.

  Args:
    arguments: of the command line, its flag files read.

  Raises:
    UserError: there is such a one, or a file or words that are no config, or
      one number for all seeds.
  """
  given = _given(arguments)
  if given is None:
    return
  config = _read(given)
  for field in _overridden(arguments):
    if _at(config, field) is None:
      near = [f"--{FLAG}.{name}" for name in _nearest(field, config)]
      meant = f"; did you mean {', '.join(near)}?" if near else "."
      raise UserError(
        f"--{FLAG}.{field}: the config has no such field{meant} Its fields are "
        f"those of configs/common.py and of {given.partition(':')[0]}."
      )
    if isinstance(section := _at(config, field), ConfigDict):
      raise UserError(
        f"--{FLAG}.{field} is a section: give its fields one by one, such as "
        f"--{FLAG}.{field}.{next(iter(section), 'NAME')}=VALUE."
      )
  _check_seeds(arguments)


def check_values(flag: flags.Flag) -> None:
  """Refuses overrides that would fail late, or not at all.

  Args:
    flag: `--config`, parsed.

  Raises:
    UserError: text among numbers, or a corpus without all that goes with it.
  """
  if flag.value is None:
    return
  changed = flag.override_values
  if "data.corpus" in changed and "protocol.name" not in changed:
    _check_corpus(flag.config_filename, changed["data.corpus"])


def _check_seeds(arguments: Sequence[str]) -> None:
  """Refuses what may be meant as a seed or as how many."""
  for argument in arguments:
    if found := re.fullmatch(rf"--?{FLAG}\.seeds=(\d+)", argument):
      raise UserError(
        f"{argument} may be one seed or so many: give all of them, "
        f"--{FLAG}.seeds='(0,1,2)' for three, '({found[1]},)' for that one."
      )


def _check_corpus(given: str, corpus: str) -> None:
  """Refuses a corpus with the protocol and the recipe of another."""
  usual = _read(given).data.corpus
  if corpus == usual:
    return
  file, _, words = given.partition(":")
  kept = [word for word in words.split(",") if word not in ("", usual)]
  raise UserError(
    f"--{FLAG}.data.corpus={corpus} changes the corpus alone: protocol, "
    f"classes and recipe stay those of {usual}. Name the corpus as a word, "
    f"--{FLAG}={file}:{','.join([*kept, corpus])}; where the config has no "
    f"such word, give --{FLAG}.protocol.name, too."
  )


def _given(arguments: Sequence[str]) -> str | None:
  """The config file with its words, as it is given last."""
  found = None
  for number, argument in enumerate(arguments):
    name, equals, value = argument.partition("=")
    if name in (f"-{FLAG}", f"--{FLAG}"):
      found = value if equals else "".join(arguments[number + 1 : number + 2])
  return found


def _overridden(arguments: Sequence[str]) -> Iterator[str]:
  """Names of the fields that arguments set."""
  for argument in arguments:
    if found := re.match(rf"--?(?:no)?{FLAG}\.([^=]+)", argument):
      yield found[1]


def _read(given: str) -> ConfigDict:
  """The config, nothing overridden.

  Raises:
    UserError: no such file, one that is no config, or unknown words.
  """
  file, colon, words = given.partition(":")
  if not pathlib.Path(file).is_file():
    raise UserError(
      f"--{FLAG}={file} is no file (its path starts at the current directory, "
      f"{pathlib.Path.cwd()}): {_choice()}."
    )
  try:
    make = runpy.run_path(file).get("get_config")
    if not callable(make):
      raise ImportError("it has none")
  except (ImportError, SyntaxError) as error:
    raise UserError(
      f"--{FLAG}={file} is no config with a function get_config ({error}): "
      f"{_choice()}."
    ) from error
  try:
    return make(words) if colon else make()
  except ValueError as error:
    raise UserError(str(error)) from error


def _choice() -> str:
  """The configs that there are, from where we are."""
  folder, here = CONFIGS, pathlib.Path.cwd()
  if folder.is_relative_to(here):
    folder = folder.relative_to(here)
  files = (p for p in CONFIGS.glob("*.py") if p.stem not in NOT_CONFIGS)
  return f"give one of {folder}/: {', '.join(sorted(p.name for p in files))}"


def _at(config: ConfigDict, field: str):
  """A config's field, which may be told with an index; None without one."""
  node = config
  for name in field.partition("[")[0].split("."):
    if not isinstance(node, ConfigDict) or name not in node:
      return None
    node = node[name]
  return node


def _names(config: ConfigDict, prefix: str = "") -> Iterator[str]:
  """Names of all sections and fields."""
  for name, value in config.items():
    yield prefix + name
    if isinstance(value, ConfigDict):
      yield from _names(value, f"{prefix}{name}.")


def _nearest(field: str, config: ConfigDict) -> list[str]:
  """Up to three fields of the same last name or, if none has, of a like one."""
  names = list(_names(config))
  last = {name: name.rpartition(".")[2] for name in names}
  wanted = field.rpartition(".")[2]
  like = difflib.get_close_matches(wanted, set(last.values()), n=3)
  if wanted in like:
    like = [wanted]
  fits = [name for name in names if last[name] in like]

  def likeness(name: str) -> tuple[int, float]:
    whole = difflib.SequenceMatcher(None, field, name).ratio()
    return like.index(last[name]), -whole

  return sorted(fits, key=likeness)[:3]
