"""Losses of vectors, by formulas over one row at a time."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bert_jax.models import pooling
from bert_jax.tasks.targets import similarity_losses

SCALE = 7.0
BATCH = 5
RANKING = jax.jit(similarity_losses.ranking, static_argnums=4)


def case(texts, seed=0):
  rng = np.random.default_rng(seed)
  vectors = rng.normal(size=(BATCH, texts, 6)).astype(np.float32)
  # No two texts are the same.
  token_ids = 1 + np.arange(BATCH * texts).reshape(BATCH, texts, 1)
  token_ids = np.pad(token_ids, [(0, 0), (0, 0), (0, 2)]).astype(np.int32)
  return vectors, token_ids, np.ones(BATCH, np.float32)


def rank(vectors, token_ids, weights, symmetric=False):
  means, metrics = RANKING(vectors, token_ids, weights, SCALE, symmetric)
  (mean,), (accuracy,) = means.values(), metrics.values()
  return mean, accuracy


def cosine(a, b):
  return a @ b / np.linalg.norm(a) / np.linalg.norm(b)


def surprise(right, candidates):
  """Minus the logarithm of the softmax of the first among all of them."""
  logits = SCALE * np.array([right, *candidates], np.float64)
  return np.log(np.exp(logits).sum()) - logits[0]


def expected(vectors, is_negative=lambda i, j, text: True):
  """The mean over rows; `is_negative` leaves candidates out."""
  values = []
  for i, (first, second, *_) in enumerate(vectors):
    others = [
      cosine(first, row[text])
      for j, row in enumerate(vectors)
      for text in range(1, len(row))
      if (j, text) != (i, 1) and is_negative(i, j, text)
    ]
    values.append(surprise(cosine(first, second), others))
  return np.mean(values)


@pytest.mark.parametrize("texts", [2, 3])
def test_a_pair_is_told_from_all_others_and_all_negatives(texts):
  vectors, token_ids, weights = case(texts)
  mean, accuracy = rank(vectors, token_ids, weights)
  assert mean.weight == BATCH
  np.testing.assert_allclose(mean.value(), expected(vectors), rtol=1e-5)
  right = [
    max(
      (cosine(row[0], other[text]), j == i and text == 1)
      for j, other in enumerate(vectors)
      for text in range(1, texts)
    )[1]
    for i, row in enumerate(vectors)
  ]
  assert accuracy.value() == pytest.approx(np.mean(right))


def test_both_directions_count_the_same():
  vectors, token_ids, weights = case(2, seed=1)
  there = expected(vectors)
  back = expected(vectors[:, ::-1])
  mean, _ = rank(vectors, token_ids, weights, symmetric=True)
  np.testing.assert_allclose(mean.value(), (there + back) / 2, rtol=1e-5)
  assert abs(there - back) > 0.01


def test_going_back_no_hard_negative_is_a_candidate():
  vectors, token_ids, weights = case(3)
  there, back = expected(vectors), expected(vectors[:, 1::-1])
  mean, _ = rank(vectors, token_ids, weights, symmetric=True)
  np.testing.assert_allclose(mean.value(), (there + back) / 2, rtol=1e-5)


@pytest.mark.parametrize("symmetric", [False, True])
def test_rows_that_pad_are_no_negatives(symmetric):
  vectors, token_ids, weights = case(3)

  @functools.partial(jax.jit, static_argnums=1)
  def loss(vectors, rows):
    padding = [(0, rows - BATCH)]
    ids = np.pad(token_ids, [*padding, (0, 0), (0, 0)])
    counts = np.pad(weights, padding)
    return rank(vectors, ids, counts, symmetric)[0].total

  more = np.pad(vectors, [(0, 3), (0, 0), (0, 0)])
  # Whatever the encoder makes of padding.
  more[BATCH + 1 :] = 2.5
  value, gradient = jax.value_and_grad(loss)(vectors, BATCH)
  padded_value, padded_gradient = jax.value_and_grad(loss)(more, BATCH + 3)
  np.testing.assert_allclose(padded_value, value, rtol=1e-6)
  np.testing.assert_allclose(padded_gradient[:BATCH], gradient, atol=1e-6)
  assert not np.asarray(padded_gradient[BATCH:]).any()
  assert np.abs(gradient).max() > 0.1


def test_texts_that_are_not_there_are_no_negatives():
  vectors, token_ids, weights = case(3)
  token_ids[1, 2] = 0
  mean, _ = rank(vectors, token_ids, weights)
  wanted = expected(vectors, lambda i, j, text: (j, text) != (1, 2))
  np.testing.assert_allclose(mean.value(), wanted, rtol=1e-5)
  assert abs(expected(vectors) - wanted) > 1e-3


@pytest.mark.parametrize(
  ("one", "other", "left_out"),
  [
    # Rows 0 and 3 have one pair, or one first text.
    ((0, 1), (3, 1), [(0, 3, 1), (3, 0, 1)]),
    ((0, 0), (3, 0), [(0, 3, 1), (3, 0, 1)]),
    # The pair of row 3 is the first text of row 0.
    ((0, 0), (3, 1), [(0, 3, 1)]),
    # The negative of a row is the pair, or the first text, of one.
    ((0, 1), (3, 2), [(0, 3, 2)]),
    ((0, 1), (0, 2), [(0, 0, 2)]),
    ((0, 0), (3, 2), [(0, 3, 2)]),
    # A text may be its own pair.
    ((0, 0), (0, 1), []),
    # A negative of two rows.
    ((0, 2), (3, 2), []),
  ],
)
def test_the_same_text_is_no_negative_of_its_own(one, other, left_out):
  vectors, token_ids, weights = case(3)
  token_ids[other], vectors[other] = token_ids[one], vectors[one]
  mean, _ = rank(vectors, token_ids, weights)
  wanted = expected(vectors, lambda *place: place not in left_out)
  np.testing.assert_allclose(mean.value(), wanted, rtol=1e-5)


def test_a_row_alone_has_nothing_to_learn():
  vectors, token_ids, weights = case(2)
  mean, accuracy = rank(vectors[:1], token_ids[:1], weights[:1])
  assert mean.value() == 0
  assert accuracy.value() == 1


def test_cosines_are_drawn_to_the_similarities():
  vectors, _, weights = case(2)
  similarities = np.linspace(0, 1, BATCH, dtype=np.float32)
  weights[2] = 0
  means = similarity_losses.regression(vectors, similarities, weights)
  errors = [cosine(*pair) - s for pair, s in zip(vectors, similarities)]
  wanted = np.square(np.delete(errors, 2)).mean()
  mean = means["similarity_loss"]
  assert mean.weight == BATCH - 1
  np.testing.assert_allclose(mean.value(), wanted, rtol=1e-5)


def test_vectors_of_nothing_have_finite_gradients():
  zeros = jnp.zeros((2, 3))
  gradient = jax.grad(lambda x: pooling.unit(x).sum())(zeros)
  assert np.isfinite(gradient).all()
  units = pooling.unit(np.array([[3.0, 4.0], [0.0, 0.0]], np.float32))
  np.testing.assert_allclose(units, [[0.6, 0.8], [0, 0]], rtol=1e-6)
