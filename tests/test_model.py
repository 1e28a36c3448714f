import jax
import numpy as np
import pytest

import bert_jax
from bert_jax.tasks import TASKS
from tests import pytrees, small
from tests.errors import user_error
from tests.interop import folders


def test_each_mask_gets_top_k_candidates_in_order():
  answer = small.model()("a [MASK] of names and [MASK] [MASK] them", top_k=4)
  assert [len(candidates) for candidates in answer] == [4, 4, 4]
  for candidates in answer:
    probabilities = [c.probability for c in candidates]
    assert probabilities == sorted(probabilities, reverse=True)
    assert 0 < sum(probabilities) <= 1 + 1e-6
  everything = small.model()("[MASK]", top_k=1000)[0]
  assert len(everything) == len(small.tokenizer())
  assert sum(c.probability for c in everything) == pytest.approx(1, abs=1e-5)


def test_a_mask_is_the_special_token_and_what_surrounds_it_is_text():
  (example,) = small.task().preprocess({"text": "the [MASK] [SEP] list"})
  special = small.tokenizer().special
  ids = example.token_ids.tolist()
  assert ids.count(special.mask) == 1
  assert ids.count(special.sep) == 1
  assert ids[example.targets["masked_lm/positions"][0]] == special.mask
  assert ids[0] == special.cls
  assert ids[-1] == special.sep


def test_no_texts_have_no_answers():
  assert small.model()([]) == []


@pytest.mark.parametrize(
  ("texts", "message"),
  [
    ("no mask here", r"no \[MASK\] in the text 'no mask here'"),
    ("", r"no \[MASK\] in the text ''"),
    ("the [MASK] " * 100, "has 202 tokens; the model takes at most 32"),
    (["[MASK]", 3], "input 2: expected a text or a record, got 3"),
    ([{"txt": "[MASK]"}], "input 1: .*the field 'text'"),
    ([{"text": None}], "input 1: .*the field 'text'"),
    ([{"text": float("nan")}], "input 1: .*the field 'text'"),
    (["[MASK]", float("nan")], "input 2: expected a text or a record, got nan"),
    (None, "input 1: expected texts or records, got None"),
    (float("nan"), "input 1: expected texts or records, got nan"),
    (b"[MASK]", "input 1: expected texts or records, got b"),
  ],
)
def test_what_cannot_be_answered_is_said(texts, message):
  with user_error(message):
    small.model()(texts)


def test_an_unknown_option_is_named():
  with user_error("option: unknown 'topk'; did you mean"):
    small.model()("[MASK]", topk=3)


def test_the_package_lists_its_names():
  assert {"Batch", "Model", "ensemble", "load", "save", "soup"} <= {
    *dir(bert_jax)
  }


TWO = ["the array sorts names", "a list"]


@pytest.mark.parametrize("family", ["bert", "albert", "modernbert"])
def test_encode_gives_what_embed_averages(family):
  model = folders.model(family, "classification")
  found = model.encode(TWO)
  assert found.token_ids.shape == found.attention_mask.shape == (2, 16)
  assert found.attention_mask.sum(1).tolist() == [6, 4]
  assert found.last_hidden_state.shape == (2, 16, 16)
  assert found.hidden_states is found.attentions is None
  mask = found.attention_mask[..., None]
  means = (found.last_hidden_state * mask).sum(1) / mask.sum(1)
  np.testing.assert_allclose(model.embed(TWO), means, atol=1e-6)


@pytest.mark.parametrize("family", ["bert", "albert", "modernbert"])
def test_hidden_states_and_attentions(family):
  model = folders.model(family, "classification")
  found = model.encode(TWO, hidden_states=True, attentions=True)
  assert [x.shape for x in found.hidden_states] == [(2, 16, 16)] * 3
  assert [x.shape for x in found.attentions] == [(2, 2, 16, 16)] * 2
  for weights in found.attentions:
    np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-5)
    # The second text has four tokens; nothing attends to padding.
    assert (weights[1, :, :4, 4:] == 0).all()
  if not model.config.pre_norm:
    last = found.hidden_states[-1]
    np.testing.assert_array_equal(last, found.last_hidden_state)
  alone = model.encode(TWO[1], attentions=True)
  np.testing.assert_allclose(
    alone.attentions[1][0], found.attentions[1][1], atol=1e-6
  )


