"""Any number of labels a text: its answers, and what it learns from."""

import dataclasses
import json

import numpy as np
import pytest

from bert_jax.settings import from_dict
from bert_jax.tasks.targets.multi_label import MultiLabel
from tests.errors import user_error
from tests.tasks import cases

LOGITS = np.array([[1.0, 3.0, -2.0], [0.0, 0.0, 5.0]], np.float32)
ROWS = [
  {"text": "it sorts", "labels": ["b", "a"]},
  {"text": "a list", "labels": []},
  {"text": "the names", "labels": ["c"]},
  {"text": "the array", "labels": ["b"]},
]


@pytest.fixture
def make(tmp_path):
  def fit(rows=ROWS, evaluation=None, pretrained=None, **labels):
    given = (rows, evaluation, pretrained)
    return cases.fit(tmp_path, "multi_label", *given, labels=labels)

  return fit


def target(made):
  return made[0].targets["labels"]


def predicted(target, logits, **options):
  predictions = target.predict(logits, None, [{}] * len(logits), None)
  return [target.decode({}, p, None, **options) for p in predictions]


def test_each_label_has_its_own_probability_and_threshold():
  labels = MultiLabel(("one", "two", "three"), thresholds=(0.8, 0.9, 0.1))
  first, second = predicted(labels, LOGITS)
  assert [label.label for label in first] == ["two", "one", "three"]
  np.testing.assert_allclose(
    [label.probability for label in first],
    1 / (1 + np.exp(-LOGITS[0, [1, 0, 2]])),
    rtol=1e-5,
  )
  assert [label.chosen for label in first] == [True, False, True]
  assert [label.chosen for label in second] == [True, False, False]
  assert [len(row) for row in predicted(labels, LOGITS[:1], top_k=2)] == [2]


def test_a_half_is_enough_by_default():
  (found,) = predicted(MultiLabel(), np.array([[0.0, -1e-3]]))
  assert [label.chosen for label in found] == [True, False]


def test_labels_are_those_of_the_training_records(make):
  made = make()
  assert target(made) == MultiLabel(("a", "b", "c"))
  expected = [[1, 1, 0], [0, 0, 0], [0, 0, 1], [0, 1, 0]]
  for (example,), row in zip(made[1].evaluation().examples, expected):
    assert example.targets["labels/labels"].tolist() == row
    assert example.targets["labels/labels"].dtype == np.float32
    assert example.targets["labels/weights"] == 1


@pytest.mark.parametrize(
  ("rows", "labels", "expected"),
  [
    ([[0, 1, 0], [1, 0, 0]], (), [[0, 1, 0], [1, 0, 0]]),
    ([[False, True, True], [1.0, 0.0, 0.0]], (), [[0, 1, 1], [1, 0, 0]]),
    ([["0", "1"], ["1", "0"]], (), [[0, 1], [1, 0]]),
    ([[1, 1], [0, 0], []], (), [[1, 1], [0, 0], [0, 0]]),
    ([[0, 1], [1, 0]], ("a", "b"), [[0, 1], [1, 0]]),
    ([["b"], [0, 1]], ("a", "b"), [[0, 1], [0, 1]]),
    ([[1], [0]], ("a",), [[1], [0]]),
    ([[0, 1, 1], [1]], ("0", "1", "2"), [[0, 1, 1], [0, 1, 0]]),
  ],
)
def test_multi_hot_lists_are_positions(make, rows, labels, expected):
  made = make([{"text": "it", "labels": row} for row in rows], labels=labels)
  names = labels or tuple(f"LABEL_{id}" for id in range(len(expected[0])))
  assert target(made).names == names
  found = [x.targets["labels/labels"] for (x,) in made[1].evaluation().examples]
  np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
  "rows", [[[0], [1], [0, 1]], [[0], [2], [0, 1]], [[0], [1], [1]]]
)
def test_numbers_of_labels_are_names(make, rows):
  made = make([{"text": "it", "labels": row} for row in rows])
  assert target(made).names == tuple(sorted({str(x) for r in rows for x in r}))


