"""What trains on a CPU also lowers for accelerators that are not here."""

import pytest

from benchmarks import systems


@pytest.mark.parametrize("name", systems.SYSTEMS)
def test_steps_lower_for_accelerators(name):
  config = systems.as_on_accelerators(
    systems.make_config(
      name, parallel__data=2, batch_size=8, data__source="resident"
    )
  )
  bench = systems.Bench(systems.make_experiment(config, held=64))
  frames, item = next(bench.items())
  engine, item = bench.engine, bench.layout.place_item(item)
  for program, state in (
    (engine.train, bench.state),
    (engine.predict, bench.state.weights),
  ):
    arguments = (state, item, bench.statistics, engine.constants, frames)
    lowered = program.lower(*arguments, platforms=("cuda", "tpu"))
    text = lowered.as_text()
    assert "mhlo.num_partitions = 2" in text
    # Nothing calls a library that only one platform has.
    assert "lapack" not in text
    assert "cudnn" not in text
