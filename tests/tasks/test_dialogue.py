import json

import jax
import numpy as np
import pytest

from bert_jax.data.grouping import pad
from bert_jax.models.heads import JointOutputs
from bert_jax.settings import UserError, from_dict
from bert_jax.tasks import answering, dialogue
from tests import small
from tests.tasks.cases import ENCODER, LONG, predictor

INTENTS = ("find", "sort")
LABELS = ("O", "B-thing", "I-thing", "B-place")
HEAD = dialogue.Head(INTENTS, LABELS, 16)
SENTENCES = [
  (["sort", "the", "list"], ["O", "B-thing", "I-thing"], "sort"),
  (["it", "is", "in", "place"], ["O", "O", "O", "B-place"], "find"),
  (["sorted", "names"], ["O", "B-thing"], "sort"),
  ([*LONG.split(), "list"], ["O"] * len(LONG.split()) + ["B-thing"], "find"),
]


def make(head=HEAD, data=None):
  return dialogue.make(ENCODER, small.tokenizer(), head, data=data)


def record(sentence):
  return dict(zip(("words", "tags", "label"), sentence))


def outputs_for(batch, intents, tags, head=HEAD):
  """Logits of 3 for these ids of rows and, row by row, of first pieces."""
  rows = len(batch.token_ids)
  found = JointOutputs(
    np.zeros((rows, len(head.intents)), np.float32),
    np.zeros((*batch.token_ids.shape, len(head.labels)), np.float32),
  )
  found.intents[np.arange(len(intents)), intents] = 3
  for (row, place), tag in zip(
    np.argwhere(batch.targets["word_weights"]), tags, strict=True
  ):
    found.slots[row, place, tag] = 3
  return found


def test_an_answer_has_the_intent_and_the_slots_where_they_are():
  task = make()
  text = "It sorted  the list."
  examples = task.prepare({"text": text})
  batch = pad(examples, task.axes)
  outputs = outputs_for(batch, [1], [0, 0, 1, 2, 3])
  frame = task.join(task.answer(outputs, batch, [{"text": text}]))
  assert frame.intent == "sort"
  assert frame.probability == pytest.approx(np.exp(3) / (np.exp(3) + 1))
  assert [(s.text, s.label) for s in frame.slots] == [
    ("the list", "thing"),
    (".", "place"),
  ]
  assert all(text[s.start : s.end] == s.text for s in frame.slots)
  labels = ["O", "O", "B-thing", "I-thing", "B-place"]
  assert [word.label for word in frame.words] == labels


def test_the_intent_of_a_long_sentence_is_that_of_its_first_window():
  task = make()
  given = record(SENTENCES[3])
  examples = task.prepare(given)
  assert len(examples) > 2
  weights = [float(e.targets["intent_weights"]) for e in examples]
  assert weights == [1] + [0] * (len(examples) - 1)
  assert {int(e.targets["intents"]) for e in examples} == {0}
  assert sum(e.targets["label_weights"].sum() for e in examples) == len(
    given["words"]
  )
  batch = pad(examples, task.axes)
  intents = [0] + [1] * (len(examples) - 1)
  tags = [LABELS.index(tag) for tag in given["tags"]]
  outputs = outputs_for(batch, intents, tags)
  frame = task.join(task.answer(outputs, batch, [given] * len(examples)))
  assert frame.intent == "find"
  assert [word.word for word in frame.words] == given["words"]
  assert [word.label for word in frame.words] == given["tags"]
  last = len(given["words"]) - 1
  assert [(s.start, s.end) for s in frame.slots] == [(last, last + 1)]


def test_the_loss_is_that_of_intents_and_that_of_tags():
  task = make()
  examples = [task.prepare(record(s))[0] for s in SENTENCES[:3]]
  batch = pad(examples, task.axes)
  rng = np.random.default_rng(0)
  shapes = (
    (len(batch.token_ids), len(INTENTS)),
    (
      *batch.token_ids.shape,
      len(LABELS),
    ),
  )
  outputs = JointOutputs(*(rng.normal(size=s).astype("f") for s in shapes))
  logs = [np.asarray(jax.nn.log_softmax(x)) for x in outputs]
  intents = [
    -logs[0][row, INTENTS.index(intent)]
    for row, (_, _, intent) in enumerate(SENTENCES[:3])
  ]
  # The first pieces; "sorted" in the third sentence has two.
  places = [[1, 2, 3], [1, 2, 3, 4], [1, 3]]
  tags = [
    -logs[1][row, place, LABELS.index(tag)]
    for row, (_, names, _) in enumerate(SENTENCES[:3])
    for place, tag in zip(places[row], names, strict=True)
  ]
  found = {k: mean.value() for k, mean in task.loss(outputs, batch).items()}
  expected = {"intent_loss": np.mean(intents), "slot_loss": np.mean(tags)}
  assert found == pytest.approx(expected, rel=1e-5)