def test_a_head_for_new_labels_is_one_argument(tmp_path):
  bert_jax.save(folders.model("bert", "masked_lm"), tmp_path / "model")
  load = bert_jax.load
  three = load(tmp_path / "model", "classification", num_labels=3)
  assert [x.label for x in three("a list")] != []
  assert {x.label for x in three("a list")} == {f"LABEL_{n}" for n in range(3)}
  named = load(tmp_path / "model", "classification", labels=["yes", "no"])
  assert {x.label for x in named("a list")} == {"yes", "no"}
  both = load(
    tmp_path / "model",
    "dialogue",
    labels={"intent": ["a", "b"], "slots": ["O", "B-x"]},
  )
  assert {x.label for x in both("a list")["intent"]} == {"a", "b"}
  # The encoder is that of the folder.
  kept = folders.model("bert", "masked_lm").params["encoder"]
  pytrees.assert_equal(named.params["encoder"], kept)


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"num_labels": 0}, "num_labels: expected at least 1"),
    ({"num_labels": 2, "labels": ["a"]}, "at least 1 without labels"),
    ({"labels": []}, "labels: expected at least one"),
    ({"labels": {"intent": ["a"]}}, "labels: classification: unknown 'intent'"),
    ({"dtype": "float8"}, "dtype: expected one of"),
  ],
)
def test_wrong_arguments_of_load(tmp_path, options, message):
  bert_jax.save(folders.model("bert", "masked_lm"), tmp_path / "model")
  with user_error(message):
    bert_jax.load(tmp_path / "model", "classification", **options)


def test_a_dtype_to_compute_in(tmp_path):
  bert_jax.save(folders.model("bert", "embedding"), tmp_path / "model")
  low = bert_jax.load(tmp_path / "model", dtype="bfloat16")
  assert low.config.dtype == "bfloat16"
  assert {x.dtype for x in jax.tree.leaves(low.params)} == {
    np.dtype(np.float32)
  }
  high = bert_jax.load(tmp_path / "model")
  np.testing.assert_allclose(low.embed(TWO), high.embed(TWO), atol=0.1)
  assert np.abs(low.embed(TWO) - high.embed(TWO)).max() > 0


def test_another_task_keeps_the_encoder_and_what_means_the_same():
  model = folders.model("bert", "classification")
  other = model.with_task(TASKS["tagging"].for_published())
  assert other.params["encoder"] is model.params["encoder"]
  assert other.params.keys() == {"encoder", "classifier"}
  # A classifier of words is not one of texts.
  assert other.params["classifier"] is not model.params["classifier"]
  same = model.with_task(model.task)
  assert same.params["classifier"] is model.params["classifier"]


def test_batches_are_made_from_plain_arrays():
  ids, mask = [[2, 5, 3, 0], [2, 6, 7, 3]], [[1, 1, 1, 0], [1, 1, 1, 1]]
  batch = bert_jax.Batch.from_ids(ids, mask)
  assert batch.token_ids.dtype == np.int32
  assert batch.sequence_ids.tolist() == mask
  assert batch.position_ids.tolist() == [[0, 1, 2, 2], [0, 1, 2, 3]]
  assert batch.segment_ids.sum() == 0
  assert bert_jax.Batch.from_ids([[4, 5]]).sequence_ids.tolist() == [[1, 1]]
  # Padding on the left has positions that begin at the first token.
  left = bert_jax.Batch.from_ids([[0, 0, 4, 5]], [[0, 0, 1, 1]])
  assert left.position_ids[0, 2:].tolist() == [0, 1]
  assert batch != bert_jax.Batch.from_ids(ids, mask)  # By identity.
  with pytest.raises(ValueError, match="mask: expected the shape of ids"):
    bert_jax.Batch.from_ids(ids, [1, 1])
  with pytest.raises(ValueError, match="ids: expected integers"):
    bert_jax.Batch.from_ids([[0.5]])
