import json
import math

import pytest

from bert_jax.training.evaluation import EarlyStopping
from bert_jax.training.metrics import is_better
from tests.errors import user_error


def see(best, values, metric="accuracy"):
  return [best.update(step, {metric: x}) for step, x in enumerate(values, 1)]


def test_the_first_is_best_and_then_what_is_really_better():
  best = EarlyStopping("accuracy")
  assert see(best, [0.5, 0.5, 0.4, 0.6]) == [True, False, False, True]
  assert (best.step, best.values, best.waited) == (4, {"accuracy": 0.6}, 0)
  assert best.reason is None


LOSSES = (
  "loss classification_loss rmse mae rmse_value_0 scores/mae ner/tagging_loss"
)
# The names of tasks and values say nothing of the metric.
OTHERS = (
  "accuracy macro_f1 mean rmse/pearson loss_reports/accuracy spearman_mae"
)


@pytest.mark.parametrize("metric", [*LOSSES.split(), *OTHERS.split()])
def test_losses_and_errors_are_to_fall_and_all_else_to_rise(metric):
  is_loss = metric in LOSSES.split()
  assert is_better(metric, 0.5, 0.6) == is_loss
  assert is_better(metric, 0.6, 0.5) == (not is_loss)
  assert not is_better(metric, 0.5, 0.5)


FALLS = [3.0, 2.0, 2.5, 1.0, 1.0]


@pytest.mark.parametrize(
  ("best", "values", "over"),
  [
    (EarlyStopping("mae", patience=0), FALLS, [0, 0, 0, 0, 0]),
    (EarlyStopping("mae", patience=1), FALLS, [0, 0, 1, 0, 1]),
    (EarlyStopping("mae", patience=2), FALLS, [0, 0, 0, 0, 0]),
    (EarlyStopping("accuracy", target=0.72), [0.5, 0.72, 0.6], [0, 1, 1]),
    (EarlyStopping("mlm_loss", target=1.5), [math.nan, 2, 1.5], [0, 0, 1]),
    (EarlyStopping("accuracy"), [0.5, 1.0], [0, 0]),
  ],
)
def test_it_ends_at_its_target_or_when_its_patience_is_over(best, values, over):
  found = []
  for step, value in enumerate(values):
    best.update(step, {best.metric: value})
    found.append(best.reason is not None)
  assert found == over


def test_what_is_no_number_is_never_better():
  best = EarlyStopping("accuracy")
  assert see(best, [math.nan, 0.1, math.nan]) == [True, True, False]
  assert best.step == 2


def test_without_a_measure_nothing_is_best():
  best = EarlyStopping("", patience=0)
  assert see(best, [0.1, 0.2]) == [False, False]
  assert best.step is None


def test_a_measure_that_is_not_there_is_named_with_those_that_are():
  with user_error() as error:
    EarlyStopping("acuracy").update(1, {"accuracy": 0.5, "loss": 1.0})
  assert str(error.value) == (
    "config.evaluation.metric: unknown 'acuracy'; did you mean 'accuracy'?"
    " known: accuracy, loss"
  )


def test_it_goes_on_from_its_state():
  one = EarlyStopping("accuracy", patience=2)
  see(one, [0.5, 0.4])
  other = EarlyStopping("accuracy", patience=2)
  other.resume(json.loads(json.dumps(one.state())))
  assert (other.step, other.values, other.waited) == (1, {"accuracy": 0.5}, 1)
  assert not other.update(3, {"accuracy": 0.5})
  assert other.reason


@pytest.mark.parametrize("metric", ["", "loss"])
def test_of_another_measure_it_begins_anew(metric):
  one = EarlyStopping("accuracy")
  see(one, [0.5])
  other = EarlyStopping(metric)
  other.resume(one.state())
  assert other.step is None
  other.resume(None)
  assert other.step is None
