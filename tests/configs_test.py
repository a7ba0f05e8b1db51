"""Every word of every config makes a config that the package accepts."""

import itertools

import pytest

from configs import aae, adieu, common, dat, dcaen, ds_lstm
from ser_jax import experiment, system
from ser_jax.errors import UserError

DS_LSTM_WORDS = [
  *ds_lstm.PAPER,
  *itertools.starmap(
    "{},{}".format,
    itertools.product(
      ds_lstm.WITH_CELL, itertools.chain(*ds_lstm.ABLATIONS.values())
    ),
  ),
  *(f"dual,{corpus}" for corpus in common.CORPORA),
  "dual,code",
  "dual,code,iemocap",
  "base4,code,random",
]


@pytest.mark.parametrize("words", DS_LSTM_WORDS)
def test_ds_lstm_words(words):
  experiment.check(ds_lstm.get_config(words))


def test_each_word_changes_the_config():
  plain = ds_lstm.get_config("dual").to_json()
  for words in DS_LSTM_WORDS:
    if words not in ("dual", "dual,synthetic"):
      assert ds_lstm.get_config(words).to_json() != plain, words


@pytest.mark.parametrize(
  "make",
  [
    *(module.get_config for module in (aae, adieu, dat, dcaen, ds_lstm)),
    lambda: dat.get_config("best"),
    lambda: dat.get_config("best,by_speaker,emodb"),
    lambda: aae.get_config("fr_aae"),
    lambda: adieu.get_config("blstm_compare"),
  ],
)
def test_no_section_stands_in_two_places(make):
  """Whoever overrides a field changes that one alone."""
  sections = []

  def walk(section):
    for value in section.values():
      if isinstance(value, common.ConfigDict):
        sections.append(value)
        walk(value)

  walk(make())
  assert len({id(section) for section in sections}) == len(sections)


@pytest.mark.parametrize("kind", ["cpu", "accelerator"])
@pytest.mark.parametrize(
  "config",
  [
    ds_lstm.get_config("dual"),
    dat.get_config("depth1"),
    dcaen.get_config("dcaen"),
    adieu.get_config("literal500"),
  ],
  ids=lambda config: config.system,
)
def test_a_model_is_computed_as_its_devices_want(monkeypatch, config, kind):
  monkeypatch.setattr(system, "device_kind", lambda: kind)
  model = system.make_model(config, classes=4)
  chosen = config.model[f"on_{kind}"]
  assert (model.forms, model.hoist) == (chosen.forms, chosen.hoist)
  assert model.unroll == chosen.get("unroll", 1)
  assert config.model.on_cpu.forms != config.model.on_accelerator.forms


def test_an_input_is_overridden_alone():
  config = dat.get_config("best")
  config.data.inputs.is13.clip = 1.0
  assert config.data.inputs.is10.clip == 5.0


@pytest.mark.parametrize("row", ds_lstm.WITH_CELL)
@pytest.mark.parametrize("preset", ["paper", "code"])
def test_what_the_paper_does_not_have_is_beside_no_published_figure(
  row, preset
):
  assert (
    ds_lstm.get_config(f"{row},{preset}").paper.uar == (ds_lstm.PAPER[row][2])
  )
  for ablation in ("no_rbn", "pre_rbn", "no_output_bn", "shared_output_bn"):
    assert not ds_lstm.get_config(f"{row},{preset},{ablation}").paper


@pytest.mark.parametrize(
  ("words", "message"),
  [
    ("dule", "unknown word 'dule': did you mean dual"),
    ("base1,base2", "two of one kind"),
    ("dual,no_rbn,pre_rbn", "two of one kind"),
    ("base5,no_rbn", "base5 has none"),
    ("dual,iemocup", "iemocap"),
  ],
)
def test_unknown_words_are_refused(words, message):
  with pytest.raises(ValueError, match=message):
    ds_lstm.get_config(words)


@pytest.mark.parametrize(
  ("field", "value", "message"),
  [
    ("model.name", "dslstm", "did you mean ds_lstm"),
    ("task.name", "classification", "did you mean classify"),
    ("optimizer.name", "adamm", "did you mean adam"),
    ("batch_size", 0, "at least 1"),
    ("epochs", 0, "at least 1"),
    ("seeds", (), "empty"),
    ("seeds", (0, 1, 0), "has a seed twice"),
    ("seeds", (0, -1), "must be at least 0"),
    ("selection.metric", "f1", "neither uar nor wa"),
    ("model.rbn", "both", "rbn"),
    ("model.variant", "base7", "base7"),
  ],
)
def test_values_that_do_not_exist_are_refused(field, value, message):
  config = ds_lstm.get_config()
  *path, last = field.split(".")
  section = config
  for name in path:
    section = section[name]
  section[last] = value
  with pytest.raises(UserError, match=message):
    experiment.check(config)
