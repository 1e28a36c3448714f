"""Losses and metrics against plain NumPy, one row at a time."""

import jax
import numpy as np
import pytest

from bert_jax.tasks import TASKS
from bert_jax.tasks.targets import losses
from bert_jax.tasks.targets.class_label import ClassLabel
from bert_jax.tasks.targets.values import Values
from bert_jax.types import Batch

BATCH, LENGTH, LABELS = 6, 7, 3


def log_softmax(logits):
  logits = np.asarray(logits, np.float64)
  return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def sigmoid(logits):
  return 1 / (1 + np.exp(-np.asarray(logits, np.float64)))


def draw(shape, seed=0):
  return np.random.default_rng(seed).normal(0, 2, shape).astype(np.float32)


def make_batch(target, inputs=None, **arrays):
  """Rows of 7, 6, 5 ... tokens; the last one only pads."""
  targets = {f"{target}/{name}": array for name, array in arrays.items()}
  for name, array in (inputs or {}).items():
    targets[f"inputs/{name}"] = array
  used = np.arange(LENGTH) < np.arange(LENGTH, LENGTH - BATCH, -1)[:, None]
  used[-1] = False
  ids = used.astype(np.int32)
  return Batch(ids, 0 * ids, ids, ids, targets)


WEIGHTS = np.array([1, 1, 0, 1, 1, 0], np.float32)


def measure(name, outputs, batch, target=None):
  """The losses and the metrics of a task with one target."""
  task = TASKS[name]
  ((key, own),) = task.targets.items()
  task = task.with_targets({key: target or own})
  outputs = {task.head_names[key]: outputs}
  return task.loss(outputs, batch), task.metrics(outputs, batch)


def assert_means(found, expected):
  assert found.keys() == expected.keys()
  for name, (total, weight) in expected.items():
    np.testing.assert_allclose(found[name].total, total, rtol=1e-5)
    np.testing.assert_allclose(found[name].weight, weight)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_single_label(smoothing):
  logits, labels = draw((BATCH, LABELS)), np.array([0, 1, 2, 2, 1, 0])
  weights = np.array([1, 2.5, 0, 0.5, 1, 0], np.float32)
  batch = make_batch("label", labels=labels, weights=weights)
  rows = [0, 1, 3, 4]
  total = 0
  for i in rows:
    target = np.full(LABELS, smoothing / LABELS)
    target[labels[i]] += 1 - smoothing
    total -= weights[i] * (target * log_softmax(logits)[i]).sum()
  target = ClassLabel(("a", "b", "c"), label_smoothing=smoothing)
  loss, metrics = measure("classification", logits, batch, target)
  assert_means(loss, {"loss": (total, 5)})
  right = sum(weights[i] * (logits[i].argmax() == labels[i]) for i in rows)
  assert_means(metrics, {"accuracy": (right, 5)})


def test_multi_label():
  logits = draw((BATCH, LABELS))
  labels = (draw((BATCH, LABELS), 1) > 0).astype(np.float32)
  batch = make_batch("labels", labels=labels, weights=WEIGHTS)
  yes = sigmoid(logits)
  likelihood = np.where(labels > 0, yes, 1 - yes)
  total = -(np.log(likelihood).mean(-1) * WEIGHTS).sum()
  loss, metrics = measure("multi_label", logits, batch)
  assert_means(loss, {"loss": (total, 4)})
  right = (((logits > 0) == labels).mean(-1) * WEIGHTS).sum()
  assert_means(metrics, {"label_accuracy": (right, 4)})


def test_regression():
  values, gold = draw((BATCH, LABELS)), draw((BATCH, LABELS), 1)
  batch = make_batch("values", values=gold, weights=WEIGHTS)
  errors = np.asarray(values - gold, np.float64)
  total = ((errors**2).mean(-1) * WEIGHTS).sum()
  target = Values(("a", "b", "c"), means=(5, 0, 1), scales=(1, 2, 10))
  loss, metrics = measure("regression", values, batch, target)
  assert_means(loss, {"loss": (total, 4)})
  total = (np.abs(errors * [1, 2, 10]).mean(-1) * WEIGHTS).sum()
  assert_means(metrics, {"mae": (total, 4)})


