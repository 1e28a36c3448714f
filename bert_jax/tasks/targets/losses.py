"""The functions that losses and metrics of targets are made of."""

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
  possible: Bool[Array, "*#rows #classes"],
  logits: Float[Array, "*#rows #classes"],
) -> Float[Array, "..."]:
  """Masks logits so that impossible classes get no probability.

  They stay finite, so that rows without any possible class make no NaN.
  """
  return jnp.where(possible, logits, -1e30)


def mean(values: Array, weights: Float[Array, "*rows"]) -> Mean:
  """The weighted mean of `values`, not yet divided."""
  return Mean((values * weights).sum(), weights.sum())


def accuracy(
  logits: Float[Array, "*rows classes"],
  labels: Int[Array, "*rows"],
  weights: Float[Array, "*rows"],
) -> dict[str, Mean]:
  """The share of labels with the greatest logit, as the metric `accuracy`."""
  return {"accuracy": mean(logits.argmax(-1) == labels, weights)}


def log_mean(
  log_probabilities: Float[Array, "members *outputs"],
) -> Float[Array, "*outputs"]:
  """The log of the mean of probabilities, from their logs."""
  count = len(log_probabilities)
  return jax.nn.logsumexp(log_probabilities, axis=0) - jnp.log(count)


def log_mean_odds(
  logits: Float[Array, "members *outputs"],
) -> Float[Array, "*outputs"]:
  """The logit of the mean of probabilities, from logits of yes or no."""
  yes, no = jax.nn.log_sigmoid(logits), jax.nn.log_sigmoid(-logits)
  return log_mean(yes) - log_mean(no)
