import json

import numpy as np
import pytest

from bert_jax.settings import UserError
from bert_jax.tasks import multiple_choice
from tests import small
from tests.tasks.cases import ENCODER

ROWS = [
  {"text": "the array", "choices": ["names", "it"], "label": 1},
  {"text": "a list", "choices": ["them", "it", "place"], "label": "c"},
  {"text": "it", "choices": ["a list", "is", "names"], "label": "0"},
]


def write(path, rows):
  path.write_text("\n".join(map(json.dumps, rows)))
  return str(path)


def make(tmp_path, rows, **changes):
  path = write(tmp_path / "choices.jsonl", rows)
  data = multiple_choice.Data(
    **({"train": (path,), "eval": (path,), "max_length": 16} | changes)
  )
  return multiple_choice.make(ENCODER, small.tokenizer(), data=data)


def texts(example):
  """What each choice's row reads, special tokens included."""
  return [
    " ".join(
      small.tokenizer().token(i) for i, used in zip(*row, strict=True) if used
    )
    for row in zip(example.token_ids, example.sequence_ids, strict=True)
  ]


def test_labels_are_places_or_letters(tmp_path):
  task = make(tmp_path, ROWS)
  examples = [e for made in task.data.evaluation().examples for e in made]
  assert [e.targets["labels"].tolist() for e in examples] == [1, 2, 0]
  assert {e.targets["labels"].dtype for e in examples} == {np.dtype(np.int32)}


def test_all_training_rows_have_as_many_choices(tmp_path):
  task = make(tmp_path, ROWS)
  shapes = {
    tuple(x.shape for x in (e.token_ids[:, 0], e.targets["choice_weights"]))
    for made in task.data.evaluation().examples
    for e in made
  }
  assert shapes == {((3,), (3,))}
  batch = task.data.training(4, 0, None).batch(0, range(4))
  choices = batch.token_ids.shape[1]
  assert batch.targets["choice_weights"].shape == (4, choices)
  found = batch.targets["choice_weights"].sum(-1)
  assert sorted(found.tolist()) == [0, 2, 3, 3]
  assert sorted(batch.targets["label_weights"].tolist()) == [0, 1, 1, 1]


@pytest.mark.parametrize(
  ("question", "row"),
  [
    (None, "[CLS] the array [SEP] names [SEP]"),
    ("it sorts", "[CLS] the array [SEP] it sorts names [SEP]"),
    ("it _ them", "[CLS] the array [SEP] it names them [SEP]"),
    ("is ___ in", "[CLS] the array [SEP] is names in [SEP]"),
  ],
)
def test_a_question_goes_around_the_choice(question, row):
  task = multiple_choice.make(ENCODER, small.tokenizer())
  record = {"text": "the array", "choices": ["names", "it"]}
  (example,) = task.prepare({**record, "question": question})
  assert texts(example)[0] == row
  if question is None:
    assert texts(task.prepare(record)[0])[0] == row


def test_what_fills_a_gap_is_taken_as_it_is():
  task = multiple_choice.make(ENCODER, small.tokenizer())
  record = {"text": "it", "question": "_", "choices": [r"\1 \g<0>", "it"]}
  (example,) = task.prepare(record)
  assert texts(example)[0].count("[UNK]") > 1


@pytest.mark.parametrize("label", [2, -1, "C", "Z", "AB", "", "²", 1.5, []])
def test_labels_that_are_none_of_the_choices(tmp_path, label):
  rows = [ROWS[0], {**ROWS[0], "label": label}]
  with pytest.raises(UserError, match=r"choices.jsonl:2: the label"):
    make(tmp_path, rows)
  task = make(tmp_path, rows, bad_rows="skip")
  assert len(task.data.evaluation().records) == 1


def test_the_first_answer_counts(tmp_path):
  task = make(tmp_path, ROWS)
  answers = [[multiple_choice.Choice(place, "", 1.0)] for place in (1, 0, 0)]
  assert task.score(task.head, answers, ROWS) == {
    "accuracy": pytest.approx(2 / 3)
  }
  baselines = task.data.baselines(ROWS + ROWS[:1])
  assert baselines == {"accuracy_majority_baseline": 0.5}
