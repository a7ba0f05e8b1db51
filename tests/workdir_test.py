import json
import pathlib
import re
import subprocess

import pytest

from ser_jax import workdir
from ser_jax.errors import UserError
from ser_jax.evaluation import training_log

CONFIG = {"epochs": 3, "parallel": {"backend": "jit", "runs": "loop"}}


@pytest.fixture
def trained(tmp_path):
  """A workdir of which something has come."""
  with workdir.claim(tmp_path, CONFIG):
    workdir.keep_config(tmp_path, CONFIG)
    workdir.keep_data(tmp_path, {"digest": "a", "labels": "b"})
    (tmp_path / "metrics.jsonl").write_text("")
  return tmp_path


def test_the_same_config_resumes(tmp_path):
  with workdir.claim(tmp_path / "new", CONFIG):
    pass
  with workdir.claim(tmp_path / "new", CONFIG):
    pass
  found = json.loads((tmp_path / "new" / "environment.json").read_text())
  assert found["device_count"] == 8
  assert found["packages"]["jax"]


def test_an_environment_that_differs_comes_later(tmp_path, monkeypatch):
  path = tmp_path / "environment.json"
  for commit in ("one", "one", "two", "one", "two"):
    monkeypatch.setattr(workdir, "environment", lambda c=commit: {"commit": c})
    with workdir.claim(tmp_path, CONFIG):
      workdir.keep_config(tmp_path, CONFIG)
      (tmp_path / "metrics.jsonl").write_text("")
  found = json.loads(path.read_text())
  assert found == {"commit": "one", "later": [{"commit": "two"}]}


def test_a_commit_is_of_this_checkout_alone(tmp_path, monkeypatch):
  def git(*words):
    who = ("-c", "user.name=a", "-c", "user.email=a@b")
    subprocess.run(["git", *who, *words], cwd=tmp_path, check=True)

  installed = tmp_path / "site-packages"
  installed.mkdir()
  git("init", "-q")
  (tmp_path / "a.txt").write_text("1")
  git("add", "a.txt")
  git("commit", "-q", "-m", "one")
  assert re.fullmatch("[0-9a-f]{40}", workdir._commit(tmp_path))
  (tmp_path / "a.txt").write_text("2")
  assert workdir._commit(tmp_path).endswith("-dirty")
  assert workdir._commit(installed) == "not a git checkout"
  monkeypatch.setenv("PATH", "")
  assert workdir._commit(tmp_path) == "unknown: there is no git"


def test_another_config_is_refused_with_the_difference(trained):
  with pytest.raises(UserError, match="epochs: 3 there, 4 now"):
    workdir.claim(trained, CONFIG | {"epochs": 4})
  parallel = {"backend": "jit", "runs": "vmap"}
  with pytest.raises(UserError, match="parallel.runs: loop there, vmap now"):
    workdir.claim(trained, CONFIG | {"parallel": parallel})


def test_a_workdir_of_another_version_is_told_of_as_such(trained):
  with pytest.raises(UserError, match="of another version.*new: absent there"):
    workdir.claim(trained, CONFIG | {"new": 1})
  with pytest.raises(UserError, match="holds another experiment .*epochs: 3"):
    workdir.claim(trained, CONFIG | {"new": 1, "epochs": 4})


@pytest.mark.parametrize("result", workdir.RESULTS)
def test_what_came_to_nothing_binds_nobody(tmp_path, result):
  """Refused for a typo, say; what was trained binds."""
  for epochs in (3, 4):
    with workdir.claim(tmp_path, CONFIG | {"epochs": epochs}):
      workdir.keep_config(tmp_path, CONFIG | {"epochs": epochs})
      workdir.keep_data(tmp_path, {"digest": str(epochs)})
  (tmp_path / result).mkdir()
  with pytest.raises(UserError, match="epochs: 4 there, 3 now"):
    workdir.claim(tmp_path, CONFIG)
  with pytest.raises(UserError, match="their digest differ"):
    workdir.keep_data(tmp_path, {"digest": "3"})


@pytest.mark.parametrize("result", workdir.RESULTS)
def test_results_without_their_config_are_nobody_s(tmp_path, result):
  """Any config could claim them."""
  (tmp_path / result).mkdir()
  for ask in (
    lambda: workdir.claim(tmp_path, CONFIG),
    lambda: workdir.require(tmp_path),
  ):
    with pytest.raises(UserError, match="no config.json.*copy it back"):
      ask()
  assert not (tmp_path / "config.json").exists()
  with pytest.raises(UserError, match="no data.json.*copy it back"):
    workdir.keep_data(tmp_path, {"digest": "a"})
  assert not (tmp_path / "data.json").exists()


