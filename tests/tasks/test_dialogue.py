"""A composition of two targets: the intent of a sentence, and its slots."""

import jax
import numpy as np
import pytest

from bert_jax.data.grouping import pad
from bert_jax.tasks.inputs.words import Words
from bert_jax.tasks.targets.class_label import ClassLabel
from bert_jax.tasks.targets.token_labels import TokenLabels
from tests import pytrees
from tests.tasks import cases
from tests.tasks.cases import LONG

INTENTS = ("find", "sort")
LABELS = ("O", "B-thing", "I-thing", "B-place")
SENTENCES = [
  (["sort", "the", "list"], ["O", "B-thing", "I-thing"], "sort"),
  (["it", "is", "in", "place"], ["O", "O", "O", "B-place"], "find"),
  (["sorted", "names"], ["O", "B-thing"], "sort"),
  ([*LONG.split(), "list"], ["O"] * len(LONG.split()) + ["B-thing"], "find"),
]


def make(intents=INTENTS, labels=LABELS):
  return cases.task(
    "dialogue",
    Words(16),
    intent=ClassLabel(intents),
    slots=TokenLabels(labels, entities=True),
  )


def record(sentence):
  return dict(zip(("words", "tags", "label"), sentence))


def outputs_for(batch, intents, tags):
  """Logits of 3 for these ids of rows and, row by row, of first pieces."""
  rows = len(batch.token_ids)
  found = {
    "intent": np.zeros((rows, len(INTENTS)), np.float32),
    "slots": np.zeros((*batch.token_ids.shape, len(LABELS)), np.float32),
  }
  found["intent"][np.arange(len(intents)), intents] = 3
  for (row, place), tag in zip(
    np.argwhere(batch.targets["inputs/word_weights"]), tags, strict=True
  ):
    found["slots"][row, place, tag] = 3
  return found


def answer(task, record, examples, intents, tags, **options):
  batch = pad(examples, task.axes)
  outputs = outputs_for(batch, intents, tags)
  rows = task.predict(outputs, batch, [record] * len(examples))
  return task.decode(record, task.merge(record, rows), **options)


def test_an_answer_has_the_intent_and_the_slots_where_they_are():
  task = make()
  text = "It sorted  the list."
  given = {"text": text}
  made = (task, given, task.preprocess(given), [1], [0, 0, 1, 2, 3])
  found = answer(*made)
  assert found["intent"][0].label == "sort"
  probability = found["intent"][0].probability
  assert probability == pytest.approx(np.exp(3) / (np.exp(3) + 1))
  assert [(s.text, s.label) for s in found["slots"]] == [
    ("the list", "thing"),
    (".", "place"),
  ]
  assert all(text[s.start : s.end] == s.text for s in found["slots"])
  words = answer(*made, entities=False)["slots"]
  labels = ["O", "O", "B-thing", "I-thing", "B-place"]
  assert [word.label for word in words] == labels


def test_the_intent_of_a_long_sentence_is_that_of_its_first_chunk():
  task = make()
  given = record(SENTENCES[3])
  examples = task.preprocess(given)
  assert len(examples) > 2
  weights = [float(e.targets["intent/weights"]) for e in examples]
  assert weights == [1] + [0] * (len(examples) - 1)
  assert {int(e.targets["intent/labels"]) for e in examples} == {0}
  assert sum(e.targets["slots/weights"].sum() for e in examples) == len(
    given["words"]
  )
  intents = [0] + [1] * (len(examples) - 1)
  tags = [LABELS.index(tag) for tag in given["tags"]]
  made = (task, given, examples, intents, tags)
  found = answer(*made)
  assert found["intent"][0].label == "find"
  last = len(given["words"]) - 1
  assert [(s.start, s.end) for s in found["slots"]] == [(last, last + 1)]
  words = answer(*made, entities=False)["slots"]
  assert [word.word for word in words] == given["words"]
  assert [word.label for word in words] == given["tags"]


