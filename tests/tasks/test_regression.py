"""Numbers for a text: the answers, and what is learned from."""

import json

import jax
import numpy as np
import pytest
from bert_jax.tasks.regression import Head, Value

from bert_jax.settings import UserError, from_dict
from bert_jax.tasks import regression
from tests import small
from tests.tasks.cases import ENCODER, predictor, random_params

OUTPUTS = np.array([[1.0, 3.0], [0.0, -1.0]], np.float32)
ONE = [{"text": "it sorts", "label": n} for n in (1, "3.0", 5.5)]
TWO = [{"text": "a list", "values": [n, 100 * n]} for n in (1, 2, 6)]


@pytest.fixture
def make(tmp_path):
  """Makes the task from the records that the two files are to hold."""

  def make(train, evaluation=None, head=None, **keys):
    for name, rows in (("train", train), ("eval", evaluation or train)):
      lines = [json.dumps(row) + "\n" for row in rows]
      (tmp_path / f"{name}.jsonl").write_text("".join(lines))
    section = {
      "train": str(tmp_path / "train.jsonl"),
      "eval": str(tmp_path / "eval.jsonl"),
      **keys,
    }
    data = from_dict(regression.Data, section, "config.data")
    return regression.make(ENCODER, small.tokenizer(), head, data)

  return make


def test_values_come_in_order_and_in_the_unit_of_the_records():
  head = Head(("one", "two"), means=(10.0, -1.0), scales=(2.0, 0.5))
  task = regression.make(ENCODER, small.tokenizer(), head)
  first, second = task.answer(OUTPUTS, None, [{}, {}])
  assert first == [Value("one", 12.0), Value("two", 0.5)]
  assert second == [Value("one", 10.0), Value("two", -1.5)]


def test_a_plain_head_gives_the_outputs():
  task = regression.make(ENCODER, small.tokenizer())
  assert task.answer(OUTPUTS[:, :1], None, [{}]) == [[Value("value", 1.0)]]


def test_targets_are_standardised_and_answers_are_not(make):
  task = make(TWO)
  gold = np.array([[1, 100], [2, 200], [6, 600]])
  assert task.head.labels == ("value_0", "value_1")
  np.testing.assert_allclose(task.head.means, gold.mean(0))
  np.testing.assert_allclose(task.head.scales, gold.std(0))
  targets = [x.targets["values"] for (x,) in task.data.evaluation().examples]
  np.testing.assert_allclose(np.mean(targets, 0), 0, atol=1e-6)
  np.testing.assert_allclose(np.std(targets, 0), 1, rtol=1e-6)
  answers = task.answer(np.array(targets), None, TWO)
  found = [[value.value for value in row] for row in answers]
  np.testing.assert_allclose(found, gold, rtol=1e-6)
  scores = task.score(task.head, answers, TWO)
  assert scores["pearson"] == pytest.approx(1)
  assert scores["mae_value_1"] == pytest.approx(0, abs=1e-4)


def test_a_single_value_may_be_the_label_as_number_or_text(make):
  task = make(ONE)
  assert task.head.labels == ("value",)
  assert task.head.means == (pytest.approx(9.5 / 3),)
  assert make(ONE, labels=("score",)).head.labels == ("score",)


def test_tables_have_columns_or_a_list(tmp_path):
  for name, content, means in (
    ("pairs.tsv", "text\tpair\tlabel\nit\ta\t0.5\nlist\tb\t1.5\n", (1.0,)),
    ("lists.csv", "text,values\nit,1|2\nlist,3|4\n", (2.0, 3.0)),
  ):
    (tmp_path / name).write_text(content)
    section = {"train": str(tmp_path / name), "eval": str(tmp_path / name)}
    data = from_dict(regression.Data, section, "config.data")
    task = regression.make(ENCODER, small.tokenizer(), data=data)
    assert task.head.means == means


def test_equal_values_are_not_divided_by_zero(make):
  task = make([{"text": "it", "label": 0.1}] * 3)
  assert task.head.scales == (1.0,)
  for (example,) in task.data.evaluation().examples:
    np.testing.assert_allclose(example.targets["values"], [0], atol=1e-7)


def test_a_head_to_go_on_from_keeps_names_means_and_scales(make):
  head = Head(("score",), means=(3.0,), scales=(2.0,))
  assert make(ONE, head=head).head == Head(("score",), 32, (3.0,), (2.0,))
  assert make(TWO, head=head).head.labels == ("value_0", "value_1")
  renamed = make(ONE, head=head, labels=("other",)).head
  assert renamed.means == (pytest.approx(9.5 / 3),)


@pytest.mark.parametrize(
  ("row", "message"),
  [
    ({"text": "a", "label": "high"}, "field 'label': expected a number, got"),
    ({"text": "a", "label": ""}, "field 'label': expected a number, got ''"),
    ({"text": "a", "values": [1, 2]}, r"expected 1 values \(value\), got 2"),
    ({"text": "a", "values": []}, "field 'values': expected a list of numbers"),
    ({"text": "a"}, "expected the field 'values', or 'label' with one number"),
    ({"text": "", "label": 1}, "the field 'text' is empty"),
  ],
)
@pytest.mark.parametrize("split", ["train", "eval"])
def test_a_record_that_is_not_for_the_task_is_named_by_its_place(
  make, split, row, message
):
  train, evaluation = ONE, ONE
  if split == "train":
    train = [*ONE, row]
  else:
    evaluation = [*ONE, row]
  with pytest.raises(UserError, match=rf"{split}\.jsonl:4: .*{message}"):
    make(train, evaluation)
  task = make(train, evaluation, bad_rows="skip")
  assert len(task.data.evaluation().records) == 3
  assert task.data.training(1, 0, None).batches_per_epoch == 3


def test_the_baseline_always_gives_the_training_mean(make):
  task = make(ONE, [{"text": "a", "label": n} for n in (0.0, 4.0)])
  errors = np.array([0.0, 4.0]) - 9.5 / 3
  assert task.data.baselines(task.data.evaluation().records) == {
    "rmse_mean_baseline": pytest.approx(np.sqrt((errors**2).mean())),
    "mae_mean_baseline": pytest.approx(np.abs(errors).mean()),
  }


def test_means_and_scales_fold_into_the_classifier():
  head = Head(("one", "two"), means=(10.0, -1.0), scales=(20.0, 0.5))
  scaled = predictor("regression", head)
  plain = predictor("regression", Head(("one", "two")))
  params = random_params(scaled.task)
  folded = regression.unscaled(head, params)
  assert jax.tree.map(np.shape, folded) == jax.tree.map(np.shape, params)
  record = {"text": "it sorts a list"}
  expected = [value.value for value in scaled(record)]
  assert expected != [value.value for value in plain(record)]
  batch = jax.tree.map(lambda x: x[None], plain.task.prepare(record)[0])
  found = plain.task.model.apply({"params": folded}, batch)
  np.testing.assert_allclose(found[0], expected, rtol=1e-5)
