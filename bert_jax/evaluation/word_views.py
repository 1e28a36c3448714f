"""What there is to see of answers that label words."""

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

from bert_jax.data.sources.labelled import Record
from bert_jax.evaluation.view import Confusion, View, worst
from bert_jax.tasks.common import fields, word_labels
from bert_jax.tasks.common.word_labels import Word
from bert_jax.tasks.dialogue import Frame
from bert_jax.tasks.scores import entities, labels
from bert_jax.tasks.scores.entities import Span


def tagging(
  head: Any, answers: Sequence[Sequence[Word]], records: Sequence[Record]
) -> View:
  """Entities by type, tags by tag, and the sentences with most wrong."""
  gold = [word_labels.tags(record) for record in records]
  predicted = [[word.label for word in words] for words in answers]
  mistakes = []
  for record, right, got in zip(records, gold, predicted):
    row, wrong = _compare(record, right, got)
    if wrong:
      mistakes.append((wrong, {**row, "wrong": wrong}))
  # A word without pieces is `O` even where there is no such tag.
  known = dict.fromkeys([*head.labels, word_labels.OUTSIDE])
  used = {tag for tags in predicted for tag in tags} | {*head.labels}
  names = [name for name in known if name in used]
  flat = (
    list(itertools.chain.from_iterable(tags)) for tags in (gold, predicted)
  )
  return View(
    {"entities": entities.per_type(gold, predicted)},
    Confusion(names, labels.confusion_matrix(*flat, names)),
    worst(mistakes),
  )


def dialogue(
  head: Any, answers: Sequence[Frame], records: Sequence[Record]
) -> View:
  """Intents, slots by type, and the sentences with most wrong."""
  gold = [fields.label(record["label"]) for record in records]
  predicted = [frame.intent for frame in answers]
  tags = [word_labels.tags(record) for record in records]
  found = [[word.label for word in frame.words] for frame in answers]
  mistakes = []
  for i, record in enumerate(records):
    row, wrong = _compare(record, tags[i], found[i])
    misheard = gold[i] != predicted[i]
    if wrong or misheard:
      intent = {
        "gold intent": gold[i],
        "predicted intent": predicted[i],
        "probability": answers[i].probability,
      }
      # The surer of a wrong intent the worse, slots being equal.
      size = wrong + misheard * (1 + answers[i].probability)
      mistakes.append((size, {**row, **intent}))
  return View(
    {
      "intents": labels.per_label(gold, predicted, head.intents),
      "slots": entities.per_type(tags, found),
    },
    Confusion(
      head.intents, labels.confusion_matrix(gold, predicted, head.intents)
    ),
    worst(mistakes),
  )


def _compare(
  record: Record, gold: Sequence[str], predicted: Sequence[str]
) -> tuple[dict[str, str], int]:
  """A sentence with what of its entities is wrong, and how many are."""
  right, got = ({*entities.spans(tags)} for tags in (gold, predicted))
  missed, invented = right - got, got - right
  words = record["words"]
  row = {
    "text": " ".join(words),
    "missed": _named(words, missed),
    "wrongly found": _named(words, invented),
  }
  return row, len(missed) + len(invented)


def _named(words: Sequence[str], spans: Iterable[Span]) -> str:
  ordered = sorted(spans, key=lambda span: span.start)
  return "; ".join(
    f"{span.label}: {' '.join(words[span.start : span.end])}"
    for span in ordered
  )
