"""Losses and metrics against plain NumPy, one row at a time."""

import jax
import numpy as np
import pytest
from bert_jax.tasks.common import losses

from bert_jax.tasks import (
  classification,
  multi_label,
  multiple_choice,
  next_sentence,
  question_answering,
  regression,
  replaced_tokens,
  tagging,
)
from bert_jax.types import Batch

BATCH, LENGTH, LABELS = 6, 7, 3


def log_softmax(logits):
  logits = np.asarray(logits, np.float64)
  return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def sigmoid(logits):
  return 1 / (1 + np.exp(-np.asarray(logits, np.float64)))


def draw(shape, seed=0):
  return np.random.default_rng(seed).normal(0, 2, shape).astype(np.float32)


def make_batch(**targets):
  """Rows of 7, 6, 5 ... tokens; the last one only pads."""
  used = np.arange(LENGTH) < np.arange(LENGTH, LENGTH - BATCH, -1)[:, None]
  used[-1] = False
  ids = used.astype(np.int32)
  return Batch(ids, 0 * ids, ids, ids, targets)


WEIGHTS = np.array([1, 1, 0, 1, 1, 0], np.float32)


def assert_means(found, expected):
  assert found.keys() == expected.keys()
  for name, (total, weight) in expected.items():
    np.testing.assert_allclose(found[name].total, total, rtol=1e-5)
    np.testing.assert_allclose(found[name].weight, weight)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_single_label(smoothing):
  logits, labels = draw((BATCH, LABELS)), np.array([0, 1, 2, 2, 1, 0])
  weights = np.array([1, 2.5, 0, 0.5, 1, 0], np.float32)
  batch = make_batch(labels=labels, label_weights=weights)
  rows = [0, 1, 3, 4]
  total = 0
  for i in rows:
    target = np.full(LABELS, smoothing / LABELS)
    target[labels[i]] += 1 - smoothing
    total -= weights[i] * (target * log_softmax(logits)[i]).sum()
  loss = classification.loss(smoothing, logits, batch)
  assert_means(loss, {"classification_loss": (total, 5)})
  right = sum(weights[i] * (logits[i].argmax() == labels[i]) for i in rows)
  metrics = classification.metrics(logits, batch)
  assert_means(metrics, {"accuracy": (right, 5)})


def test_multi_label():
  logits = draw((BATCH, LABELS))
  labels = (draw((BATCH, LABELS), 1) > 0).astype(np.float32)
  batch = make_batch(labels=labels, label_weights=WEIGHTS)
  yes = sigmoid(logits)
  likelihood = np.where(labels > 0, yes, 1 - yes)
  total = -(np.log(likelihood).mean(-1) * WEIGHTS).sum()
  loss = multi_label.loss(logits, batch)
  assert_means(loss, {"multi_label_loss": (total, 4)})
  right = (((logits > 0) == labels).mean(-1) * WEIGHTS).sum()
  metrics = multi_label.metrics(logits, batch)
  assert_means(metrics, {"label_accuracy": (right, 4)})


def test_regression():
  values, gold = draw((BATCH, LABELS)), draw((BATCH, LABELS), 1)
  batch = make_batch(values=gold, value_weights=WEIGHTS)
  errors = np.asarray(values - gold, np.float64)
  total = ((errors**2).mean(-1) * WEIGHTS).sum()
  loss = regression.loss(values, batch)
  assert_means(loss, {"regression_loss": (total, 4)})
  head = regression.Head(("a", "b", "c"), means=(5, 0, 1), scales=(1, 2, 10))
  total = (np.abs(errors * [1, 2, 10]).mean(-1) * WEIGHTS).sum()
  metrics = regression.metrics(head, values, batch)
  assert_means(metrics, {"mae": (total, 4)})


