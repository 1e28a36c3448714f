"""One label a text: its answers, and what it learns from."""

import numpy as np
import pytest

from bert_jax.tasks.targets.class_label import ClassLabel
from tests.errors import user_error
from tests.tasks import cases
from tests.tasks.cases import ENCODER

LOGITS = np.array([[1.0, 3.0, -2.0], [0.0, 0.0, 5.0]], np.float32)
TRAIN = "it sorts\tyes\na list\tno\nthe names\tno\nthe array\tno\n"
EVAL = "it\tyes\nthem\tno\nlist\tno\n"


@pytest.fixture
def make(tmp_path):
  """Makes the task and its data from the contents of two files."""

  def make(train=TRAIN, evaluation=EVAL, labels=None, **keys):
    files = (tmp_path, "classification", train, evaluation)
    pretrained = labels and ClassLabel(labels)
    return cases.fit(*files, pretrained, **{"header": False, **keys})

  return make


def names(made):
  return made[0].targets["label"].labels


def all_rows(made):
  """The first epoch's training rows, one batch of each."""
  stream = made[1].training(1, 0, None)
  return [stream.batch(i, range(1)) for i in range(stream.batches_per_epoch)]


def weights(made):
  """The weight of a row of each label in training."""
  return {
    names(made)[row.targets["label/labels"].item()]: row.targets[
      "label/weights"
    ].item()
    for row in all_rows(made)
  }


def classify(**options):
  task = cases.task("classification", label=ClassLabel(("one", "two", "three")))
  outputs = {"classifier": LOGITS}
  predictions = task.predict(outputs, None, [{}, {}])
  return [task.decode({}, prediction, **options) for prediction in predictions]


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
  made = make()
  assert names(made) == ("no", "yes")
  assert made[0].inputs.max_length == ENCODER.max_positions
  ids = [row.targets["label/labels"].item() for row in all_rows(made)]
  assert sorted(ids) == [0, 0, 0, 1]
  (no,) = made[0].preprocess({"text": "it", "label": "no"})
  assert no.targets == {"label/labels": 0, "label/weights": 1}


def test_labels_that_are_numbers_keep_their_order(make):
  assert names(make("a\t10\na\t2\n", "a\t2\n")) == ("2", "10")
  task, _ = make("a\t0\na\t1\n", "a\t1\n")
  (one,) = task.preprocess({"text": "it", "label": 1})
  assert one.targets["label/labels"] == 1


def test_a_pretrained_head_that_covers_the_data_keeps_its_labels(make):
  wider = ("yes", "maybe", "no")
  assert names(make(labels=wider)) == wider
  assert names(make(labels=("yes", "other"))) == ("no", "yes")
  given = ("yes", "no", "else")
  assert names(make(labels=wider, label={"labels": given})) == given


def test_a_label_that_training_never_saw_is_an_error_of_the_model(make):
  rows = [{"text": "it", "label": x} for x in ("yes", "no", "maybe", "yes")]
  task, data = make(TRAIN, "".join(f"it\t{row['label']}\n" for row in rows))
  examples = [example for (example,) in data.evaluation().examples]
  weights = [example.targets["label/weights"] for example in examples]
  np.testing.assert_array_equal(weights, [1, 1, 0, 1])
  assert data.notes[1].startswith("label: the model has no label maybe;")
  predictions = [{"label": np.array([0.1, 0.9])}] * len(rows)
  found = task.evaluate(rows, predictions)
  assert found["accuracy"] == 1 / 2
  # As scikit-learn has it of the names: recalls of 1, 0 and 0.
  assert found["macro_recall"] == pytest.approx(1 / 3)
  shown = task.view(rows, predictions)
  assert tuple(shown.confusion.labels) == ("no", "yes", "maybe")
  assert [row["gold"] for row in shown.mistakes] == ["no", "maybe"]
  assert shown.mistakes[1]["probability of gold"] == 0


def test_records_that_share_no_label_with_the_model_are_refused(make):
  with user_error(r"have 1, 0, but the model's .* no, yes"):
    make(TRAIN, "it\t1\nthem\t0\n")


def test_training_records_without_a_label_are_bad_rows_too(make):
  with user_error(r"train\.tsv:5: the label '': expected"):
    make(TRAIN + "a\t\n")
  assert len(all_rows(make(TRAIN + "a\t\n", bad_rows="skip"))) == 4
  with user_error(r"train\.tsv:2: label: unknown 'no'"):
    make(label={"labels": ("yes", "maybe")})


def test_pairs_are_two_segments(make):
  pairs = "text\tpair\tlabel\nit\ta list\tyes\na\tthe\tno\n"
  for row in all_rows(make(pairs, pairs, header=True)):
    assert row.segment_ids.max() == 1


def test_class_weights_are_those_of_training_rows_alone(make):
  made = make(label={"class_weights": {"yes": 2.5}})
  assert weights(made) == {"yes": 2.5, "no": 1}
  (example,) = made[1].evaluation().examples[0]
  assert example.targets["label/weights"] == 1


def test_balanced_labels_count_the_same_together(make):
  found = weights(make(label={"balanced": True}))
  assert found["yes"] == pytest.approx(3 * found["no"])
  assert found["yes"] + 3 * found["no"] == pytest.approx(4)


@pytest.mark.parametrize(
  ("options", "message"),
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
    ({"lables": ("no",)}, "lables: unknown key; did you mean 'labels'"),
  ],
)
def test_options_of_the_target_are_checked(make, options, message):
  with user_error(message) as error:
    make(label=options)
  assert str(error.value).startswith(("config.data.targets.label.", "class_w"))


@pytest.mark.parametrize(
  ("keys", "message"),
  [
    ({"max_length": -1}, "max_length: expected at least 0"),
    ({"length_buckets": (32, 16)}, "length_buckets: expected rising lengths"),
    ({"targets": {"lable": {}}}, "targets: unknown 'lable'; did you mean"),
  ],
)
def test_settings_are_checked(make, keys, message):
  with user_error(rf"config\.data\.{message}"):
    make(**keys)


def test_metrics_are_of_the_likeliest_label_beside_the_most_frequent(make):
  task, data = make()
  records = data.evaluation().records
  predictions = [{"label": np.array([0.9, 0.1])}] * 3  # "no", "yes"
  found = task.evaluate(records, predictions)
  assert found["accuracy"] == pytest.approx(2 / 3)
  assert found["macro_recall"] == pytest.approx(1 / 2)
  assert data.baselines(records) == {
    "accuracy_majority_baseline": pytest.approx(2 / 3)
  }