def test_next_sentence():
  logits, labels = draw((BATCH, 2)), np.array([0, 1, 1, 1, 0, 0])
  batch = make_batch(
    "next_sentence", labels=labels[:, None], weights=WEIGHTS[:, None]
  )
  rows = [0, 1, 3, 4]
  total = -sum(log_softmax(logits)[i, labels[i]] for i in rows)
  right = sum(logits[i].argmax() == labels[i] for i in rows)
  loss, metrics = measure("next_sentence", logits[:, None], batch)
  assert_means(loss, {"nsp_loss": (total, 4)})
  assert_means(metrics, {"nsp_accuracy": (right, 4)})


def test_tagging_counts_words_and_not_rows():
  logits = draw((BATCH, LENGTH, LABELS))
  labels = np.random.default_rng(1).integers(0, LABELS, (BATCH, LENGTH))
  weights = np.zeros((BATCH, LENGTH), np.float32)
  places = [(0, 1), (0, 3), (0, 4), (1, 2), (3, 1)]
  for place in places:
    weights[place] = 1
  batch = make_batch("tags", labels=labels, weights=weights)
  total = -sum(log_softmax(logits)[p][labels[p]] for p in places)
  right = sum(logits[p].argmax() == labels[p] for p in places)
  loss, metrics = measure("tagging", logits, batch)
  assert_means(loss, {"loss": (total, 5)})
  assert_means(metrics, {"accuracy": (right, 5)})


def test_replaced_tokens_count_all_that_is_no_padding():
  logits = draw((BATCH, LENGTH, 1))
  replaced = (draw((BATCH, LENGTH), 1) > 1).astype(np.float32)
  batch = make_batch("replaced", replaced=replaced)
  used = batch.sequence_ids > 0
  yes = sigmoid(logits[..., 0])
  likelihood = np.where(replaced > 0, yes, 1 - yes)
  total, weight = -np.log(likelihood)[used].sum(), 7 + 6 + 5 + 4 + 3
  loss, metrics = measure("replaced_tokens", logits, batch)
  assert_means(loss, {"replaced_loss": (total, weight)})
  right = ((yes > 0.5) == replaced)[used].sum()
  assert_means(metrics, {"replaced_accuracy": (right, weight)})


def test_choices_that_only_pad_take_no_probability():
  logits = draw((BATCH, 4))
  counts, labels = [4, 3, 2, 2, 1, 0], np.array([3, 0, 1, 1, 0, 0])
  weights = (np.arange(4) < np.array(counts)[:, None]).astype(np.float32)
  batch = make_batch(
    "choice", {"choice_weights": weights}, labels=labels, weights=WEIGHTS
  )
  total = right = 0
  for i in (0, 1, 3, 4):
    row = logits[i, : counts[i]]
    total -= log_softmax(row)[labels[i]]
    right += row.argmax() == labels[i]
  loss, metrics = measure("multiple_choice", logits[..., None], batch)
  assert_means(loss, {"loss": (total, 4)})
  assert_means(metrics, {"accuracy": (right, 4)})
  gradients = jax.grad(
    lambda x: measure("multiple_choice", x[..., None], batch)[0]["loss"].total
  )(logits)
  assert np.isfinite(gradients).all()
  assert (np.asarray(gradients)[weights == 0] == 0).all()


def test_answers_outside_the_row_count_nothing():
  logits = draw((BATCH, LENGTH, 2))
  # Rows are 7, 6, 5, 4, 3 and 0 tokens long.
  starts, ends = np.array([0, 5, 1, 4, -1, 0]), np.array([9, 7, 1, 5, 2, 0])
  weights = np.array([1, 1, 0, 1, 1, 1], np.float32)
  batch = make_batch(
    "answer", start_positions=starts, end_positions=ends, weights=weights
  )
  lengths = [7, 6, 5, 4, 3, 0]
  expected, metrics = {}, {}
  for column, (name, positions, rows) in enumerate(
    [("start", starts, [0, 1]), ("end", ends, [4])]
  ):
    total = right = 0
    for i in rows:
      row = logits[i, : lengths[i], column]
      total -= 0.5 * log_softmax(row)[positions[i]]
      right += row.argmax() == positions[i]
    expected[f"{name}_loss"] = (total, len(rows))
    metrics[f"{name}_accuracy"] = (right, len(rows))
  found = measure("question_answering", logits, batch)
  assert_means(found[0], expected)
  assert_means(found[1], metrics)


@pytest.mark.parametrize("logit", [-200.0, 200.0])
def test_binary_cross_entropy_of_extreme_logits_is_finite(logit):
  for label, expected in ((0.0, max(logit, 0)), (1.0, max(-logit, 0))):
    found = losses.binary_cross_entropy(*np.float32([[logit], [label]]))
    assert found == expected
