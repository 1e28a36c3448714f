"""Everything that training changes, as one pytree."""

import dataclasses

import jax
import optax
from jaxtyping import Array, Int, Key

from bert_jax.types import Parameters


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
  """What a checkpoint holds and a train step maps to its successor.

  Attributes:
    step: optimizer updates done so far; int32 scalar.
    params: the model's parameters.
    optimizer_state: the state of the optax transformation.
    key: typed PRNG key, the same for the whole run; the randomness of a step
      comes from `jax.random.fold_in(key, step)`, so a resumed run draws what
      the uninterrupted one would have drawn.
  """

  step: Int[Array, ""]
  params: Parameters
  optimizer_state: optax.OptState
  key: Key[Array, ""]
