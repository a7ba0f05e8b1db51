"""Programs that are read are fused as those of trainings are."""

import jax
import pytest

from tests.compiling import AS_TRAININGS


@pytest.fixture(scope="module", autouse=True)
def fused_as_in_trainings():
  """In place of the whole suite's flags, which save time in compiling."""
  compile_quickly = jax.stages.Lowered.compile

  def compile_fused(lowered, compiler_options=None):
    return compile_quickly(lowered, AS_TRAININGS | (compiler_options or {}))

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(jax.stages.Lowered, "compile", compile_fused)
    yield
