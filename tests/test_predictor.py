import numpy as np
import pytest

from bert_jax.data.grouping import pad
from bert_jax.settings import UserError
from tests import small

TEXTS = [
  "the array is [MASK] in place",
  "[MASK]",
  "a [MASK] of names and [MASK] [MASK] them",
  "it [MASK] a list",
  "the [MASK] " * 6,
]


def flat(answer):
  return [(c.token, c.probability) for mask in answer for c in mask]


def test_answers_do_not_depend_on_the_other_texts():
  predictor = small.predictor()
  together = predictor(TEXTS, top_k=3)
  for text, answer in zip(TEXTS, together):
    alone = predictor(text, top_k=3)
    assert [t for t, _ in flat(alone)] == [t for t, _ in flat(answer)]
    np.testing.assert_allclose(
      [p for _, p in flat(alone)], [p for _, p in flat(answer)], rtol=1e-4
    )


def test_each_mask_gets_top_k_candidates_in_order():
  answer = small.predictor()(TEXTS[2], top_k=4)
  assert [len(candidates) for candidates in answer] == [4, 4, 4]
  for candidates in answer:
    probabilities = [c.probability for c in candidates]
    assert probabilities == sorted(probabilities, reverse=True)
    assert 0 < sum(probabilities) <= 1 + 1e-6
  everything = small.predictor()("[MASK]", top_k=1000)[0]
  assert len(everything) == len(small.tokenizer())
  assert sum(c.probability for c in everything) == pytest.approx(1, abs=1e-5)


def test_a_mask_is_the_special_token_and_what_surrounds_it_is_text():
  (example,) = small.task().prepare({"text": "the [MASK] [SEP] list"})
  special = small.tokenizer().special
  ids = example.token_ids.tolist()
  assert ids.count(special.mask) == 1
  assert ids.count(special.sep) == 1
  assert ids[example.targets["masked_lm/positions"][0]] == special.mask
  assert ids[0] == special.cls
  assert ids[-1] == special.sep


def test_no_texts_have_no_answers():
  assert small.predictor()([]) == []


@pytest.mark.parametrize(
  ("texts", "message"),
  [
    ("no mask here", r"no \[MASK\] in the text 'no mask here'"),
    ("", r"no \[MASK\] in the text ''"),
    ("the [MASK] " * 100, "has 202 tokens; the model takes at most 32"),
    (["[MASK]", 3], "input 2: expected a text or a record, got 3"),
    ([{"txt": "[MASK]"}], "input 1: .*the field 'text'"),
  ],
)
def test_what_cannot_be_answered_is_said(texts, message):
  with pytest.raises(UserError, match=message):
    small.predictor()(texts)


def test_padding_reaches_powers_of_two_with_zeros():
  task = small.task()
  batch = pad([task.prepare({"text": text})[0] for text in TEXTS[:3]])
  assert batch.token_ids.shape == (4, 16)
  assert batch.targets["masked_lm/positions"].shape == (4, 4)
  assert batch.sequence_ids[3].sum() == 0
  assert batch.targets["masked_lm/weights"].sum() == 1 + 1 + 3
