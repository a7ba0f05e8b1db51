"""Masks, by hand."""

import jax.numpy as jnp
import numpy as np

from ser_jax.nn.masking import zero_padding


def test_by_hand():
  x = jnp.arange(1.0, 10.0).reshape(3, 3, 1)
  np.testing.assert_array_equal(
    zero_padding(x, jnp.array([3, 1, 0]))[..., 0],
    [[1, 2, 3], [4, 0, 0], [0, 0, 0]],
  )
