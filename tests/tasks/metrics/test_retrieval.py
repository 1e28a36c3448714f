"""Ranks of documents by hand, and against sorting all of them.

The comparison with sentence-transformers is in tests/parity.
"""

import numpy as np
import pytest

from bert_jax.tasks.metrics import retrieval
from tests.errors import user_error


def angles(*degrees):
  """Vectors of length 3 in these directions."""
  radians = np.radians(degrees)
  return 3 * np.stack([np.cos(radians), np.sin(radians)], axis=1)


def test_metrics():
  documents = angles(0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 110)
  # The ranks of the relevant documents: 1; 2 and 4; 12, too late.
  scores = retrieval.evaluate(angles(0, 1, 2), documents, [[0], {1, 3}, [11]])
  gain = 1 / np.log2(3) + 1 / np.log2(5)
  assert scores == pytest.approx(
    {
      "mrr_at_10": (1 + 1 / 2 + 0) / 3,
      "recall_at_1": (1 + 0 + 0) / 3,
      "recall_at_5": (1 + 1 + 0) / 3,
      "recall_at_10": (1 + 1 + 0) / 3,
      "ndcg_at_10": (1 + gain / (1 + 1 / np.log2(3)) + 0) / 3,
    }
  )


def test_more_relevant_documents_than_are_looked_at():
  documents = angles(*range(0, 80, 4))
  scores = retrieval.evaluate(angles(0), documents, [range(20)])
  assert scores["ndcg_at_10"] == pytest.approx(1)
  assert scores["recall_at_10"] == pytest.approx(1 / 2)


def test_length_does_not_matter_and_few_documents_are_enough():
  documents = angles(0, 90) * [[0.01], [100]]
  scores = retrieval.evaluate(angles(1), documents.astype(np.float32), [[0]])
  assert set(scores.values()) == {1}


@pytest.mark.parametrize(("index", "rank"), [(0, 1), (1, 2), (4, 5)])
def test_of_equal_documents_the_first_is_ranked_first(index, rank):
  documents = np.repeat(angles(33.3), 5, axis=0)
  scores = retrieval.evaluate(angles(12), documents, [[index]])
  assert scores["mrr_at_10"] == 1 / rank


def test_parts_give_what_all_at_once_gives(monkeypatch):
  monkeypatch.setattr(retrieval, "_QUERIES", 7)
  monkeypatch.setattr(retrieval, "_DOCUMENTS", 13)
  draw = np.random.default_rng(0)
  documents = draw.integers(-2, 3, [100, 3]).astype(np.float64)  # Many equal.
  documents[5] = 0
  queries = draw.normal(size=[20, 3])
  relevant = [draw.choice(100, 1 + i % 4, replace=False) for i in range(20)]
  norms = np.maximum(np.linalg.norm(documents, axis=1), 1e-9)
  cosines = queries @ documents.T / norms
  cosines /= np.linalg.norm(queries, axis=1, keepdims=True)
  order = np.argsort(-cosines.round(9), axis=1, kind="stable")
  found = [np.isin(row, some) for row, some in zip(order, relevant)]
  scores = retrieval.evaluate(queries, documents, relevant)
  first = [row.argmax() for row in found]
  assert scores["mrr_at_10"] == pytest.approx(
    np.mean([1 / (rank + 1) if rank < 10 else 0 for rank in first])
  )
  assert scores["recall_at_5"] == pytest.approx(
    np.mean([row[:5].sum() / row.sum() for row in found])
  )


@pytest.mark.parametrize(
  ("queries", "documents", "relevant", "message"),
  [
    ([], angles(1), [], "nothing to evaluate"),
    (angles(1), angles(1), [], "relevant documents for 1 rows, got 0"),
    (angles(1), angles(1), [[]], "query 0: it has no relevant document"),
    (angles(1), angles(1), [[1]], "documents from 0 to 0"),
    (angles(1), angles(1), [[-1]], "documents from 0 to 0"),
    (angles(1), [[1.0, 0, 0]], [[0]], "query vectors have width 2"),
    (angles(1), angles(np.nan), [[0]], "document vectors: 2 of 2 are NaN"),
    (angles(1), [], [[0]], "document vectors: expected 2 dimensions"),
  ],
)
def test_what_cannot_be_evaluated_is_an_error(
  queries, documents, relevant, message
):
  with user_error(message):
    retrieval.evaluate(queries, documents, relevant)
