"""Numbers for a text: the answers, and what is learned from."""

import functools

import jax
import numpy as np
import pytest

from bert_jax.model import Model
from bert_jax.tasks.targets.values import Value, Values
from tests import pytrees
from tests.tasks import cases

OUTPUTS = np.array([[1.0, 3.0], [0.0, -1.0]], np.float32)
ONE = [{"text": "it sorts", "label": n} for n in (1, "3.0", 5.5)]
TWO = [{"text": "a list", "values": [n, 100 * n]} for n in (1, 2, 6)]


@pytest.fixture
def make(tmp_path):
  return functools.partial(cases.fit, tmp_path, "regression")


def target(made):
  return made[0].targets["values"]


def answers(values, outputs):
  found = values.predict(outputs, None, [{}] * len(outputs), None)
  return [values.decode({}, prediction, None) for prediction in found]


def test_values_come_in_order_and_in_the_unit_of_the_records():
  values = Values(("one", "two"), means=(10.0, -1.0), scales=(2.0, 0.5))
  first, second = answers(values, OUTPUTS)
  assert first == [Value("one", 12.0), Value("two", 0.5)]
  assert second == [Value("one", 10.0), Value("two", -1.5)]


def test_arrays_are_standardized_and_answers_are_not(make):
  made = make(TWO)
  gold = np.array([[1, 100], [2, 200], [6, 600]])
  values = target(made)
  assert values.labels == ("value_0", "value_1")
  np.testing.assert_allclose(values.means, gold.mean(0))
  np.testing.assert_allclose(values.scales, gold.std(0))
  examples = made[1].evaluation().examples
  targets = [x.targets["values/values"] for (x,) in examples]
  np.testing.assert_allclose(np.mean(targets, 0), 0, atol=1e-6)
  np.testing.assert_allclose(np.std(targets, 0), 1, rtol=1e-6)
  predictions = values.predict(np.array(targets), None, TWO, None)
  np.testing.assert_allclose(predictions, gold, rtol=1e-6)
  metrics = values.evaluate(TWO, predictions)
  assert metrics["pearson"] == pytest.approx(1)
  assert metrics["mae_value_1"] == pytest.approx(0, abs=1e-4)


def test_a_single_value_may_be_the_label_as_number_or_text(make):
  values = target(make(ONE))
  assert values.labels == ("value",)
  assert values.means == (pytest.approx(9.5 / 3),)
  assert target(make(ONE, values={"labels": ("score",)})).labels == ("score",)


def test_tables_have_columns_or_a_list(tmp_path):
  for content, means in (
    ("text\tpair\tlabel\nit\ta\t0.5\nlist\tb\t1.5\n", (1.0,)),
    ("text\tvalues\nit\t1|2\nlist\t3|4\n", (2.0, 3.0)),
  ):
    assert target(cases.fit(tmp_path, "regression", content)).means == means
  # Without a header the second column is the label.
  bare = cases.fit(tmp_path, "regression", "it\t1\na\t2\n", header=False)
  assert target(bare).means == (1.5,)


def test_equal_values_are_not_divided_by_zero(make):
  made = make([{"text": "it", "label": 0.1}] * 3)
  assert target(made).scales == (1.0,)
  for (example,) in made[1].evaluation().examples:
    found = example.targets["values/values"]
    np.testing.assert_allclose(found, [0], atol=1e-7)


def test_a_pretrained_target_keeps_names_means_and_scales(make):
  known = Values(("score",), means=(3.0,), scales=(2.0,))
  assert target(make(ONE, pretrained=known)) == known
  assert target(make(TWO, pretrained=known)).labels == ("value_0", "value_1")
  renamed = target(make(ONE, pretrained=known, values={"labels": ("other",)}))
  assert renamed.means == (pytest.approx(9.5 / 3),)


def test_the_baseline_always_gives_the_training_mean(make):
  _, data = make(ONE, [{"text": "a", "label": n} for n in (0.0, 4.0)])
  errors = np.array([0.0, 4.0]) - 9.5 / 3
  assert data.baselines(data.evaluation().records) == {
    "rmse_mean_baseline": pytest.approx(np.sqrt((errors**2).mean())),
    "mae_mean_baseline": pytest.approx(np.abs(errors).mean()),
  }


def test_means_and_scales_fold_into_the_output_layer():
  values = Values(("one", "two"), means=(10.0, -1.0), scales=(20.0, 0.5))
  scaled = cases.task("regression", values=values)
  plain = cases.task("regression", values=Values(("one", "two")))
  params = pytrees.of_task(scaled)
  head = values.huggingface_params(params["classifier"])
  assert jax.tree.map(np.shape, head) == jax.tree.map(
    np.shape, params["classifier"]
  )
  record = {"text": "it sorts a list"}
  expected = [value.value for value in Model(scaled, params)(record)]
  folded = Model(plain, {**params, "classifier": head})(record)
  np.testing.assert_allclose([v.value for v in folded], expected, rtol=1e-5)
  assert expected != [value.value for value in Model(plain, params)(record)]
