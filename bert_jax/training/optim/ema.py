"""Exponential moving averages of the parameters (EMA)."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from bert_jax import settings
from bert_jax.types import Parameters, TrainState


@dataclasses.dataclass(frozen=True)
class EmaConfig:
  """The section `config.ema`.

  With a decay above 0 the run evaluates and saves the averages as the model;
  training uses the parameters themselves and does not change.

  Attributes:
    decay: after each update the averages become
      decay * averages + (1 - decay) * parameters; they start from the initial
      parameters. 0 keeps no averages.
  """

  decay: float = 0.0

  def __post_init__(self):
    settings.check(self, "in [0, 1)", lambda x: 0 <= x < 1, "decay")


class EmaState(NamedTuple):
  """The averages, and the state of the optimizer that makes the updates.

  Attributes:
    inner: the optimizer's state.
    ema_params: the averages, like the parameters.
  """

  inner: Any
  ema_params: Parameters


def with_ema(
  inner: optax.GradientTransformation, decay: float
) -> optax.GradientTransformationExtraArgs:
  """An optimizer that also keeps averages of the parameters in its state.

  The updates are those of `inner`; for the decay see `EmaConfig`.
  """
  inner = optax.with_extra_args_support(inner)

  def init(params: Parameters) -> EmaState:
    # A copy, since the caller may donate state and parameters together.
    return EmaState(inner.init(params), jax.tree.map(jnp.copy, params))

  def update(
    updates: Parameters, state: EmaState, params: Parameters, **extra: Any
  ) -> tuple[Parameters, EmaState]:
    updates, after = inner.update(updates, state.inner, params, **extra)
    averages = optax.incremental_update(
      optax.apply_updates(params, updates), state.ema_params, 1 - decay
    )
    return updates, EmaState(after, averages)

  return optax.GradientTransformationExtraArgs(init, update)


def model_params(state: TrainState) -> Parameters:
  """The parameters to use the model with: the averages, if there are any."""
  averages = optax.tree.get(state.optimizer_state, "ema_params")
  return state.params if averages is None else averages
