"""Metrics of vectors of texts: do those that belong together lie together?"""

from collections.abc import Collection, Sequence

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import ArrayLike

from bert_jax.settings import UserError
from bert_jax.tasks.metrics import checks

_DEPTH = 10
_QUERIES = 1024
_DOCUMENTS = 4096
# Similarities are rounded to this many steps; the rest is the
# noise of float64, which would rank equal documents by chance.
_STEPS = 10**9


def evaluate(
  queries: ArrayLike, documents: ArrayLike, relevant: Sequence[Collection[int]]
) -> dict[str, float]:
  """How well documents are found by cosine similarity to queries.

  Of documents with equal similarities, to nine digits, the earlier one is
  ranked first.

  Args:
    queries: [queries, width].
    documents: [documents, width].
    relevant: for each query the indices of its documents, at least one.

  Returns:
    Means over the queries: `mrr_at_10`, of 1 by the rank of the first relevant
    document among the first ten, or 0; `recall_at_1`, `recall_at_5` and
    `recall_at_10`, of the share of the relevant documents that are among the
    first 1, 5 or 10; `ndcg_at_10`, of the discounted gain (Järvelin and
    Kekäläinen 2002; a relevant document gains 1) by the best possible.

  Raises:
    UserError: there are no queries, the shapes do not fit, a number is not
      finite, or a query has no relevant document or one that is not there.
  """
  checks.same_length(queries, relevant, "relevant documents")
  first = checks.numbers(queries, "query vectors", 2)
  second = checks.numbers(documents, "document vectors", 2)
  if first.shape[1] != second.shape[1]:
    raise UserError(
      f"query vectors have width {first.shape[1]},"
      f" document vectors {second.shape[1]}"
    )
  wanted = [_check_relevant(*pair, len(second)) for pair in enumerate(relevant)]
  hits = np.zeros([len(first), _DEPTH])
  for start in range(0, len(first), _QUERIES):
    top = _top(first[start : start + _QUERIES], second)
    for row, found in enumerate(top.tolist(), start):
      hits[row, : len(found)] = [index in wanted[row] for index in found]
  sizes = np.array(list(map(len, wanted)))
  discounts = 1 / np.log2(np.arange(_DEPTH) + 2)
  ideal = np.cumsum(discounts)[np.minimum(sizes, _DEPTH) - 1]
  values = {
    "mrr_at_10": (hits / np.arange(1, _DEPTH + 1)).max(1),
    **{f"recall_at_{k}": hits[:, :k].sum(1) / sizes for k in (1, 5, 10)},
    "ndcg_at_10": hits @ discounts / ideal,
  }
  return {name: float(each.mean()) for name, each in values.items()}


def _top(
  queries: Float[np.ndarray, "queries width"],
  documents: Float[np.ndarray, "documents width"],
) -> Int[np.ndarray, "queries top"]:
  """The indices of the nearest documents, the nearest first.

  Only a part of all similarities is there at a time.
  """
  count = len(documents)
  unit = _unit(queries)
  best = np.zeros([len(queries), 0], np.int64)
  for start in range(0, count, _DOCUMENTS):
    part = _unit(documents[start : start + _DOCUMENTS])
    steps = np.rint(unit @ part.T * _STEPS).astype(np.int64)
    # One number holds similarity and index, so that no two are equal.
    index = np.arange(start, start + len(part))
    keys = np.concatenate([best, steps * count + (count - 1 - index)], axis=1)
    kept = min(_DEPTH, keys.shape[1])
    best = np.partition(keys, -kept, axis=1)[:, -kept:]
  return count - 1 - np.sort(best, axis=1)[:, ::-1] % count


def _unit(
  vectors: Float[np.ndarray, "rows width"],
) -> Float[np.ndarray, "rows width"]:
  """Scaled to length 1; zeros stay."""
  norms = np.linalg.norm(vectors, axis=1, keepdims=True)
  return vectors / np.where(norms > 0, norms, 1)


def _check_relevant(
  query: int, indices: Collection[int], documents: int
) -> set[int]:
  wanted = set(indices)
  if not wanted:
    raise UserError(f"query {query}: it has no relevant document")
  if not 0 <= min(wanted) <= max(wanted) < documents:
    raise UserError(
      f"query {query}: expected documents from 0 to {documents - 1},"
      f" got {sorted(wanted)[:5]}"
    )
  return wanted