def test_next_sentence():
  logits, labels = draw((BATCH, 2)), np.array([0, 1, 1, 1, 0, 0])
  batch = make_batch(next_sentence_labels=labels, next_sentence_weights=WEIGHTS)
  rows = [0, 1, 3, 4]
  total = -sum(log_softmax(logits)[i, labels[i]] for i in rows)
  right = sum(logits[i].argmax() == labels[i] for i in rows)
  assert_means(next_sentence.loss(logits, batch), {"nsp_loss": (total, 4)})
  metrics = next_sentence.metrics(logits, batch)
  assert_means(metrics, {"nsp_accuracy": (right, 4)})


def test_tagging_counts_words_and_not_rows():
  logits = draw((BATCH, LENGTH, LABELS))
  labels = np.random.default_rng(1).integers(0, LABELS, (BATCH, LENGTH))
  weights = np.zeros((BATCH, LENGTH), np.float32)
  places = [(0, 1), (0, 3), (0, 4), (1, 2), (3, 1)]
  for place in places:
    weights[place] = 1
  batch = make_batch(labels=labels, label_weights=weights)
  total = -sum(log_softmax(logits)[p][labels[p]] for p in places)
  right = sum(logits[p].argmax() == labels[p] for p in places)
  assert_means(tagging.loss(logits, batch), {"tagging_loss": (total, 5)})
  assert_means(tagging.metrics(logits, batch), {"accuracy": (right, 5)})


def test_replaced_tokens_count_all_that_is_no_padding():
  logits = draw((BATCH, LENGTH, 1))
  replaced = (draw((BATCH, LENGTH), 1) > 1).astype(np.float32)
  batch = make_batch(replaced=replaced)
  used = batch.sequence_ids > 0
  yes = sigmoid(logits[..., 0])
  likelihood = np.where(replaced > 0, yes, 1 - yes)
  total, weight = -np.log(likelihood)[used].sum(), 7 + 6 + 5 + 4 + 3
  loss = replaced_tokens.loss(logits, batch)
  assert_means(loss, {"replaced_loss": (total, weight)})
  right = ((yes > 0.5) == replaced)[used].sum()
  metrics = replaced_tokens.metrics(logits, batch)
  assert_means(metrics, {"replaced_accuracy": (right, weight)})


def test_choices_that_only_pad_take_no_probability():
  logits = draw((BATCH, 4))
  counts, labels = [4, 3, 2, 2, 1, 0], np.array([3, 0, 1, 1, 0, 0])
  weights = (np.arange(4) < np.array(counts)[:, None]).astype(np.float32)
  batch = make_batch(
    labels=labels, label_weights=WEIGHTS, choice_weights=weights
  )
  total = right = 0
  for i in (0, 1, 3, 4):
    row = logits[i, : counts[i]]
    total -= log_softmax(row)[labels[i]]
    right += row.argmax() == labels[i]
  loss = multiple_choice.loss(logits, batch)
  assert_means(loss, {"choice_loss": (total, 4)})
  assert_means(multiple_choice.metrics(logits, batch), {"accuracy": (right, 4)})
  gradients = jax.grad(
    lambda x: multiple_choice.loss(x, batch)["choice_loss"].total
  )(logits)
  assert np.isfinite(gradients).all()
  assert (np.asarray(gradients)[weights == 0] == 0).all()


def test_answers_outside_the_row_count_nothing():
  logits = draw((BATCH, LENGTH, 2))
  # Rows are 7, 6, 5, 4, 3 and 0 tokens long.
  starts, ends = np.array([0, 5, 1, 4, -1, 0]), np.array([9, 7, 1, 5, 2, 0])
  weights = np.array([1, 1, 0, 1, 1, 1], np.float32)
  batch = make_batch(
    start_positions=starts, end_positions=ends, position_weights=weights
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
  assert_means(question_answering.loss(logits, batch), expected)
  assert_means(question_answering.metrics(logits, batch), metrics)


@pytest.mark.parametrize("logit", [-200.0, 200.0])
def test_binary_cross_entropy_of_extreme_logits_is_finite(logit):
  for label, expected in ((0.0, max(logit, 0)), (1.0, max(-logit, 0))):
    found = losses.binary_cross_entropy(np.float32(logit), np.float32(label))
    assert found == expected
