"""The optimizer of the masks of pruning."""

from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

if TYPE_CHECKING:
  from bert_jax.training.parametrizations.pruning import Pruning


class PruningState(NamedTuple):
  """The state of Adam, and the number of updates."""

  adam: Any
  schedule: optax.ScaleByScheduleState


def make(
  masks: "Pruning", rate: float, steps: int
) -> optax.GradientTransformation:
  """Adam for the scores, until the target of pruning is reached.

  The gradients of the masks' penalty are added, with the opposite sign for
  Lagrange multipliers, which maximize it. The progress follows the steps.

  Args:
    masks: what is trained.
    rate: the learning rate.
    steps: the number of updates of the run.
  """
  adam, name = optax.adam(rate), masks.name

  def init(params):
    count = jnp.zeros((), jnp.int32)
    return PruningState(adam.init(params), optax.ScaleByScheduleState(count))

  def update(gradients, state, params):
    own = params[name]
    penalty = jax.grad(masks.penalty)(own)
    if "multipliers" in penalty:
      penalty["multipliers"] = -penalty["multipliers"]
    gradients = jax.tree.map(jnp.add, gradients, {name: penalty})
    updates, after = adam.update(gradients, state.adam, params)
    learns = own["progress"] < 1
    updates = jax.tree.map(lambda x: jnp.where(learns, x, 0), updates)
    count = state.schedule.count + 1
    updates[name]["progress"] = masks.progress(count / steps) - own["progress"]
    return updates, PruningState(after, optax.ScaleByScheduleState(count))

  return optax.GradientTransformation(init, update)
