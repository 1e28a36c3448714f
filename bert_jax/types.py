"""The shapes of data that every folder of the package shares.

Code that JAX does not run imports those of `bert_jax.batch` from there.
"""

import dataclasses
from typing import TYPE_CHECKING

import jax
from jaxtyping import Array, Int, Key

from bert_jax.batch import Batch, Mean, Parameters, add_means

if TYPE_CHECKING:
  import optax  # Slow to import, and predictions do without.

__all__ = ["Batch", "Mean", "Parameters", "TrainState", "add_means"]

jax.tree_util.register_dataclass(Batch)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
  """The state of training, which an update replaces and a checkpoint contains.

  Attributes:
    step: the number of optimizer updates; int32 scalar.
    params: the parameters of the model.
    optimizer_state: the state of the Optax transformation.
    key: typed PRNG key, the same for the whole run. The randomness of a step
      comes from `jax.random.fold_in(key, step)`, so a resumed run has the same.
  """

  step: Int[Array, ""]
  params: Parameters
  optimizer_state: "optax.OptState"
  key: Key[Array, ""]
