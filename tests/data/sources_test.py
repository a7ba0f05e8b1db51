"""Statistics, preparation, and the two data sources side by side."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ser_jax.data import order, statistics
from ser_jax.data.examples import Examples
from ser_jax.data.prepare import prepare, resample_nearest
from ser_jax.data.protocols import Fold
from ser_jax.data.resident import Resident
from ser_jax.data.stream import Stream
from ser_jax.errors import UserError
from tests import fakes

BUCKETS = {
  "frames": fakes.input_config(buckets=(8, 14)),
  "spectrum": fakes.input_config(resample=True, standardize=False),
}


@pytest.fixture
def shards():
  return fakes.FakeShards()


def folds(shards):
  half = len(shards) // 2
  indices = np.arange(len(shards))
  return (
    Fold("one", indices[:half], indices[half:-4], indices[-4:]),
    Fold("two", indices[half:], indices[4:half], indices[:4]),
  )


def examples_of(shards, config=None):
  keep = np.arange(len(shards))
  labels = np.array(
    [fakes.EMOTIONS.index(e) for e in shards.table.emotions], np.int32
  )
  config = config or fakes.data_config()
  plans = statistics.make_plans(shards, config, folds(shards), keep)
  _, speakers = np.unique(shards.table.speakers, return_inverse=True)
  return Examples(
    shards, plans, {"emotion": labels}, speakers.astype(np.int32), keep
  )


def prepared(source, fed, frames, run, found, plans):
  """One run's batch, as the compiled step makes it."""

  @jax.jit
  def make(constants, item, found):
    return prepare(source.gather(constants, item, frames), found, plans)

  return make(source.constants, jax.tree.map(lambda x: x[run], fed), found)


def rows_of(count, steps=3, size=8, runs=2):
  parts = [
    order.training_rows(
      np.arange(count), seed=seed, epoch=0, steps=steps, batch_size=size
    )
    for seed in range(runs)
  ]
  return [
    (
      np.stack([index[step] for index, _ in parts]),
      np.stack([weight[step] for _, weight in parts]),
    )
    for step in range(steps)
  ]


