"""Records with a text, a pair and maybe a label: how much the two are alike."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from bert_jax.data.sources.labelled import Record
from bert_jax.settings import UserError
from bert_jax.tasks import supervised
from bert_jax.tasks.common import fields, values
from bert_jax.tasks.scores import regression, retrieval

_DEPTHS = (1, 5, 10)


def label(record: Record) -> float:
  """The field `label`, a number or its text.

  Raises:
    UserError: it is missing, or no finite number.
  """
  return values.of(["label"], {"label": record.get("label")})[0]


def label_range(labelled: supervised.Labelled) -> tuple[float, float]:
  """The least and the greatest label of all records.

  Raises:
    UserError: they do not differ; or as `Records.each`.
  """
  parts = (labelled.train, labelled.evaluation)
  found = {value for part in parts for value in part.each(label)[1]}
  if len(found) < 2:
    raise UserError(
      "config.data.label_range: expected records with different numbers as"
      f" labels to tell it from, got {sorted(found)}"
    )
  return min(found), max(found)


def score(
  head: Any,
  answers: Sequence[Float[np.ndarray, "texts width"]],
  records: Sequence[Record],
) -> dict[str, float]:
  """How well cosines say what is alike.

  Args:
    head: not used.
    answers: the vectors of text and pair of each record.
    records: all with a pair, and all or none with a label.

  Returns:
    With labels, the correlations `spearman` and `pearson` of cosines and
    labels. Without, how well pairs are found by their texts among all
    different pairs of these records: the measures of `scores.retrieval`.

  Raises:
    UserError: a record has no pair or no label, or there are no records.
  """
  del head
  for record in records:
    fields.text(record, "pair")
  if any(record.get("label") is not None for record in records):
    return _correlations(answers, [label(record) for record in records])
  documents, relevant = _documents(records)
  return retrieval.score(
    np.array([vectors[0] for vectors in answers]),
    np.array([answers[row][1] for row in documents.values()]),
    relevant,
  )


def baselines(records: Sequence[Record]) -> dict[str, float]:
  """What ranking pairs by chance would score; correlations would be 0."""
  if any(record.get("label") is not None for record in records):
    return {}
  count = max(len(_documents(records)[0]), 1)
  return {
    f"recall_at_{depth}_chance_baseline": min(depth / count, 1.0)
    for depth in _DEPTHS
  }


def _correlations(
  answers: Sequence[Float[np.ndarray, "texts width"]], labels: Sequence[float]
) -> dict[str, float]:
  # Twice the precision, so that noise makes no ranks.
  vectors = np.array([pair[:2] for pair in answers], np.float64)
  vectors /= np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
  cosines = vectors.prod(1).sum(-1)
  found = regression.score(
    np.array(labels)[:, None], cosines[:, None], ["cosine"]
  )
  return {name: found[name] for name in ("spearman", "pearson")}


def _documents(
  records: Sequence[Record],
) -> tuple[dict[str, int], list[set[int]]]:
  """All different pairs, and which of them go with each record's text.

  Returns:
    The pairs, each with the number of the first record that has it, and for
    each record the places of its own pairs among them.
  """
  first: dict[str, int] = {}
  for row, record in enumerate(records):
    first.setdefault(record["pair"], row)
  places = {pair: place for place, pair in enumerate(first)}
  own: dict[str, set[int]] = {}
  for record in records:
    own.setdefault(record["text"], set()).add(places[record["pair"]])
  return first, [own[record["text"]] for record in records]
