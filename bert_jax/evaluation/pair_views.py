"""What there is to see of vectors of texts that are pairs."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from bert_jax.data.sources.labelled import Record
from bert_jax.evaluation.view import View, texts, worst
from bert_jax.tasks.common import pairs

_QUERIES = 256


def embedding(
  head: Any,
  answers: Sequence[Float[np.ndarray, "texts width"]],
  records: Sequence[Record],
) -> View:
  """The pairs whose cosine is the most out of place.

  Those are, with labels, pairs with another place among all by their cosine
  than by their label; without, pairs whose text is nearer to that of another.
  """
  del head
  cosines = cosine(answers)
  if any(record.get("label") is not None for record in records):
    mistakes = _misplaced(cosines, records)
  else:
    mistakes = _mistaken(answers, cosines, records)
  return View(mistakes=worst(mistakes))


def cosine(
  answers: Sequence[Float[np.ndarray, "texts width"]],
) -> Float[np.ndarray, " pairs"]:
  """The cosines of texts and their pairs."""
  return (_unit(answers, 0) * _unit(answers, 1)).sum(-1)


def _misplaced(
  cosines: Float[np.ndarray, " pairs"], records: Sequence[Record]
) -> list[tuple[float, dict[str, Any]]]:
  from scipy import stats  # It takes long, and few need it.

  labels = [pairs.label(record) for record in records]
  places = [stats.rankdata(x) / len(records) for x in (labels, cosines)]
  return [
    (
      abs(of_label - of_cosine),
      {
        **texts(record),
        "label": label,
        "cosine": float(cosines[i]),
        "more alike by label than": of_label,
        "by cosine than": of_cosine,
      },
    )
    for i, (record, label, of_label, of_cosine) in enumerate(
      zip(records, labels, *places)
    )
  ]


def _mistaken(
  answers: Sequence[Float[np.ndarray, "texts width"]],
  cosines: Float[np.ndarray, " pairs"],
  records: Sequence[Record],
) -> list[tuple[float, dict[str, Any]]]:
  first: dict[str, int] = {}
  own: dict[str, set[str]] = {}
  for row, record in enumerate(records):
    first.setdefault(record["pair"], row)
    own.setdefault(record["text"], set()).add(record["pair"])
  documents = list(first)
  place = {document: i for i, document in enumerate(documents)}
  queries = _unit(answers, 0)
  candidates = _unit([answers[row] for row in first.values()], 1)
  mistakes = []
  for start in range(0, len(records), _QUERIES):
    near = queries[start : start + _QUERIES] @ candidates.T
    for row, record in enumerate(records[start : start + _QUERIES], start):
      others = near[row - start]
      others[[place[pair] for pair in own[record["text"]]]] = -np.inf
      best = int(others.argmax())
      if others[best] > cosines[row]:
        seen = {
          **texts(record),
          "cosine": float(cosines[row]),
          "nearer": documents[best],
          "its cosine": float(others[best]),
        }
        mistakes.append((float(others[best] - cosines[row]), seen))
  return mistakes


def _unit(
  answers: Sequence[Float[np.ndarray, "texts width"]], place: int
) -> Float[np.ndarray, "pairs width"]:
  """Of each pair one vector, scaled to length 1."""
  vectors = np.array([pair[place] for pair in answers], np.float32)
  norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
  return vectors / np.maximum(norms, 1e-12)
