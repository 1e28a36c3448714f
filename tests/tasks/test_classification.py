"""One label a text: its answers, and what it learns from."""

import numpy as np
import pytest
from bert_jax.tasks.classification import Label

from bert_jax.settings import UserError, from_dict
from bert_jax.tasks import classification
from tests import small
from tests.tasks.cases import ENCODER

LOGITS = np.array([[1.0, 3.0, -2.0], [0.0, 0.0, 5.0]], np.float32)
TRAIN = "it sorts\tyes\na list\tno\nthe names\tno\nthe array\tno\n"
EVAL = "it\tyes\nthem\tno\nlist\tno\n"


@pytest.fixture
def make(tmp_path):
  """Makes the task from what the two files are to hold."""

  def make(train=TRAIN, evaluation=EVAL, head=None, **keys):
    for name, content in (("train", train), ("eval", evaluation)):
      (tmp_path / f"{name}.tsv").write_text(content)
    section = {
      "train": str(tmp_path / "train.tsv"),
      "eval": str(tmp_path / "eval.tsv"),
      "header": False,
      **keys,
    }
    data = from_dict(classification.Data, section, "config.data")
    return classification.make(ENCODER, small.tokenizer(), head, data)

  return make


def all_rows(task):
  """The first epoch's training rows, one batch of each."""
  stream = task.data.training(1, 0, None)
  return [stream.batch(i, range(1)) for i in range(stream.batches_per_epoch)]


def weights(task):
  """How much a row of each label counts in training."""
  return {
    task.head.labels[batch.targets["labels"].item()]: batch.targets[
      "label_weights"
    ].item()
    for batch in all_rows(task)
  }


def classify(**options):
  head = classification.Head(("one", "two", "three"))
  task = classification.make(ENCODER, small.tokenizer(), head)
  return task.answer(LOGITS, None, [{}, {}], **options)


def test_labels_come_with_probabilities_the_likeliest_first():
  first, second = classify()
  expected = np.exp(LOGITS) / np.exp(LOGITS).sum(-1, keepdims=True)
  assert [label.label for label in first] == ["two", "one", "three"]
  np.testing.assert_allclose(
    [label.probability for label in first], expected[0, [1, 0, 2]], rtol=1e-5
  )
  assert second[0].label == "three"
  assert [len(row) for row in classify(top_k=2)] == [2, 2]
  assert [len(row) for row in classify(top_k=9)] == [3, 3]


def test_labels_are_those_of_the_training_records(make):
  task = make()
  assert task.head == classification.Head(("no", "yes"), 32)
  assert sorted(batch.targets["labels"].item() for batch in all_rows(task)) == [
    0,
    0,
    0,
    1,
  ]
  (no,) = task.prepare({"text": "it", "label": "no"})
  assert no.targets == {"labels": 0, "label_weights": 1}


def test_labels_that_are_numbers_keep_their_order(make):
  assert make("a\t10\na\t2\n", "a\t2\n").head.labels == ("2", "10")
  task = make("a\t0\na\t1\n", "a\t1\n")
  (one,) = task.prepare({"text": "it", "label": 1})
  assert one.targets["labels"] == 1


def test_a_head_that_covers_the_data_keeps_its_labels(make):
  wider = classification.Head(("yes", "maybe", "no"), max_length=9)
  assert make(head=wider).head.labels == ("yes", "maybe", "no")
  assert make(head=classification.Head(("yes", "other"))).head.labels == (
    "no",
    "yes",
  )
  given = make(head=wider, labels=("yes", "no", "else"))
  assert given.head.labels == ("yes", "no", "else")


def test_max_length_is_kept_with_the_head(make):
  assert make(max_length=5).head.max_length == 5
  (row,) = make(max_length=5).prepare({"text": "it sorts names in place"})
  assert row.token_ids.size == 5
  assert make(max_length=500).head.max_length == ENCODER.max_positions


@pytest.mark.parametrize(
  ("evaluation", "message"),
  [
    ("it\tyes\na\tmaybe\n", r"eval\.tsv:2: label: unknown 'maybe'; known: no,"),
    ("it\tyes\na\t\n", r"eval\.tsv:2: the label '': expected a name"),
    ("it\tyes\n \tno\n", r"eval\.tsv:2: the field 'text' is empty"),
  ],
)
def test_a_record_that_is_not_for_the_task_is_named_by_its_place(
  make, evaluation, message
):
  with pytest.raises(UserError, match=message) as error:
    make(TRAIN, evaluation)
  assert "\n" not in str(error.value)
  task = make(TRAIN, evaluation, bad_rows="skip")
  assert task.data.evaluation().records == [{"text": "it", "label": "yes"}]
  assert "1 records skipped of config.data.eval" in task.data.notes[1]


def test_training_records_without_a_label_are_bad_rows_too(make):
  with pytest.raises(UserError, match=r"train\.tsv:5: the label '': expected"):
    make(TRAIN + "a\t\n")
  assert len(all_rows(make(TRAIN + "a\t\n", bad_rows="skip"))) == 4
  with pytest.raises(UserError, match=r"train\.tsv:2: label: unknown 'no'"):
    make(labels=("yes", "maybe"))


def test_pairs_are_two_segments(make):
  pairs = "text\tpair\tlabel\nit\ta list\tyes\na\tthe\tno\n"
  task = make(pairs, pairs, header=True)
  for batch in all_rows(task):
    assert batch.segment_ids.max() == 1


def test_class_weights_are_those_of_training_rows_alone(make):
  task = make(class_weights={"yes": 2.5})
  assert weights(task) == {"yes": 2.5, "no": 1}
  (held_out,) = task.data.evaluation().examples[0]
  assert held_out.targets["label_weights"] == 1


def test_balanced_labels_count_the_same_together(make):
  found = weights(make(balanced=True))
  assert found["yes"] == pytest.approx(3 * found["no"])
  assert found["yes"] + 3 * found["no"] == pytest.approx(4)


@pytest.mark.parametrize(
  ("keys", "message"),
  [
    ({"class_weights": {"yse": 2.0}}, "class_weights: unknown 'yse'; known: n"),
    ({"class_weights": {"yes": -1.0}}, r"class_weights.yes: expected a numbe"),
    ({"class_weights": {"yes": "2"}}, r"class_weights.yes: expected a number"),
    ({"class_weights": {"yes": [2]}}, r"class_weights.yes: expected a number"),
    (
      {"class_weights": {"yes": 2.0}, "balanced": True},
      "balanced: give either balanced or class_weights",
    ),
    ({"label_smoothing": 1.0}, "label_smoothing: expected at least 0 and less"),
    ({"label_smoothing": float("nan")}, "label_smoothing: expected at least 0"),
    ({"labels": ("no", "no")}, "labels: expected no name twice"),
    ({"max_length": 0}, "max_length: expected at least 1"),
    ({"length_buckets": (32, 16)}, "length_buckets: expected rising lengths"),
  ],
)
def test_settings_are_checked(make, keys, message):
  with pytest.raises(UserError, match=rf"config\.data\.{message}"):
    make(**keys)


def test_scores_are_of_the_likeliest_label_beside_the_commonest(make):
  task = make()
  records = task.data.evaluation().records
  right, wrong = Label("no", 0.9), Label("yes", 0.1)
  found = task.score(task.head, [[right, wrong]] * 3, records)
  assert found["accuracy"] == pytest.approx(2 / 3)
  assert found["macro_recall"] == pytest.approx(1 / 2)
  assert task.data.baselines(records) == {
    "accuracy_majority_baseline": pytest.approx(2 / 3)
  }
