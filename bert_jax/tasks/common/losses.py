"""What the losses of tasks are made of."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from bert_jax.types import Mean


def cross_entropy(
  logits: Float[Array, "*rows classes"], labels: Int[Array, "*rows"]
) -> Float[Array, "*rows"]:
  """The negative log-likelihood of each label, in nats."""
  picked = jnp.take_along_axis(logits, labels[..., None], axis=-1)[..., 0]
  return jax.nn.logsumexp(logits, axis=-1) - picked


def binary_cross_entropy(
  logits: Float[Array, "*rows"], labels: Float[Array, "*rows"]
) -> Float[Array, "*rows"]:
  """The negative log-likelihood of yes (1) or no (0), in nats."""
  return jax.nn.softplus(logits) - logits * labels


def only(
  possible: Bool[Array, "*rows classes"],
  logits: Float[Array, "*rows classes"],
) -> Float[Array, "*rows classes"]:
  """Logits, where a class is not possible so low that it gets no probability.

  They stay finite, so that rows without any possible class make no NaN.
  """
  return jnp.where(possible, logits, -1e30)


def mean(values: Array, weights: Float[Array, "*rows"]) -> Mean:
  """The weighted mean of `values`, not yet divided."""
  return Mean((values * weights).sum(), weights.sum())
