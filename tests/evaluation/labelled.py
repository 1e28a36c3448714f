"""Labelled records for each task, and heads that they are for."""

from bert_jax.tasks.dialogue import Head

from bert_jax.tasks import classification, multi_label, tagging

TAGS = ("O", "B-LIST", "I-LIST")
HEADS = {
  "classification": classification.Head(("no", "yes")),
  "dialogue": Head(("ask", "tell"), TAGS),
  "multi_label": multi_label.Head(("list", "name"), thresholds=(0.3, 0.7)),
  "tagging": tagging.Head(TAGS),
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
