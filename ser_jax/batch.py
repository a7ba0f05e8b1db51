"""The batch that data sources produce and that tasks and steps consume."""

import flax.struct
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Shaped


@flax.struct.dataclass
class Batch:
  """A batch of utterances, padded to static shapes.

  Filler examples (they round a batch up to its static size) have weight 0 and
  every length 0, so that masks built from the lengths leave them out too.

  Attributes:
    inputs: per input name, `[batch, time, dim]` frames or `[batch, dim]`
      functionals.
    lengths: per input name, the valid frames of each example; 0 for filler.
    targets: per target name, e.g. `emotion` (class index, `[batch]`).
    weight: 1 for an example, 0 for filler.
    speaker: speaker index within the corpus.
    index: position of the utterance within the shards.
  """

  inputs: dict[str, Shaped[Array, "batch ..."]]
  lengths: dict[str, Int[Array, "batch"]]
  targets: dict[str, Shaped[Array, "batch ..."]]
  weight: Float[Array, "batch"]
  speaker: Int[Array, "batch"]
  index: Int[Array, "batch"]


def valid_frames(
  lengths: Int[Array, "batch"], time: int
) -> Bool[Array, "batch time"]:
  """True where a frame lies within its utterance."""
  return jnp.arange(time)[None, :] < lengths[:, None]
