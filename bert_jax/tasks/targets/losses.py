"""The functions that losses and metrics of targets are made of.

They compute with JAX, which is imported when they are called: predictions of
other engines do without.
"""

from jaxtyping import Bool, Float, Int

from bert_jax.batch import Array, Mean


def cross_entropy(
  logits: Float[Array, "*rows classes"], labels: Int[Array, "*rows"]
) -> Float[Array, "*rows"]:
  """The negative log-likelihood of each label, in nats."""
  import jax
  import jax.numpy as jnp

  picked = jnp.take_along_axis(logits, labels[..., None], axis=-1)[..., 0]
  return jax.nn.logsumexp(logits, axis=-1) - picked


def smoothed(
  logits: Float[Array, "*rows classes"],
  values: Float[Array, "*rows"],
  rate: float,
) -> Float[Array, "*rows"]:
  """Cross-entropies with label smoothing.

  From Szegedy et al. (2016), "Rethinking the Inception Architecture",
  arXiv:1512.00567.

  Args:
    logits: of the classes.
    values: their cross-entropies without smoothing.
    rate: the share of the distribution to be learned that is uniform.
  """
  import jax
  import jax.numpy as jnp

  # Without another array of all classes; padding of the vocabulary is no class.
  is_class = logits > -1e29
  total = jnp.where(is_class, logits, 0).sum(-1)
  mean = total / jnp.maximum(is_class.sum(-1), 1)
  uniform = jax.nn.logsumexp(logits, axis=-1) - mean
  return (1 - rate) * values + rate * uniform


def binary_cross_entropy(
  logits: Float[Array, "*rows"], labels: Float[Array, "*rows"]
) -> Float[Array, "*rows"]:
  """The negative log-likelihood of yes (1) or no (0), in nats."""
  import jax

  return jax.nn.softplus(logits) - logits * labels


def divergence(
  logits: Float[Array, "*rows classes"],
  taught: Float[Array, "*rows more_classes"],
  temperature: float,
) -> Float[Array, "*rows"]:
  """The divergence of a student's probabilities from its teacher's, in nats.

  KL(teacher || student) of softened probabilities, times the temperature's
  square, so that gradients keep their size (Hinton et al. 2015,
  arXiv:1503.02531).

  Args:
    logits: the student's.
    taught: the teacher's. Either may have further classes at the end that are
      none, as padding of the vocabulary.
    temperature: that logits are divided by.
  """
  import jax
  import jax.numpy as jnp

  classes = min(logits.shape[-1], taught.shape[-1])
  student, teacher = (
    jax.nn.log_softmax(x[..., :classes].astype(jnp.float32) / temperature)
    for x in (logits, taught)
  )
  total = (jnp.exp(teacher) * (teacher - student)).sum(-1)
  return temperature**2 * total


def binary_divergence(
  logits: Float[Array, "*rows"],
  taught: Float[Array, "*rows"],
  temperature: float,
) -> Float[Array, "*rows"]:
  """As `divergence`, of the probabilities of yes or no."""
  import jax.numpy as jnp

  student, teacher = (jnp.stack([x, 0 * x], -1) for x in (logits, taught))
  return divergence(student, teacher, temperature)


def only(
  possible: Bool[Array, "*#rows #classes"],
  logits: Float[Array, "*#rows #classes"],
) -> Float[Array, "..."]:
  """Masks logits so that impossible classes get no probability.

  They stay finite, so that rows without any possible class make no NaN.
  """
  return logits.__array_namespace__().where(possible, logits, -1e30)


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


def activate(
  activation: str, outputs: Float[Array, "..."]
) -> Float[Array, "..."]:
  """The outputs after an activation of `models.activations`."""
  from bert_jax.models.activations import ACTIVATIONS

  return ACTIVATIONS[activation](outputs)


def log_softmax(
  logits: Float[Array, "..."], axis: int = -1
) -> Float[Array, "..."]:
  """The logs of the probabilities of the classes on an axis."""
  import jax

  return jax.nn.log_softmax(logits, axis=axis)


def log_mean(
  log_probabilities: Float[Array, "members *outputs"],
) -> Float[Array, "*outputs"]:
  """The log of the mean of probabilities, from their logs."""
  import jax
  import jax.numpy as jnp

  count = len(log_probabilities)
  return jax.nn.logsumexp(log_probabilities, axis=0) - jnp.log(count)


def log_mean_odds(
  logits: Float[Array, "members *outputs"],
) -> Float[Array, "*outputs"]:
  """The logit of the mean of probabilities, from logits of yes or no."""
  import jax

  yes, no = jax.nn.log_sigmoid(logits), jax.nn.log_sigmoid(-logits)
  return log_mean(yes) - log_mean(no)