def test_the_loss_is_that_of_each_target():
  task = make()
  batch = pad([task.preprocess(record(s))[0] for s in SENTENCES[:3]], task.axes)
  params = pytrees.of_task(task)
  shapes = jax.eval_shape(task.module.apply, {"params": params}, batch)
  outputs = pytrees.draw(shapes)
  found = task.loss(outputs, batch)
  assert found.keys() == {"intent_loss", "slots_loss"}
  for name, target in task.targets.items():
    arrays = {
      path.removeprefix(f"{name}/"): array
      for path, array in batch.targets.items()
      if path.startswith(f"{name}/")
    }
    own = target.loss(outputs[name], arrays, batch)["loss"].value()
    assert found[f"{name}_loss"].value() == pytest.approx(float(own), rel=1e-6)


def predictions(intents, tags):
  return [
    {
      "intent": np.float32([intent == name for name in INTENTS]),
      "slots": cases.labelled([LABELS.index(tag) for tag in own]),
    }
    for intent, own in zip(intents, tags)
  ]


def test_metrics_of_intents_slots_and_sentences():
  task = make()
  records = [record(s) for s in SENTENCES[:3]]
  intents = [given["label"] for given in records]
  tags = [given["tags"] for given in records]
  perfect = task.evaluate(records, predictions(intents, tags))
  assert set(perfect.values()) == {1.0}
  # The first: another slot; the second: another intent; the third is right.
  tags = [["B-place", "B-thing", "I-thing"], *tags[1:]]
  intents = ["sort", "sort", "sort"]
  found = task.evaluate(records, predictions(intents, tags))
  expected = {
    "sentence_accuracy": 1 / 3,
    "intent_accuracy": 2 / 3,
    "slots_precision": 3 / 4,
    "slots_recall": 1,
    "slots_f1": 6 / 7,
    "slots_accuracy": 8 / 9,
  }
  assert next(iter(found)) == "sentence_accuracy"
  assert {name: found[name] for name in expected} == pytest.approx(expected)


def folder_of(path, sentences):
  path.mkdir()
  columns = [[], [], []]
  for words, tags, intent in sentences:
    for column, value in zip(
      columns, (" ".join(words), " ".join(tags), intent)
    ):
      column.append(value)
  for name, lines in zip(("seq.in", "seq.out", "label"), columns):
    (path / name).write_text("\n".join(lines) + "\n")
  return str(path)


def test_intents_and_tags_come_from_the_training_data(tmp_path):
  files = {
    "train": folder_of(tmp_path / "train", SENTENCES),
    "eval": folder_of(tmp_path / "valid", SENTENCES[:3]),
  }
  task, data = cases.fit(tmp_path, "dialogue", [], max_length=16, **files)
  labels = ("O", "B-place", "B-thing", "I-thing")
  assert task.targets == {
    "intent": ClassLabel(("find", "sort")),
    "slots": TokenLabels(labels, entities=True),
  }
  baseline = data.baselines(data.evaluation().records)
  majority = baseline["intent_accuracy_majority_baseline"]
  assert majority == pytest.approx(2 / 3)
  batch = data.training(4, 0, None).batch(0, range(4))
  assert batch.targets["intent/labels"].shape == (4,)
  assert batch.targets["slots/labels"].shape == batch.token_ids.shape
  # Those of a pretrained model stay where they cover the data.
  known = make(("sort", "find"), (*labels[::-1], "B-time"))
  again, _ = cases.fit(tmp_path, "dialogue", [], pretrained=known, **files)
  for name, target in again.targets.items():
    assert target.labels == known.targets[name].labels


def test_labelled_and_other_records_are_answered_together():
  found = cases.model("dialogue")(
    [
      {"text": "the list"},
      {"words": ["a"], "tags": ["LABEL_1"], "label": "LABEL_1"},
    ],
    entities=False,
  )
  assert [len(x["slots"]) for x in found] == [2, 1]
