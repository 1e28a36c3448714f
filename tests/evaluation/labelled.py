"""Labelled records for each task, and models that they are for."""

from bert_jax.model import Model
from bert_jax.tasks.targets.class_label import ClassLabel
from bert_jax.tasks.targets.multi_label import MultiLabel
from bert_jax.tasks.targets.token_labels import TokenLabels
from tests import pytrees
from tests.tasks import cases

TAGS = ("O", "B-LIST", "I-LIST")
TARGETS = {
  "classification": {"label": ClassLabel(("no", "yes"))},
  "dialogue": {
    "intent": ClassLabel(("ask", "tell")),
    "slots": TokenLabels(TAGS, entities=True),
  },
  "multi_label": {
    "labels": MultiLabel(("list", "name"), thresholds=(0.3, 0.7))
  },
  "tagging": {"tags": TokenLabels(TAGS)},
}
WORDS = {"words": ["the", "list", "of", "names"]}
SPANS = [{"text": "array", "start": 4}]
RECORDS = {
  "classification": [
    {"text": "the array", "label": "yes"},
    {"text": "it is", "pair": "a list", "label": "no"},
  ],
  "dialogue": [
    {**WORDS, "tags": ["O", "B-LIST", "O", "O"], "label": "ask"},
    {**WORDS, "tags": ["O", "O", "O", "O"], "label": "tell"},
  ],
  "embedding": [
    {"text": "the array", "pair": "a list"},
    {"text": "names", "pair": "it sorts"},
  ],
  "generation": [
    {"text": "the array", "target": "a list of names"},
    {"turns": ["it is", "in place"], "target": "it sorts"},
  ],
  "multi_label": [
    {"text": "the array", "labels": ["list", "name"]},
    {"text": "it is", "labels": []},
  ],
  "multiple_choice": [
    {"text": "the", "choices": ["list", "it", "names"], "label": 1},
    {"text": "a", "choices": ["it", "place"], "label": "A"},
  ],
  "question_answering": [
    {"question": "a", "context": "the array is", "answers": SPANS, "id": "x"},
    {"question": "it", "context": "the list", "answers": []},
  ],
  "regression": [
    {"text": "the array", "values": [1.5]},
    {"text": "it is", "pair": "a list", "label": "-2"},
  ],
  "tagging": [
    {**WORDS, "tags": ["O", "B-LIST", "I-LIST", "O"]},
    {**WORDS, "tags": ["O", "O", "O", "O"]},
  ],
}


def task(name):
  """The task, with the labels of the records above."""
  return cases.task(name, **TARGETS.get(name, {}))


def model(name):
  made = task(name)
  return Model(made, pytrees.of_task(made), batch_size=4)