def test_multi_hot_lists_of_a_pretrained_model(make):
  rows = [{"text": "it", "labels": row} for row in ([0, 1], [1, 1])]
  pretrained = MultiLabel(("toxic", "rude"))
  assert target(make(rows, pretrained=pretrained)).names == pretrained.names
  chances = [np.array([0.0, 1.0]), np.array([1.0, 1.0])]
  assert pretrained.evaluate(rows, chances)["subset_accuracy"] == 1


@pytest.mark.parametrize("other", [[0, 1, 1, 0], ["a"]])
def test_a_list_of_another_length_is_a_bad_row(make, other):
  rows = [[0, 1, 0], [1, 0, 0], other]
  rows = [{"text": "it", "labels": row} for row in rows]
  with user_error(r"train.jsonl:[13]: .*'labels'|unknown 'a'"):
    make(rows)


def test_tables_separate_the_labels(tmp_path):
  table = "text\tlabels\nit\tb|a\nlist\t\nnames\tb\n"
  _, data = cases.fit(tmp_path, "multi_label", table)
  found = [x.targets["labels/labels"] for (x,) in data.evaluation().examples]
  np.testing.assert_array_equal(found, [[1, 1], [0, 0], [0, 1]])


def test_a_label_that_training_never_saw_is_an_error_of_the_model(make):
  row = {"text": "a", "labels": ["a", "d"]}
  task, data = make(evaluation=[*ROWS, row])
  *_, (example,) = data.evaluation().examples
  np.testing.assert_array_equal(example.targets["labels/labels"], [1, 0, 0])
  chances = np.array([[1, 1, 0], [0, 0, 0], [0, 0, 1], [0, 1, 0], [1, 0, 0.0]])
  predictions = [{"labels": row} for row in chances]
  found = task.evaluate([*ROWS, row], predictions)
  assert found["micro_precision"] == 1
  assert found["micro_recall"] == 5 / 6
  assert found["subset_accuracy"] == 4 / 5
  tuned = task.tune([*ROWS, row], predictions)
  assert len(tuned.targets["labels"].thresholds) == 3


def test_no_label_at_all_is_said(make):
  with user_error(r"config\.data\.train: there are no la"):
    make([{"text": "a", "labels": []}])


def test_tuned_thresholds_are_kept_and_used(make):
  before = target(make())
  # All are below a half, but in the right order.
  low = [[0.3, 0.4, 0.1], [0.2, 0.1, 0.1], [0.1, 0.1, 0.3], [0.1, 0.2, 0.1]]
  low = list(np.array(low))
  untuned = before.evaluate(ROWS, low)
  assert untuned["micro_f1"] == untuned["micro_f1_untuned"] == 0
  after = before.tune(ROWS, low)
  np.testing.assert_allclose(after.thresholds, [0.25, 0.15, 0.2])
  assert dataclasses.replace(after, thresholds=()) == before
  tuned = after.evaluate(ROWS, low)
  assert tuned["micro_f1"] == tuned["subset_accuracy"] == 1
  assert tuned["micro_f1_untuned"] == 0
  assert tuned["macro_average_precision"] == 1
  assert after.correct(ROWS, low).all()
  kept = json.loads(json.dumps(dataclasses.asdict(after)))
  assert from_dict(MultiLabel, kept) == after


def test_the_baseline_is_the_best_constant_answer(make):
  _, data = make()
  found = data.baselines(ROWS)
  gold = np.array([[1, 1, 0], [0, 0, 0], [0, 0, 1], [0, 1, 0]])
  best = 0
  for constant in np.ndindex(2, 2, 2):
    right = (gold * constant).sum()
    best = max(best, 2 * right / (gold.sum() + 4 * sum(constant)))
  assert found["micro_f1_majority_baseline"] == pytest.approx(best)
  assert found["subset_accuracy_majority_baseline"] == 1 / 4
  nothing = data.baselines([{"labels": []}])
  assert nothing["micro_f1_majority_baseline"] == 0
