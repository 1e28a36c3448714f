"""What there is to see of an evaluation besides its scores, for each task.

A new task without a view has its scores alone shown; one is added here.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from bert_jax.data.sources.labelled import Record
from bert_jax.evaluation import pair_views, word_views
from bert_jax.evaluation.measuring import Evaluation
from bert_jax.evaluation.view import Confusion, View, texts, worst
from bert_jax.tasks import multiple_choice, question_answering
from bert_jax.tasks.common import fields, values
from bert_jax.tasks.multiple_choice import Choice
from bert_jax.tasks.scores import answers as answer_scores
from bert_jax.tasks.scores import counts
from bert_jax.tasks.scores import labels as label_scores
from bert_jax.tasks.scores import regression as value_scores

# Characters of a context that are shown before an answer.
_BEFORE = 100


def view(evaluation: Evaluation) -> View:
  """Tables, confusion matrix and mistakes, as far as the task has them."""
  make = _VIEWS.get(evaluation.task.name)
  if make is None:
    return View()
  return make(evaluation.task.head, evaluation.answers, evaluation.records)


def _classification(
  head: Any, answers: Sequence[Any], records: Sequence[Record]
) -> View:
  gold = [fields.label(record["label"]) for record in records]
  predicted = [found[0].label for found in answers]
  mistakes = []
  for record, right, found in zip(records, gold, answers):
    if found[0].label != right:
      of_right = next(x.probability for x in found if x.label == right)
      row = {
        **texts(record),
        "gold": right,
        "predicted": found[0].label,
        "probability": found[0].probability,
        "probability of gold": of_right,
      }
      mistakes.append((found[0].probability, row))
  return View(
    {"labels": label_scores.per_label(gold, predicted, head.labels)},
    Confusion(
      head.labels, label_scores.confusion_matrix(gold, predicted, head.labels)
    ),
    worst(mistakes),
  )


def _multi_label(
  head: Any, answers: Sequence[Any], records: Sequence[Record]
) -> View:
  places = {label: place for place, label in enumerate(head.labels)}
  gold, chosen, chances = np.zeros((3, len(records), len(places)))
  mistakes = []
  for row, (record, found) in enumerate(zip(records, answers)):
    names = [fields.label(name) for name in record["labels"]]
    gold[row, [places[name] for name in names]] = 1
    for label in found:
      chosen[row, places[label.label]] = label.chosen
      chances[row, places[label.label]] = label.probability
    wrong = gold[row] != chosen[row]
    if wrong.any():
      # By how much the probabilities of the wrong ones are off, all together.
      off = float(np.abs(gold[row] - chances[row])[wrong].sum())
      seen = {
        **texts(record),
        "gold": ", ".join(names),
        "predicted": ", ".join(
          f"{x.label} {x.probability:.2f}" for x in found if x.chosen
        ),
        "error": off,
      }
      mistakes.append((off, seen))
  rates = counts.rates((gold * chosen).sum(0), chosen.sum(0), gold.sum(0))
  columns = {**rates, "support": gold.sum(0), "threshold": head.thresholds}
  table = {
    label: {name: float(column[place]) for name, column in columns.items()}
    for label, place in places.items()
  }
  return View({"labels": table}, mistakes=worst(mistakes))


def _regression(
  head: Any, answers: Sequence[Any], records: Sequence[Record]
) -> View:
  gold = np.array([values.of(head.labels, record) for record in records])
  found = np.array([[value.value for value in row] for row in answers])
  errors = np.abs(found - gold) / np.array(head.scales)
  mistakes = []
  for record, right, got, off in zip(records, gold, found, errors):
    row: dict[str, Any] = texts(record)
    for i, label in enumerate(head.labels):
      row |= {f"{label}, gold": right[i], f"{label}, predicted": got[i]}
    mistakes.append((off.max(), row))
  table = {}
  for i, label in enumerate(head.labels):
    own = (gold[:, [i]], found[:, [i]])
    table[label] = value_scores.score(*own, [label])
  return View({"values": table}, mistakes=worst(mistakes))


def _multiple_choice(
  head: Any, answers: Sequence[Any], records: Sequence[Record]
) -> View:
  def is_right(choice: Choice, record: Record) -> bool:
    return multiple_choice.score(head, [[choice]], [record])["accuracy"] == 1

  mistakes = []
  for record, found in zip(records, answers):
    if not is_right(found[0], record):
      right = next(choice for choice in found if is_right(choice, record))
      row = {
        **texts(record, "text", "question"),
        "gold": right.choice,
        "predicted": found[0].choice,
        "probability": found[0].probability,
      }
      mistakes.append((found[0].probability, row))
  return View(mistakes=worst(mistakes))


def _question_answering(
  head: Any, answers: Sequence[Any], records: Sequence[Record]
) -> View:
  predicted = question_answering.predictions(
    head, answers, [{**r, "id": n} for n, r in enumerate(records)]
  )
  mistakes = []
  for number, (record, found) in enumerate(zip(records, answers)):
    text = predicted[str(number)]
    gold = [answer["text"] for answer in record["answers"]]
    f1 = answer_scores.f1(gold, text)
    if f1 < 1:
      score = next((a.score for a in found if a.text == text), 0.0)
      row = {
        **texts(record, "question"),
        "gold": " | ".join(dict.fromkeys(gold)) or "(no answer)",
        "predicted": text or "(no answer)",
        "probability": score,
        "F1": f1,
        "context": _around(record, found),
      }
      mistakes.append((score * (1 - f1), row))
  return View(mistakes=worst(mistakes))


def _around(record: Record, found: Sequence[Any]) -> str:
  """The part of a context where the answer is, or where it was seen."""
  gold = [answer["start"] for answer in record["answers"]]
  seen = [answer.start for answer in found if answer.text]
  place = next(iter(gold + seen), 0)
  begin, end = max(place - _BEFORE, 0), place + 2 * _BEFORE
  part = record["context"][begin:end]
  more = "…" if end < len(record["context"]) else ""
  return f"{'…' if begin else ''}{part}{more}"


_VIEWS: Mapping[str, Callable[[Any, Sequence[Any], Sequence[Record]], View]] = {
  "classification": _classification,
  "dialogue": word_views.dialogue,
  "embedding": pair_views.embedding,
  "multi_label": _multi_label,
  "multiple_choice": _multiple_choice,
  "question_answering": _question_answering,
  "regression": _regression,
  "tagging": word_views.tagging,
}
