"""Losses of the vectors of texts, by their cosine similarity."""

from jaxtyping import Bool, Float, Int

from bert_jax.batch import Array, Mean
from bert_jax.models import pooling
from bert_jax.tasks.targets import losses


def regression(
  vectors: Float[Array, "batch texts width"],
  similarities: Float[Array, " batch"],
  weights: Float[Array, " batch"],
) -> dict[str, Mean]:
  """The squared error of the cosine of the first two texts of each row.

  This is `CosineSimilarityLoss` of sentence-transformers (Reimers and
  Gurevych 2019, arXiv:1908.10084).

  Args:
    vectors: of the texts, of any length.
    similarities: what the cosines are to be.
    weights: 0 for rows that only pad.
  """
  import jax.numpy as jnp

  first, second = pooling.unit(vectors[:, 0]), pooling.unit(vectors[:, 1])
  errors = (first * second).sum(-1) - similarities
  return {"similarity_loss": losses.mean(jnp.square(errors), weights)}


def ranking(
  vectors: Float[Array, "batch texts width"],
  token_ids: Int[Array, "batch texts length"],
  weights: Float[Array, " batch"],
  scale: float,
  symmetric: bool,
) -> tuple[dict[str, Mean], dict[str, Mean]]:
  """Each row's second text is to be told from those of all other rows.

  The loss is the cross-entropy, in nats, of a softmax over the scaled cosines
  of the first text and all candidates: InfoNCE (van den Oord et al. 2018,
  arXiv:1807.03748) with in-batch negatives (Henderson et al. 2017,
  arXiv:1705.00652), `MultipleNegativesRankingLoss` of sentence-transformers.
  Candidates are the second texts of all rows and, as hard negatives, the
  third ones where there are any.

  Unlike there, a candidate is no negative where the same tokens make the row's
  own first or second text, and another row's second text is none where the
  first texts are the same; so batches may hold a text twice.

  Args:
    vectors: of the texts, of any length.
    token_ids: of the texts, by which the same ones are known; only zeros where
      there is no text.
    weights: 0 for rows that only pad, which are no candidates either.
    scale: what cosines are multiplied by, 1 by the temperature.
    symmetric: whether the first text is to be told from those of other rows
      as well, of its second; the loss is the mean of the two.

  Returns:
    The loss, and the share of rows whose second text is the likeliest.
  """
  import jax.numpy as jnp

  batch, _, width = vectors.shape
  vectors = pooling.unit(vectors)
  first = vectors[:, 0]
  # Row by row the second texts, then all third ones.
  candidates = vectors[:, 1:].swapaxes(0, 1).reshape(-1, width)
  # The default of TPUs, and of some GPUs, has three digits, and what is wrong
  # in the fourth is multiplied by the scale.
  logits = scale * jnp.matmul(first, candidates.T, precision="highest")
  possible, there = _possible(token_ids, weights > 0)
  own = jnp.arange(batch)
  eye = jnp.eye(batch, len(candidates), dtype=bool)
  forward = losses.only(eye | (possible & there), logits)
  values = losses.cross_entropy(forward, own)
  if symmetric:
    square = possible[:, :batch].T & (weights > 0)
    backward = losses.only(eye[:, :batch] | square, logits[:, :batch].T)
    values = (values + losses.cross_entropy(backward, own)) / 2
  return (
    {"contrastive_loss": losses.mean(values, weights)},
    {"in_batch_accuracy": losses.mean(forward.argmax(-1) == own, weights)},
  )


def _cosine(
  vectors: Float[Array, "texts width"],
  taught: Float[Array, "texts width"],
  weights: Float[Array, " texts"],
) -> Float[Array, " texts"]:
  del weights
  return 1 - (pooling.unit(vectors) * pooling.unit(taught)).sum(-1)


def _squared(
  vectors: Float[Array, "texts width"],
  taught: Float[Array, "texts width"],
  weights: Float[Array, " texts"],
) -> Float[Array, " texts"]:
  """As `MSELoss` of sentence-transformers."""
  del weights
  return ((vectors - taught) ** 2).mean(-1)


def _similarities(
  vectors: Float[Array, "texts width"],
  taught: Float[Array, "texts other_width"],
  weights: Float[Array, " texts"],
) -> Float[Array, " texts"]:
  """The mean squared difference of a text's cosines with all texts.

  Similarity-preserving distillation (Tung and Mori 2019, arXiv:1907.09682), of
  cosines.
  """
  import jax.numpy as jnp

  own, other = (
    jnp.matmul(x, x.T, precision="highest")
    for x in (pooling.unit(vectors), pooling.unit(taught))
  )
  squares = (own - other) ** 2
  return squares @ weights / jnp.maximum(weights.sum(), 1e-9)


TEACHER_LOSSES = {
  "cosine": _cosine,
  "mse": _squared,
  "similarities": _similarities,
}
"""How far each text's vector is from a teacher's."""


def _possible(
  token_ids: Int[Array, "batch texts length"], counts: Bool[Array, " batch"]
) -> tuple[Bool[Array, "batch candidates"], Bool[Array, " candidates"]]:
  """Which candidates differ from the row's own texts; which are texts."""
  import jax.numpy as jnp

  batch, texts, length = token_ids.shape
  first, second = token_ids[:, 0], token_ids[:, 1]
  candidates = token_ids[:, 1:].swapaxes(0, 1).reshape(-1, length)
  taken = _same(first, candidates) | _same(second, candidates)
  others = (texts - 2) * batch
  taken |= jnp.pad(_same(first, first), [(0, 0), (0, others)])
  there = jnp.tile(counts, texts - 1) & (candidates > 0).any(-1)
  return ~taken, there


def _same(
  rows: Int[Array, "rows length"], columns: Int[Array, "columns length"]
) -> Bool[Array, "rows columns"]:
  return (rows[:, None] == columns[None]).all(-1)
