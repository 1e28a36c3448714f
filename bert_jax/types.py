"""The shapes of data that every floor of the package shares."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import optax
from jaxtyping import Array, Float, Int, Key

__all__ = ["Batch", "Mean", "Parameters", "TrainState", "add_means"]

Parameters = Mapping[str, Any]
"""A plain nested dict of arrays, `layer_0` ... `layer_{L-1}` unrolled."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Batch:
  """The model's input and the task's targets.

  One example is the same pytree without the leading axis.

  Attributes:
    token_ids: the tokens, special tokens included; padding is the
      tokenizer's pad id.
    segment_ids: 0 for the first text of a pair, 1 for the second.
    position_ids: the position of a token in its own sequence.
    sequence_ids: which packed sequence a token belongs to, from 1; 0 is
      padding. Tokens attend to tokens of their own sequence only.
    targets: what the task predicts and how much each target weighs; each
      task documents its keys.
  """

  token_ids: Int[Array, "batch length"]
  segment_ids: Int[Array, "batch length"]
  position_ids: Int[Array, "batch length"]
  sequence_ids: Int[Array, "batch length"]
  targets: Mapping[str, Array]


class Mean(NamedTuple):
  """A mean that is not yet divided: a sum over examples and its weight.

  Sums and weights add up over micro-batches, devices and hosts, and are
  divided once, at the end; so any split of a batch gives the same number.
  """

  total: Float[Array, ""]
  weight: Float[Array, ""]

  def value(self) -> Float[Array, ""]:
    """The mean, 0 where nothing weighs anything."""
    return self.total / jax.numpy.maximum(self.weight, 1e-9)


def add_means(means: Iterator[Mapping[str, Mean]]) -> dict[str, Mean]:
  """Adds up the named means of several batches."""
  totals: dict[str, Mean] = {}
  for named in means:
    for name, mean in named.items():
      old = totals.get(name, Mean(0.0, 0.0))
      totals[name] = Mean(old.total + mean.total, old.weight + mean.weight)
  return totals


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
  """What an update maps to its successor, and what a checkpoint holds.

  Attributes:
    step: optimizer updates done so far; int32 scalar.
    params: the model's parameters.
    optimizer_state: the state of the Optax transformation.
    key: typed PRNG key, the same for the whole run. The randomness of a step
      comes from `jax.random.fold_in(key, step)`, so a resumed run draws what
      the uninterrupted run would have drawn.
  """

  step: Int[Array, ""]
  params: Parameters
  optimizer_state: optax.OptState
  key: Key[Array, ""]