def frames(task, records, intents, tags):
  """The answers of a model that predicts these intents and tags."""
  head = task.head
  prepared = [task.prepare(given) for given in records]
  of = {made[0].token_ids.tobytes(): n for n, made in enumerate(prepared)}

  def forward(batch):
    used = [
      of[row[ids > 0].tobytes()]
      for row, ids in zip(batch.token_ids, batch.sequence_ids)
      if ids.any()
    ]
    return outputs_for(
      batch,
      [head.intents.index(intents[n]) for n in used],
      [head.labels.index(tag) for n in used for tag in tags[n]],
      head,
    )

  return answering.answers(task, records, prepared, forward, 4)


def test_scores_of_intents_slots_and_sentences():
  task = make()
  records = [record(s) for s in SENTENCES[:3]]
  intents = [given["label"] for given in records]
  tags = [given["tags"] for given in records]
  perfect = task.score(task.head, frames(task, records, intents, tags), records)
  assert set(perfect.values()) == {1.0}
  # The first: another slot; the second: another intent; the third is right.
  tags = [["B-place", "B-thing", "I-thing"], *tags[1:]]
  intents = ["sort", "sort", "sort"]
  answers = frames(task, records, intents, tags)
  assert task.score(task.head, answers, records) == pytest.approx(
    {
      "intent_accuracy": 2 / 3,
      "slot_precision": 3 / 4,
      "slot_recall": 1,
      "slot_f1": 6 / 7,
      "slot_accuracy": 8 / 9,
      "sentence_accuracy": 1 / 3,
    }
  )


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
  task = make(None, from_dict(dialogue.Data, files | {"max_length": 16}))
  labels = ("O", "B-place", "B-thing", "I-thing")
  assert task.head == dialogue.Head(("find", "sort"), labels, 16)
  assert (task.model.num_intents, task.model.num_slots) == (2, 4)
  held_out = task.data.evaluation()
  baseline = task.data.baselines(held_out.records)
  expected = {"intent_accuracy_majority_baseline": 2 / 3}
  assert baseline == pytest.approx(expected)
  batch = task.data.training(4, 0, None).batch(0, range(4))
  assert batch.targets["intents"].shape == (4,)
  assert batch.targets["labels"].shape == batch.token_ids.shape
  # Those of a model to go on from stay where they cover the data.
  head = dialogue.Head(("sort", "find"), (*labels[::-1], "B-time"))
  again = make(head, from_dict(dialogue.Data, files))
  assert again.head.intents == head.intents
  assert again.head.labels == head.labels


@pytest.mark.parametrize(
  ("sentence", "message"),
  [
    ((["a"], ["O"], "stop"), r"label: unknown 'stop'; known: find, sort"),
    ((["a"], ["B-time"], "find"), r"tags: unknown 'B-time'; known: O, B-pl"),
    ((["a", "b"], ["O"], "find"), r"expected one for each of 2 words, got 1"),
    ((["a"], ["O"], None), r"label"),
    ((["a"], ["O"], [1]), r"the label \[1\]: expected a name or a number"),
  ],
)
def test_what_does_not_fit_is_a_bad_row(tmp_path, sentence, message):
  path = tmp_path / "dev.jsonl"
  lines = [json.dumps(record(s)) for s in (*SENTENCES[:3], sentence)]
  path.write_text("\n".join(lines) + "\n")
  files = {
    "train": folder_of(tmp_path / "train", SENTENCES),
    "eval": str(path),
  }
  with pytest.raises(UserError, match=rf"dev.jsonl:4: .*{message}") as error:
    make(None, from_dict(dialogue.Data, files))
  assert "\n" not in str(error.value)
  data = from_dict(dialogue.Data, files | {"bad_rows": "skip"})
  assert len(make(None, data).data.evaluation().records) == 3


def test_labelled_and_other_records_are_answered_together():
  found = predictor("dialogue")(
    [
      {"text": "the list"},
      {"words": ["a"], "tags": ["LABEL_1"], "label": "INTENT_1"},
    ]
  )
  assert [len(frame.words) for frame in found] == [2, 1]
