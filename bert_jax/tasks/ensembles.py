"""Several models of one task that predict together."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Self

import jax
import jax.numpy as jnp

from bert_jax.models.config import EncoderConfig
from bert_jax.tasks.task import Task
from bert_jax.types import Batch, Parameters


def member_name(index: int) -> str:
  """The name that a member's parameters are under."""
  return f"member_{index}"


@dataclasses.dataclass(frozen=True, eq=False)
class Ensemble:
  """A module whose outputs are the average of those of its members.

  Probabilities are averaged (Lakshminarayanan et al. 2017, arXiv:1612.01474),
  or the numbers of a regression; the outputs are the logits of these means.
  The parameters are those of the members, under `member_0`, `member_1` and so
  on.

  Attributes:
    members: modules with the same outputs; their encoders may differ.
    task: says how its outputs are averaged.
  """

  members: tuple[Any, ...]
  task: Task

  def init(self, key: Any, batch: Batch) -> Mapping[str, Parameters]:
    """`{"params": ...}` with initial values of each member."""
    keys = jax.random.split(key, len(self.members))
    return {
      "params": {
        member_name(i): member.init(keys[i], batch)["params"]
        for i, member in enumerate(self.members)
      }
    }

  def clone(self, *, config: EncoderConfig) -> Self:
    """The same members, all on another encoder."""
    members = tuple(member.clone(config=config) for member in self.members)
    return dataclasses.replace(self, members=members)

  def apply(
    self, variables: Mapping[str, Parameters], batch: Batch, **kwargs: Any
  ) -> Any:
    """The averaged outputs."""
    params = variables["params"]
    outputs = [
      member.apply({"params": params[member_name(i)]}, batch, **kwargs)
      for i, member in enumerate(self.members)
    ]
    stacked = jax.tree.map(lambda *members: jnp.stack(members), *outputs)
    return self.task.average(batch, stacked)
