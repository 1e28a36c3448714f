"""Optax transformations that the optimizers are chains of."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax


def clip_by_norm(limit: float) -> optax.GradientTransformation:
  """`optax.clip_by_global_norm`, but with one division for all elements.

  Optax divides each element, which is so expensive that XLA's CPU backend
  stores the results instead of fusing them.
  """

  def clip(updates, params=None):
    del params
    norm = optax.tree.norm(updates)
    scale = jnp.where(norm < limit, 1.0, limit / norm)
    return jax.tree.map(lambda x: scale * x, updates)

  return optax.stateless(clip)


class UncorrectedAdamState(NamedTuple):
  """The moments of Adam, without the count for bias correction."""

  mu: optax.Updates
  nu: optax.Updates


def scale_by_uncorrected_adam(
  b1: float, b2: float, eps: float
) -> optax.GradientTransformation:
  """`optax.scale_by_adam` without bias correction."""

  def init(params):
    zeros = optax.tree.zeros_like(params)
    return UncorrectedAdamState(mu=zeros, nu=zeros)

  def update(updates, state, params=None):
    del params
    mu = optax.tree.update_moment(updates, state.mu, b1, 1)
    nu = optax.tree.update_moment(updates, state.nu, b2, 2)
    scaled = jax.tree.map(lambda m, v: m / (jnp.sqrt(v) + eps), mu, nu)
    return scaled, UncorrectedAdamState(mu, nu)

  return optax.GradientTransformation(init, update)


class PulledState(NamedTuple):
  """The initial parameters, which the parameters decay to."""

  start: optax.Params


def pull_to_start(strength: float) -> optax.GradientTransformation:
  """Adds `strength` times the difference to the initial parameters."""

  def init(params):
    # A copy, since the caller may donate state and parameters together.
    return PulledState(jax.tree.map(jnp.copy, params))

  def update(updates, state, params):
    pulled = jax.tree.map(
      lambda u, now, start: u + strength * (now - start),
      updates,
      params,
      state.start,
    )
    return pulled, state

  return optax.GradientTransformation(init, update)


def scale_by_clock(
  rate: optax.Schedule,
) -> optax.GradientTransformationExtraArgs:
  """`optax.scale_by_learning_rate` at the step of the argument `clock`."""

  def update(updates, state, params=None, *, clock, **_):
    del params
    return jax.tree.map(lambda u: -rate(clock) * u, updates), state

  return optax.GradientTransformationExtraArgs(
    lambda params: optax.EmptyState(), update
  )


class SoftThresholdState(NamedTuple):
  """The number of updates, where the schedule counts them."""

  count: jax.Array


def soft_threshold(
  rate: optax.Schedule,
  scales: Callable[[optax.Params], optax.Params],
  clocked: bool,
) -> optax.GradientTransformationExtraArgs:
  """Moves the updated parameters towards 0 by rate * scale, and at most to 0.

  It has to be the last of a chain. Parameters with scale 0 are left alone.

  Args:
    rate: the learning rate by step.
    scales: a function from the parameters to a tree of floats.
    clocked: whether the step is the argument `clock`, else it is counted.
  """

  def init(params):
    del params
    if clocked:
      return optax.EmptyState()
    return SoftThresholdState(jnp.zeros((), jnp.int32))

  def update(updates, state, params, *, clock=None, **_):
    step = clock if clocked else state.count

    def shrink(update, before, scale):
      if not scale:
        return update
      after = before + update
      size = jnp.maximum(jnp.abs(after) - rate(step) * scale, 0)
      return jnp.sign(after) * size - before

    shrunk = jax.tree.map(shrink, updates, params, scales(params))
    if not clocked:
      state = SoftThresholdState(optax.safe_increment(state.count))
    return shrunk, state

  return optax.GradientTransformationExtraArgs(init, update)


def in_float32(
  inner: optax.GradientTransformation,
) -> optax.GradientTransformationExtraArgs:
  """Computes moments, norms and updates in float32, whatever the dtype."""
  inner = optax.with_extra_args_support(inner)

  def widen(tree):
    return optax.tree.cast(tree, jnp.float32)

  def init(params):
    return inner.init(widen(params))

  def update(updates, state, params=None, **extra):
    return inner.update(widen(updates), state, widen(params), **extra)

  return optax.GradientTransformationExtraArgs(init, update)


class OthersState(NamedTuple):
  """The states of the optimizers of all but some parameters, and of these."""

  inner: Any
  others: dict[str, Any]


def with_others(
  inner: optax.GradientTransformation,
  others: Mapping[str, optax.GradientTransformation],
) -> optax.GradientTransformationExtraArgs:
  """Other optimizers for the parameters under some names.

  Args:
    inner: updates the parameters; those under the names are frozen for it.
    others: by name; each takes and returns `{name: ...}`.
  """
  inner = optax.with_extra_args_support(inner)

  def init(params):
    return OthersState(
      inner.init(params),
      {name: x.init({name: params[name]}) for name, x in others.items()},
    )

  def update(updates, state, params, **extra):
    made, after = inner.update(updates, state.inner, params, **extra)
    made, states = dict(made), {}
    for name, other in others.items():
      part, states[name] = other.update(
        {name: updates[name]}, state.others[name], {name: params[name]}
      )
      made |= part
    return made, OthersState(after, states)

  return optax.GradientTransformationExtraArgs(init, update)