def test_statistics_are_of_the_training_part(shards):
  fold = folds(shards)[0]
  plans = examples_of(shards).plans
  found = statistics.fold_statistics(shards, plans, fold)
  frames = np.concatenate([shards.read(i)["frames"] for i in fold.train])
  np.testing.assert_allclose(found.mean["frames"], frames.mean(0), rtol=1e-5)
  np.testing.assert_allclose(
    found.deviation["frames"], frames.std(0), rtol=1e-5
  )
  lengths = shards.table.frames["spectrum"][fold.train]
  assert found.median["spectrum"] == np.sort(lengths)[(len(lengths) - 1) // 2]


def test_all_folds_share_the_longest_median(shards):
  plan = examples_of(shards).plans["spectrum"]
  medians = [
    statistics.median_frames(shards.table.frames["spectrum"], fold.train)
    for fold in folds(shards)
  ]
  assert plan.frames == max(medians)


def test_nearest_interpolation_by_hand():
  x = jnp.arange(5, dtype=jnp.float32).reshape(1, 5, 1)
  shrunk = resample_nearest(x, jnp.array([5]), jnp.int32(3), 4)
  assert shrunk[0, :3, 0].tolist() == [0, 1, 3]
  grown = resample_nearest(x, jnp.array([2]), jnp.int32(4), 4)
  assert grown[0, :, 0].tolist() == [0, 0, 1, 1]


def test_resident_holds_no_padding(shards):
  """Frames of all, and room for a batch behind them; cut out, zeros follow."""
  examples = examples_of(shards)
  source = Resident(examples, fakes.whole)
  for name, plan in examples.plans.items():
    total = int(shards.table.frames[name].sum())
    assert len(source.constants["inputs"][name]) == total + plan.stored
  seen = set()
  for frames, item in source.items(rows_of(len(shards), steps=6, runs=1)):
    position, weight = (x[0] for x in item)
    batch = source.gather(source.constants, (position, weight), frames)
    index = np.asarray(batch.index)
    seen.update(index[weight > 0].tolist())
    for name, values in examples.load(index, weight, frames).items():
      np.testing.assert_array_equal(
        batch.inputs[name][weight > 0], values[weight > 0]
      )
  assert seen == set(range(len(shards)))


@pytest.mark.parametrize("inputs", [fakes.data_config().inputs, BUCKETS])
def test_stream_equals_resident(shards, inputs):
  examples = examples_of(shards, fakes.data_config(inputs=inputs))
  fold = folds(shards)[0]
  found = statistics.fold_statistics(shards, examples.plans, fold)
  resident, stream = (
    Resident(examples, fakes.whole),
    Stream(examples, fakes.whole),
  )
  pairs = list(
    zip(
      resident.items(rows_of(21)), stream.items(iter(rows_of(21))), strict=True
    )
  )
  assert len(pairs) == 3
  for (frames, item), (other_frames, other) in pairs:
    assert frames == other_frames
    for run in range(2):
      batches = [
        prepared(source, fed, frames, run, found, examples.plans)
        for source, fed in ((resident, item), (stream, other))
      ]
      for one, two in zip(*map(jax.tree.leaves, batches), strict=True):
        weight = np.asarray(batches[0].weight) > 0
        np.testing.assert_array_equal(
          np.asarray(one)[weight], np.asarray(two)[weight]
        )
      assert np.asarray(batches[0].lengths["frames"])[~weight].sum() == 0
      assert np.asarray(batches[1].lengths["spectrum"])[~weight].sum() == 0


def test_a_stream_begins_anew_each_time(shards):
  """Its pipeline is kept; what is read ahead of one that is left is dropped."""
  examples = examples_of(shards)
  stream = Stream(examples, fakes.whole)
  whole = rows_of(21)
  wanted = [batch.index for _, batch in stream.items(whole)]
  left = stream.items(whole)
  next(left)
  for rows in (whole, whole[::-1], whole[:1]):
    found = [batch.index for _, batch in stream.items(rows)]
    places = [next(i for i, r in enumerate(whole) if r is row) for row in rows]
    np.testing.assert_array_equal(found, [wanted[i] for i in places])
  np.testing.assert_array_equal(next(left)[1].index, wanted[1])
  assert len(stream._pipelines) == 1


def test_a_damaged_record_is_told_as_it_is(shards, monkeypatch, capfd):
  """Though TensorFlow reads it; fillers of that position are not read."""
  examples, read = examples_of(shards), shards.read

  def broken(index):
    if index == 7:
      raise UserError("the file of 7 is damaged")
    return read(index)

  monkeypatch.setattr(shards, "read", broken)
  index, weight = np.arange(8)[None], np.ones((1, 8), np.float32)
  with pytest.raises(UserError, match="^the file of 7 is damaged$"):
    list(Stream(examples, fakes.whole).items([(index, weight)]))
  assert "Traceback" not in capfd.readouterr().err
  weight[0, 7] = 0.0
  assert len(list(Stream(examples, fakes.whole).items([(index, weight)]))) == 1


def test_buckets_hold_the_longest_utterance(shards):
  examples = examples_of(shards, fakes.data_config(inputs=BUCKETS))
  sizes = set()
  for frames, item in Resident(examples, fakes.whole).items(rows_of(21)):
    longest = examples.lengths("frames")[item[0][item[1] > 0]].max()
    assert dict(frames)["frames"] >= longest
    assert dict(frames)["frames"] in examples.plans["frames"].buckets
    sizes.add(dict(frames)["frames"])
  assert sizes <= {8, 14, examples.plans["frames"].stored}


@pytest.mark.parametrize("axis", [0, 1])
def test_processes_share_a_batch(shards, axis):
  """By runs or by examples: each has the half of what one alone has."""
  examples = examples_of(shards)
  rows = rows_of(21)
  for source in (Resident, Stream):
    whole, left, right = (
      list(source(examples, share).items(iter(rows)))
      for share in (
        lambda row: row,
        lambda row: tuple(np.split(x, 2, axis)[0] for x in row),
        lambda row: tuple(np.split(x, 2, axis)[1] for x in row),
      )
    )
    for (frames, one), *halves in zip(whole, left, right, strict=True):
      assert all(shape == frames for shape, _ in halves)
      both = jax.tree.map(
        lambda *x: np.concatenate(x, axis), *[half for _, half in halves]
      )
      jax.tree.map(np.testing.assert_array_equal, one, both)


def test_standardised_frames_have_unit_moments(shards):
  examples = examples_of(shards)
  fold = folds(shards)[0]
  found = statistics.fold_statistics(shards, examples.plans, fold)
  resident = Resident(examples, fakes.whole)
  row = (fold.train[None], np.ones((1, len(fold.train)), np.float32))
  frames, item = next(resident.items([row]))
  batch = prepared(resident, item, frames, 0, found, examples.plans)
  x, length = np.asarray(batch.inputs["frames"]), batch.lengths["frames"]
  valid = np.concatenate([f[:n] for f, n in zip(x, length, strict=True)])
  np.testing.assert_allclose(valid.mean(0), 0, atol=1e-5)
  np.testing.assert_allclose(valid.std(0), 1, atol=1e-4)
  assert all((f[n:] == 0).all() for f, n in zip(x, length, strict=True))


def test_an_input_that_the_shards_lack_is_named(shards):
  inputs = {"mfcc": fakes.input_config()}
  with pytest.raises(UserError, match="'mfcc'"):
    examples_of(shards, fakes.data_config(inputs=inputs))
