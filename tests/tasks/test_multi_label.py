"""Any number of labels a text: its answers, and what it learns from."""

import dataclasses
import json

import numpy as np
import pytest
from bert_jax.tasks.multi_label import Head, Label

from bert_jax.settings import UserError, from_dict
from bert_jax.tasks import multi_label
from tests import small
from tests.tasks.cases import ENCODER

LOGITS = np.array([[1.0, 3.0, -2.0], [0.0, 0.0, 5.0]], np.float32)
ROWS = [
  {"text": "it sorts", "labels": ["b", "a"]},
  {"text": "a list", "labels": []},
  {"text": "the names", "labels": ["c"]},
  {"text": "the array", "labels": ["b"]},
]


@pytest.fixture
def make(tmp_path):
  """Makes the task from the records that the two files are to hold."""

  def make(train=ROWS, evaluation=ROWS, head=None, **keys):
    for name, rows in (("train", train), ("eval", evaluation)):
      lines = [json.dumps(row) + "\n" for row in rows]
      (tmp_path / f"{name}.jsonl").write_text("".join(lines))
    section = {
      "train": str(tmp_path / "train.jsonl"),
      "eval": str(tmp_path / "eval.jsonl"),
      **keys,
    }
    data = from_dict(multi_label.Data, section, "config.data")
    return multi_label.make(ENCODER, small.tokenizer(), head, data)

  return make


def answers(probabilities, labels="abc"):
  """Answers, the likeliest first, as the task gives them."""
  return [
    sorted(
      (Label(label, p, False) for label, p in zip(labels, row)),
      key=lambda label: -label.probability,
    )
    for row in probabilities
  ]


def test_each_label_has_its_own_probability_and_threshold():
  head = Head(("one", "two", "three"), thresholds=(0.8, 0.9, 0.1))
  task = multi_label.make(ENCODER, small.tokenizer(), head)
  first, second = task.answer(LOGITS, None, [{}, {}])
  assert [label.label for label in first] == ["two", "one", "three"]
  np.testing.assert_allclose(
    [label.probability for label in first],
    1 / (1 + np.exp(-LOGITS[0, [1, 0, 2]])),
    rtol=1e-5,
  )
  assert [label.chosen for label in first] == [True, False, True]
  assert [label.chosen for label in second] == [True, False, False]
  assert [len(row) for row in task.answer(LOGITS, None, [{}], top_k=2)] == [2]


def test_a_half_is_enough_by_default():
  task = multi_label.make(ENCODER, small.tokenizer())
  assert task.head.thresholds == (0.5, 0.5)
  (found,) = task.answer(np.array([[0.0, -1e-3]]), None, [{}])
  assert [label.chosen for label in found] == [True, False]


def test_labels_are_those_of_the_training_records(make):
  task = make()
  assert task.head == Head(("a", "b", "c"), 32)
  expected = [[1, 1, 0], [0, 0, 0], [0, 0, 1], [0, 1, 0]]
  for (example,), row in zip(task.data.evaluation().examples, expected):
    assert example.targets["labels"].tolist() == row
    assert example.targets["labels"].dtype == np.float32
    assert example.targets["label_weights"] == 1


def test_targets_are_as_wide_as_the_head(make):
  stream = make().data.training(3, 0, None)
  assert stream.batch(0, range(3)).targets["labels"].shape == (3, 3)


def test_a_head_that_covers_the_data_keeps_its_labels(make):
  wider = Head(("c", "b", "a", "z"), thresholds=(0.1, 0.2, 0.3, 0.4))
  assert make(head=wider).head.labels == ("c", "b", "a", "z")
  assert make(head=Head(("b", "z"))).head.labels == ("a", "b", "c")


def test_tables_separate_the_labels(tmp_path):
  path = tmp_path / "rows.tsv"
  path.write_text("text\tlabels\nit\tb|a\nlist\t\nnames\tb\n")
  section = {"train": str(path), "eval": str(path)}
  data = from_dict(multi_label.Data, section, "config.data")
  task = multi_label.make(ENCODER, small.tokenizer(), data=data)
  found = [x.targets["labels"] for (x,) in task.data.evaluation().examples]
  np.testing.assert_array_equal(found, [[1, 1], [0, 0], [0, 1]])


@pytest.mark.parametrize(
  ("row", "message"),
  [
    ({"text": "a", "labels": ["d"]}, "labels: unknown 'd'; known: a, b, c"),
    ({"text": "a", "labels": ["a", None]}, "the label None: expected a name"),
    ({"text": "a", "labels": "a"}, "field 'labels': expected a list"),
    ({"text": " ", "labels": ["a"]}, "the field 'text' is empty"),
    ({"text": "a"}, "has no field 'labels'"),
  ],
)
def test_a_record_that_is_not_for_the_task_is_named_by_its_place(
  make, row, message
):
  with pytest.raises(UserError, match=rf"eval\.jsonl:5: .*{message}"):
    make(evaluation=[*ROWS, row])
  task = make(evaluation=[*ROWS, row], bad_rows="skip")
  assert list(task.data.evaluation().records) == ROWS


def test_no_label_at_all_is_said(make):
  with pytest.raises(UserError, match=r"config\.data\.train: there are no la"):
    make([{"text": "a", "labels": []}])


def test_tuned_thresholds_are_kept_and_used(make):
  task = make()
  # All are below a half, but in the right order.
  low = [[0.3, 0.4, 0.1], [0.2, 0.1, 0.1], [0.1, 0.1, 0.3], [0.1, 0.2, 0.1]]
  untuned = task.score(task.head, answers(low), ROWS)
  assert untuned["micro_f1"] == untuned["micro_f1_untuned"] == 0
  head = task.tune(answers(low), ROWS)
  np.testing.assert_allclose(head.thresholds, [0.25, 0.15, 0.2])
  assert dataclasses.replace(head, thresholds=()) == task.head
  tuned = task.score(head, answers(low), ROWS)
  assert tuned["micro_f1"] == tuned["subset_accuracy"] == 1
  assert tuned["micro_f1_untuned"] == 0
  assert tuned["macro_average_precision"] == 1
  again = from_dict(Head, json.loads(json.dumps(dataclasses.asdict(head))))
  assert again == head


def test_the_baseline_is_the_best_constant_answer(make):
  found = make().data.baselines(ROWS)
  gold = np.array([[1, 1, 0], [0, 0, 0], [0, 0, 1], [0, 1, 0]])
  best = 0
  for constant in np.ndindex(2, 2, 2):
    right = (gold * constant).sum()
    best = max(best, 2 * right / (gold.sum() + 4 * sum(constant)))
  assert found["micro_f1_majority_baseline"] == pytest.approx(best)
  assert found["subset_accuracy_majority_baseline"] == 1 / 4
  nothing = make().data.baselines([{"labels": []}])
  assert nothing["micro_f1_majority_baseline"] == 0


@pytest.mark.parametrize(
  ("keys", "message"),
  [
    ({"labels": ("a", "a")}, "labels: expected no name twice"),
    ({"class_weights": {}}, "class_weights: unknown key"),
  ],
)
def test_settings_are_checked(make, keys, message):
  with pytest.raises(UserError, match=rf"config\.data\.{message}"):
    make(**keys)
