"""Answers of the tasks that are about a whole text or several."""

import numpy as np
import pytest

from bert_jax.data.grouping import pad
from bert_jax.tasks.inputs.pairs import Pairs
from bert_jax.tasks.inputs.texts import Texts
from bert_jax.tasks.targets.choice import RankedChoice
from bert_jax.tasks.targets.similarity import Similarity
from tests import small
from tests.tasks.cases import ENCODER, LONG, task


def answers(name, outputs, batch, records):
  """The answers of a task with one target, from its head's outputs."""
  made = task(name)
  (head,) = made.head_names.values()
  predictions = made.predict({head: outputs}, batch, records)
  return [
    made.decode(record, made.merge(record, [prediction]))
    for record, prediction in zip(records, predictions)
  ]


@pytest.mark.parametrize(
  ("name", "record"),
  [
    ("classification", {"text": LONG}),
    ("classification", {"text": LONG, "pair": None}),
    ("classification", {"text": "it", "pair": LONG}),
    ("next_sentence", {"text": LONG, "pair": "it"}),
    ("embedding", {"text": LONG}),
    ("multiple_choice", {"text": "it", "choices": ["a", LONG]}),
  ],
)
def test_long_texts_are_truncated(name, record):
  (example,) = task(name).preprocess(record)
  assert example.token_ids.shape[-1] == ENCODER.max_positions
  sep = small.tokenizer().special.sep
  ends = 1 + (record.get("pair") is not None or "choices" in record)
  row = example.token_ids.reshape(-1, ENCODER.max_positions)[-1]
  assert row[-1] == sep
  assert (row == sep).sum() == ends
  assert example.segment_ids.max() == ends - 1


@pytest.mark.parametrize(
  ("name", "inputs"), [("classification", Texts), ("embedding", Pairs)]
)
def test_inputs_may_be_shorter_than_the_encoder_but_not_longer(name, inputs):
  for max_length, expected in ((7, 7), (1000, ENCODER.max_positions)):
    made = task(name, inputs=inputs(max_length))
    (example,) = made.preprocess({"text": LONG})
    assert example.token_ids.size == expected


def test_choices_are_ranked_and_those_that_pad_get_no_probability():
  made = task("multiple_choice")
  records = [
    {"text": "it", "choices": ["a", "the list", "names"]},
    {"text": "it", "choices": ["sorts"]},
  ]
  examples = [made.preprocess(record)[0] for record in records]
  batch = pad(examples, made.axes)
  assert batch.token_ids.shape == (2, 4, 16)
  logits = np.array([[1, 2, 0, 99], [5, 99, 99, 99]], np.float32)
  first, second = answers("multiple_choice", logits[..., None], batch, records)
  assert [(c.index, c.choice) for c in first] == [
    (1, "the list"),
    (0, "a"),
    (2, "names"),
  ]
  expected = np.exp([2, 1, 0]) / np.exp([2, 1, 0]).sum()
  np.testing.assert_allclose([c.probability for c in first], expected, 1e-5)
  assert second == [RankedChoice(0, "sorts", 1.0)]


def test_the_first_label_stands_for_the_next_sentence():
  logits = np.array([[[4.0, 0]], [[0, 0]]], np.float32)
  first, second = answers("next_sentence", logits, None, [{}, {}])
  assert first.probability == pytest.approx(1 / (1 + np.exp(-4)))
  assert second.probability == pytest.approx(0.5)


def test_every_token_of_a_text_is_judged():
  record = {"text": "It sorted 犬."}
  made = task("replaced_tokens")
  batch = pad(made.preprocess(record), made.axes)
  logits = np.arange(16, dtype=np.float32)[None, :, None]  # Most of them pad.
  (found,) = answers("replaced_tokens", logits, batch, [record])
  expected = [
    ("it", "It"),
    ("sort", "sort"),
    ("##ed", "ed"),
    ("[UNK]", "犬"),
    ("[UNK]", "."),
  ]
  text = record["text"]
  assert [(t.token, text[t.start : t.end]) for t in found] == expected
  np.testing.assert_allclose(
    [t.probability for t in found], 1 / (1 + np.exp(-np.arange(1.0, 6))), 1e-5
  )


def pooled(hidden, used, target):
  """One row at a time, the modes in the order in which they are given."""
  rows = []
  for vectors, keep in zip(np.asarray(hidden, np.float64), used):
    kinds = {
      "cls": vectors[0],
      "max": vectors[keep].max(0),
      "mean": vectors[keep].mean(0),
    }
    row = np.concatenate([kinds[kind] for kind in target.pooling])
    rows.append(row / np.linalg.norm(row) if target.normalize else row)
  return np.array(rows)


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize(
  "pooling", [("cls",), ("max",), ("mean",), ("mean", "cls", "max")]
)
def test_pooling_leaves_padding_out(pooling, normalize):
  target = Similarity(pooling, normalize)
  hidden = np.random.default_rng(0).normal(-3, 1, (3, 5, 4)).astype(np.float32)
  used = np.arange(5) < np.array([[5], [1], [3]])
  hidden[~used] = 100
  vectors = target.pool(hidden, used.astype(np.int32))
  assert vectors.dtype == np.float32
  np.testing.assert_allclose(vectors, pooled(hidden, used, target), rtol=1e-5)


def test_rows_that_only_pad_make_no_nan():
  target = Similarity(("cls", "max", "mean"), normalize=True)
  zeros = np.zeros((1, 4), np.int32)
  vectors = target.pool(np.zeros((1, 4, 2), np.float32), zeros)
  assert np.isfinite(vectors).all()


def test_bfloat16_vectors_are_pooled_in_float32():
  hidden = np.array([[[256.0], [1.0], [1.0], [1.0]]], "bfloat16")
  ones = np.ones((1, 4), np.int32)
  vectors = Similarity().pool(hidden, ones)
  assert vectors.dtype == np.float32
  assert vectors.item() == 259 / 4
