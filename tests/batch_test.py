import jax.numpy as jnp
import numpy as np

from ser_jax.batch import valid_frames


def test_frames_within_their_utterances_are_valid():
  np.testing.assert_array_equal(
    valid_frames(jnp.array([3, 1, 0]), 3), [[1, 1, 1], [1, 0, 0], [0, 0, 0]]
  )