@pytest.mark.parametrize("content", ['{"epochs": ', "[]", ""])
@pytest.mark.parametrize("name", ["config", "environment", "data"])
def test_a_damaged_record_is_named(trained, name, content):
  (trained / f"{name}.json").write_text(content)
  with pytest.raises(UserError, match=f"{name}.json cannot be.*copy it back"):
    with workdir.claim(trained, CONFIG):
      workdir.keep_data(trained, {"digest": "a"})
  assert (trained / f"{name}.json").read_text() == content


def test_seeds_add_to_those_of_the_results(tmp_path):
  def kept():
    config = json.loads((tmp_path / "config.json").read_text())
    return [config["seeds"], *config.get("later", [])]

  for seeds in ((3,), (1, 0)):
    workdir.keep_config(tmp_path, CONFIG | {"seeds": seeds})
    assert kept() == [list(seeds)]
  (tmp_path / "runs").mkdir()
  added = CONFIG | {"seeds": (2, 0)}
  assert workdir.seeds(tmp_path, added["seeds"]) == [[1, 0], [2]]
  with workdir.claim(tmp_path, added):
    assert kept() == [[1, 0]]
  for seeds in ((2, 0), (1,), (4, 3, 2)):
    workdir.keep_config(tmp_path, CONFIG | {"seeds": seeds})
  assert kept() == [[1, 0], [2], [4, 3]]
  assert workdir.seeds(tmp_path, ()) == kept()
  with workdir.claim(tmp_path, CONFIG | {"seeds": (0,)}):
    assert kept() == [[1, 0], [2], [4, 3]]


def test_a_folder_of_no_training_is_refused(tmp_path):
  with pytest.raises(UserError, match="has no training: give the folder"):
    workdir.require(tmp_path / "typo")
  assert not (tmp_path / "typo").exists()


def test_other_devices_may_resume(trained):
  parallel = {"backend": "pmap", "runs": "loop"}
  with workdir.claim(trained, CONFIG | {"parallel": parallel}):
    pass


def test_what_is_told_of_steps_changes_no_result(trained):
  config = CONFIG | {"analysis": {"target": "v5e:2x4"}, "profile": {"skip": 9}}
  with workdir.claim(trained, config):
    pass


def test_shards_may_have_moved(trained):
  before = CONFIG | {"data": {"shards": "here"}}
  workdir.keep_config(trained, before)
  with workdir.claim(trained, CONFIG | {"data": {"shards": "there"}}):
    pass


def test_other_forms_may_resume(trained):
  for hoist in (True, False):
    model = {"model": {"on_accelerator": {"hoist": hoist}}}
    with workdir.claim(trained, CONFIG | model):
      pass


def test_other_data_is_refused_by_name(trained):
  workdir.keep_data(trained, {"digest": "a", "labels": "b"})
  with pytest.raises(UserError, match="their labels differ"):
    workdir.keep_data(trained, {"digest": "a", "labels": "c"})


def test_a_workdir_in_use_is_refused(tmp_path):
  with workdir.claim(tmp_path, CONFIG):
    with pytest.raises(UserError, match="in use by another process"):
      workdir.claim(tmp_path, CONFIG)


def test_a_workdir_that_cannot_be_made_is_refused(tmp_path):
  (tmp_path / "file").write_text("")
  with pytest.raises(UserError, match="cannot be written"):
    workdir.claim(tmp_path / "file" / "folder", CONFIG)


def test_the_log_rewinds_one_run(tmp_path):
  log = workdir.MetricsLog(tmp_path)
  for fold in "ab":
    for epoch in range(3):
      log.append({"fold": fold, "seed": 0, "stage": "train", "epoch": epoch})
  with open(tmp_path / "metrics.jsonl", "a") as file:
    file.write('{"fold": "a", "se')  # cut short by a kill
  log.rewind({("a", 0, None)}, "train", 1)
  lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
  found = [(line["fold"], line["epoch"]) for line in map(json.loads, lines)]
  assert found == [("a", 0), ("b", 0), ("b", 1), ("b", 2)]


@pytest.mark.parametrize("odd", ["3", "{", "\x00"])
def test_a_damaged_log_is_named(tmp_path, odd):
  log = workdir.MetricsLog(tmp_path)
  text = f"{odd}\n" + '{"fold": "a", "seed": 0, "stage": "x", "epoch": 0}\n'
  (tmp_path / "metrics.jsonl").write_text(text)
  with pytest.raises(UserError, match="line 1 of .*metrics.jsonl.*delete it"):
    log.rewind({("a", 0, None)}, "x", 0)
  with pytest.raises(UserError, match="line 1 of .*metrics.jsonl.*delete it"):
    training_log.read(tmp_path)
  assert (tmp_path / "metrics.jsonl").read_text() == text


def test_a_log_on_a_full_disk_is_named():
  log = workdir.MetricsLog(pathlib.Path())
  log._path = pathlib.Path("/dev/full")
  with pytest.raises(OSError, match="No space left on device: '/dev/full'"):
    log.append({"fold": "a"})
