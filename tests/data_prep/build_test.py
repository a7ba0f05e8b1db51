"""The build as a user runs it: progress, kills, bad audio, damaged shards."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import soundfile

from data_prep import extract, write_shards
from ser_jax.data.shards import open_shards
from ser_jax.errors import UserError
from ser_jax.features import audio
from ser_jax.features.sets import FEATURE_SETS

ROOT = pathlib.Path(__file__).resolve().parents[2]


def command(raw, out, *more):
  return [
    *(sys.executable, "-m", "data_prep.build", "--corpus=emodb"),
    *(f"--raw={raw}", f"--out={out}", "--features=ds_lstm"),
    *("--allow-partial", "--workers=0", *more),
  ]


def build(raw, out, *more):
  return subprocess.run(
    command(raw, out, *more), cwd=ROOT, capture_output=True, text=True
  )


@pytest.fixture(scope="module")
def few(corpora, tmp_path_factory):
  """The first twelve recordings of Emo-DB."""
  raw = tmp_path_factory.mktemp("few")
  for path in sorted((corpora / "emodb").glob("*.flac"))[:12]:
    shutil.copy(path, raw / path.name)
  return raw


@pytest.fixture(scope="module")
def built(few, tmp_path_factory):
  out = tmp_path_factory.mktemp("built") / "emodb"
  done = build(few, out)
  assert done.returncode == 0, done.stderr
  return out


def test_what_is_built_can_be_read(built, few):
  shards = open_shards(built)
  assert len(shards) == 12
  assert shards.table.ids.tolist() == sorted(p.stem for p in few.iterdir())
  assert set(shards.table.speakers) == {"03"}
  for name in ("corpus", "features", "recipe", "digest", "versions", "counts"):
    assert shards.metadata[name], name
  record = shards.read(3)
  for name, dim in (("mfcc", 39), ("s1", 64), ("s2", 128)):
    assert record[name].shape == (shards.table.frames[name][3], dim)
    assert record[name].dtype == np.float32
    assert np.isfinite(record[name]).all()


def test_a_flag_amiss_is_one_line(few, tmp_path):
  done = build(few, tmp_path, "--features=mfcc")
  assert done.returncode == 2
  (line,) = done.stderr.strip().splitlines()
  assert line.startswith("error: flag --features=mfcc: value should be one of")


def test_building_again_says_that_it_is_there(built, few):
  before = sorted((p.name, p.stat().st_mtime_ns) for p in built.iterdir())
  done = build(few, built)
  assert done.returncode == 0
  assert "already" in done.stdout
  after = sorted((p.name, p.stat().st_mtime_ns) for p in built.iterdir())
  assert before == after


def test_another_recipe_in_the_same_folder_is_refused(built, few):
  done = subprocess.run(
    [*command(few, built)[:-2], "--allow-partial", "--features=ds_lstm_code"],
    cwd=ROOT,
    capture_output=True,
    text=True,
  )
  assert done.returncode == 2
  assert "--overwrite" in done.stderr
  assert "Traceback" not in done.stderr
  assert open_shards(built).metadata["features"] == "ds_lstm"


def test_a_killed_build_resumes_to_the_same_records(built, few, tmp_path):
  out = tmp_path / "emodb"
  process = subprocess.Popen(command(few, out), cwd=ROOT)
  cache = tmp_path / "emodb.partial" / "cache"
  deadline = time.monotonic() + 60
  while time.monotonic() < deadline and process.poll() is None:
    if cache.exists() and len(list(cache.glob("*.npz"))) >= 2:
      break
    time.sleep(0.002)
  process.send_signal(signal.SIGKILL)
  process.wait()
  with pytest.raises(UserError):
    open_shards(out)
  assert build(few, out).returncode == 0
  one, two = open_shards(built), open_shards(out)
  for index in range(len(one)):
    a, b = one.read(index), two.read(index)
    for name in a:
      np.testing.assert_array_equal(a[name], b[name])


@pytest.mark.parametrize("damage", ["truncated", "silent", "text"])
def test_bad_audio_is_named_or_skipped(few, tmp_path, damage):
  raw = tmp_path / "raw"
  shutil.copytree(few, raw)
  bad = sorted(raw.iterdir())[5]
  if damage == "truncated":
    bad.write_bytes(bad.read_bytes()[:3000])
  elif damage == "silent":
    soundfile.write(bad, np.zeros(16000), 16000)
  else:
    bad.write_text("not audio")
  done = build(raw, tmp_path / "out")
  assert done.returncode == 2
  assert bad.name in done.stderr
  assert "--skip-bad" in done.stderr
  assert "Traceback" not in done.stderr
  assert not (tmp_path / "out").exists()
  done = build(raw, tmp_path / "out", "--skip-bad")
  assert done.returncode == 0, done.stderr
  assert bad.stem in done.stdout
  shards = open_shards(tmp_path / "out")
  assert len(shards) == 11
  assert bad.stem in shards.metadata["skipped"]


@pytest.mark.parametrize("damage", ["silent", "text"])
def test_bad_recordings_are_all_named_and_the_others_kept(
  few, tmp_path, damage
):
  raw = tmp_path / "raw"
  shutil.copytree(few, raw)
  bad = sorted(raw.iterdir())[2:11:4]
  for path in bad:
    if damage == "silent":
      soundfile.write(path, np.zeros(16000), 16000)
    else:
      path.write_text("not audio")
  done = build(raw, tmp_path / "out")
  assert done.returncode == 2
  assert all(path.name in done.stderr for path in bad)
  kept = list((tmp_path / "out.partial" / "cache").glob("*.npz"))
  assert len(kept) == (9 if damage == "silent" else 0)
  for path in bad:
    shutil.copy(few / path.name, path)
  assert build(raw, tmp_path / "out").returncode == 0
  assert len(open_shards(tmp_path / "out")) == 12


def test_a_corpus_of_which_nothing_is_left_says_why(tmp_path):
  raw = tmp_path / "raw"
  raw.mkdir()
  for name in ("03a01Fa.wav", "03a01Nc.wav"):
    soundfile.write(raw / name, np.zeros(16000), 16000)
  done = build(raw, tmp_path / "out", "--skip-bad")
  assert done.returncode == 2
  assert "no recording of emodb can be used" in done.stderr
  assert "03a01Fa.wav" in done.stderr
  assert "Traceback" not in done.stderr


def test_a_corpus_without_recordings_has_a_remedy(tmp_path):
  with pytest.raises(UserError, match="of emodb can be used: --raw has none;"):
    write_shards.write_shards(
      [], "emodb", "ds_lstm", tmp_path / "out", workers=0
    )


def test_what_writes_records_is_told_and_leaves_the_cache_as_it_is(built):
  writers = set(extract.WRITERS)
  assert not writers & set(extract.versions())
  assert writers <= set(open_shards(built).metadata["versions"])


def test_recordings_that_changed_places_are_other_shards(built, few, tmp_path):
  raw, out = tmp_path / "raw", tmp_path / "emodb"
  shutil.copytree(few, raw)
  shutil.copytree(built, out)
  assert build(raw, out).returncode == 0
  one, other = sorted(raw.iterdir())[:2]
  first, second = one.read_bytes(), other.read_bytes()
  one.write_bytes(second)
  other.write_bytes(first)
  done = build(raw, out)
  assert done.returncode == 2
  assert "digest is" in done.stderr and "--overwrite" in done.stderr


def test_what_is_skipped_is_padded_to_and_told(few, tmp_path):
  """Others can be made again as they are in the shards."""
  raw, out = tmp_path / "raw", tmp_path / "out"
  shutil.copytree(few, raw)
  bad, good = sorted(raw.iterdir())[:2]
  soundfile.write(bad, np.zeros(160000), 16000)
  done = build(raw, out, "--features=dat_mfcc", "--skip-bad")
  assert done.returncode == 0, done.stderr
  shards = open_shards(out)
  assert shards.metadata["pad_to"] == 160000
  assert shards.table.duration.max() < 10
  again = FEATURE_SETS["dat_mfcc"].extract(
    *audio.load(good), pad_to=shards.metadata["pad_to"]
  )
  np.testing.assert_array_equal(again["features"], shards.read(0)["features"])


@pytest.mark.parametrize("damage", ["cut", "missing", "metadata"])
def test_damaged_shards_are_named(built, tmp_path, damage):
  folder = tmp_path / "emodb"
  shutil.copytree(built, folder)
  record = next(folder.glob("*.array_record*"))
  if damage == "cut":
    record.write_bytes(record.read_bytes()[:-2000])
  elif damage == "missing":
    record.unlink()
  else:
    path = folder / "metadata.json"
    path.write_text(path.read_text()[:200])
  with pytest.raises(UserError, match=str(folder)):
    shards = open_shards(folder)
    for index in range(len(shards)):
      shards.read(index)


def test_a_missing_folder_is_named(tmp_path):
  with pytest.raises(UserError, match="nothing"):
    open_shards(tmp_path / "nothing")


def test_reading_imports_no_tensorflow(built):
  code = (
    "import sys; from ser_jax.data.shards import open_shards\n"
    f"open_shards({str(built)!r}).read(0)\n"
    "bad = {'tensorflow', 'tensorflow_datasets'} & set(sys.modules)\n"
    "sys.exit(str(bad) if bad else 0)"
  )
  subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_throughput_and_counts_are_in_the_metadata(built):
  metadata = json.loads((built / "metadata.json").read_text())
  metadata = metadata.get("metadata", metadata)
  assert metadata["counts"]["utterances"] == 12
  assert metadata["throughput"]["utterances_per_second"] > 0


@pytest.mark.parametrize(
  ("flags", "message"),
  [
    (["--corpus=emodp"], "emodb"),
    (["--features=mfcc13"], "ds_lstm"),
    (["--raw=/does/not/exist"], "does/not/exist"),
  ],
)
def test_wrong_flags_are_explained(few, tmp_path, flags, message):
  done = build(few, tmp_path / "out", *flags)
  assert done.returncode != 0
  assert message in done.stdout + done.stderr
  assert not (tmp_path / "out").exists()


@pytest.mark.skipif(
  not hasattr(os, "sched_setaffinity"), reason="needs affinity (Linux)"
)
def test_one_worker_where_one_core_may_be_used():
  code = (
    "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
    "import data_prep.build; from absl import flags\n"
    "assert flags.FLAGS['workers'].default == 1"
  )
  subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
