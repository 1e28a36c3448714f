import numpy as np
import pytest

from tests import small
from tests.errors import user_error
from tests.tasks import cases
from tests.tasks.cases import task

ROWS = [
  {"text": "the array", "choices": ["names", "it"], "label": 1},
  {"text": "a list", "choices": ["them", "it", "place"], "label": "c"},
  {"text": "it", "choices": ["a list", "is", "names"], "label": "0"},
]


def make(tmp_path, rows, **keys):
  return cases.fit(tmp_path, "multiple_choice", rows, max_length=16, **keys)


def texts(example):
  """What each choice's row reads, special tokens included."""
  return [
    " ".join(
      small.tokenizer().token(i) for i, used in zip(*row, strict=True) if used
    )
    for row in zip(example.token_ids, example.sequence_ids, strict=True)
  ]


def test_labels_are_places_or_letters(tmp_path):
  _, data = make(tmp_path, ROWS)
  examples = [e for made in data.evaluation().examples for e in made]
  assert [e.targets["choice/labels"].tolist() for e in examples] == [1, 2, 0]
  dtypes = {e.targets["choice/labels"].dtype for e in examples}
  assert dtypes == {np.dtype(np.int32)}


def test_all_training_rows_have_as_many_choices(tmp_path):
  _, data = make(tmp_path, ROWS)
  shapes = {
    tuple(
      x.shape for x in (e.token_ids[:, 0], e.targets["inputs/choice_weights"])
    )
    for made in data.evaluation().examples
    for e in made
  }
  assert shapes == {((3,), (3,))}
  batch = data.training(4, 0, None).batch(0, range(4))
  choices = batch.token_ids.shape[1]
  assert batch.targets["inputs/choice_weights"].shape == (4, choices)
  found = batch.targets["inputs/choice_weights"].sum(-1)
  assert sorted(found.tolist()) == [0, 2, 3, 3]
  assert sorted(batch.targets["choice/weights"].tolist()) == [0, 1, 1, 1]


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
  made = task("multiple_choice")
  record = {"text": "the array", "choices": ["names", "it"]}
  (example,) = made.preprocess({**record, "question": question})
  assert texts(example)[0] == row
  if question is None:
    assert texts(made.preprocess(record)[0])[0] == row


def test_what_fills_a_gap_is_taken_as_it_is():
  made = task("multiple_choice")
  record = {"text": "it", "question": "_", "choices": [r"\1 \g<0>", "it"]}
  (example,) = made.preprocess(record)
  assert texts(example)[0].count("[UNK]") > 1


@pytest.mark.parametrize("label", [2, -1, "C", "Z", "AB", "", "²", 1.5, []])
def test_labels_that_are_none_of_the_choices(tmp_path, label):
  rows = [ROWS[0], {**ROWS[0], "label": label}]
  with user_error(r"train.jsonl:2: the label"):
    make(tmp_path, rows)
  _, data = make(tmp_path, rows, bad_rows="skip")
  assert len(data.evaluation().records) == 1


def test_the_most_probable_choice_counts(tmp_path):
  made, data = make(tmp_path, ROWS)
  predictions = [
    {"choice": np.array(probabilities, np.float32)}
    for probabilities in ([0.3, 0.7], [0.4, 0.3, 0.3], [0.5, 0.2, 0.3])
  ]
  assert made.evaluate(ROWS, predictions) == {"accuracy": pytest.approx(2 / 3)}
  baselines = data.baselines(ROWS + ROWS[:1])
  assert baselines == {"accuracy_majority_baseline": 0.5}
