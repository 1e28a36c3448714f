"""Texts that are written from a source."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bert_jax.data import grouping
from bert_jax.settings import UserError
from bert_jax.tasks.inputs.source import Source
from bert_jax.tasks.targets.next_tokens import NextTokens
from tests import pytrees, small
from tests.errors import user_error
from tests.tasks import cases

CLS, SEP, MASK = (
  getattr(small.tokenizer().special, name) for name in ("cls", "sep", "mask")
)


def ids(text):
  (pieces,) = small.tokenizer().encode_pieces([text])
  return pieces


def make(length=32, inputs=None, **options):
  return cases.task(
    "generation", inputs or Source(length), masked_lm=NextTokens(**options)
  )


def example(record, **options):
  (found,) = make(**options).preprocess(record, labelled=True)
  return found


PAIR = {"text": "the list is", "target": "it sorts them"}


def test_a_causal_row_is_the_source_and_stage_after_stage_the_target():
  found = example(PAIR)
  target = ids("it sorts them")
  assert found.token_ids.tolist() == [
    *(CLS, *ids("the list is"), SEP),
    *(*target, SEP),
  ]
  size = len(target) + 1
  assert found.stage_ids.tolist() == [0] * 5 + [*range(1, size + 1)]
  assert found.position_ids.tolist() == [*range(5 + size)]
  assert found.segment_ids.tolist() == [0] * 5 + [1] * size
  assert found.sequence_ids.tolist() == [1] * (5 + size)
  # The place before predicts, from the end of the source on.
  places = found.targets["masked_lm/positions"]
  assert places.tolist() == [*range(4, 4 + size)]
  assert found.targets["masked_lm/ids"].tolist() == [*target, SEP]
  assert found.targets["masked_lm/weights"].tolist() == [1] * size


def test_masked_copies_predict_at_the_places_of_their_tokens():
  causal, found = example(PAIR), example(PAIR, objective="masked")
  size = causal.token_ids.size - 5
  for name in ("token_ids", "stage_ids", "position_ids"):
    own, expected = (getattr(x, name).tolist() for x in (found, causal))
    copies = {
      "token_ids": [MASK] * size,
      "stage_ids": [-n for n in range(1, size + 1)],
      "position_ids": [*range(5, 5 + size)],
    }
    assert own == [*expected, *copies[name]]
  places = found.targets["masked_lm/positions"]
  assert places.tolist() == [*range(5 + size, 5 + 2 * size)]
  assert found.targets["masked_lm/ids"].tolist() == [*ids(PAIR["target"]), SEP]


@pytest.mark.parametrize("objective", ["causal", "masked"])
def test_a_token_is_predicted_from_the_source_and_the_tokens_before(objective):
  task = make(objective=objective)
  params = pytrees.of_task(task)
  apply = jax.jit(lambda batch: task.module.apply({"params": params}, batch))

  def logits(record):
    (made,) = task.preprocess(record, labelled=True)
    batch = grouping.pad([made], task.axes, grow=lambda _: 24)
    (found,) = apply(batch)["masked_lm"]
    return found[: made.targets["masked_lm/ids"].size]

  one, other = (
    logits({"text": "the list is", "target": target})
    for target in ("a list of names", "a list in place")
  )
  # The words from the third on differ, and so all that is predicted after it.
  np.testing.assert_allclose(one[:3], other[:3], atol=1e-5)
  assert (abs(one[3:] - other[3:]).max(-1) > 1e-3).all()
  changed = logits({"text": "the array is", "target": "a list of names"})
  assert (abs(one - changed).max(-1) > 1e-3).all()


def test_turns_are_joined_by_the_separator_and_the_oldest_are_cut():
  turns = ["the list", "it sorts", "a place"]
  (found,) = make().preprocess({"turns": turns})
  assert found.token_ids.tolist() == [
    *(CLS, *ids("the list"), SEP, *ids("it sorts"), SEP),
    *(*ids("a place"), SEP),
  ]
  assert found.stage_ids is None
  (short,) = make(10, max_target_length=4).preprocess({"turns": turns})
  assert short.token_ids.tolist() == [
    *(CLS, ids("sorts")[-1], SEP, *ids("a place"), SEP)
  ]


@pytest.mark.parametrize(
  ("keep", "kept"), [("", [0, 1, 2]), ("start", [0, 1, 2]), ("end", [3, 4, 5])]
)
def test_a_long_text_is_cut_where_the_config_says(keep, kept):
  words = "the array is in place of"
  task = make(inputs=Source(9, keep=keep), max_target_length=4)
  (row,) = task.rows({"text": words, "target": "a " * 9}, labelled=True)
  tokens = row.example.token_ids.tolist()
  assert tokens[:5] == [CLS, *(ids(words)[i] for i in kept), SEP]
  assert tokens[5:] == [*ids("a a a"), SEP]
  assert [tuple(cut) for cut in row.cuts] == [("text", 6, 3), ("target", 9, 3)]


def test_targets_leave_room_to_sources():
  assert make(16)._room == 8
  assert dataclasses.replace(make(), inputs=Source(300))._room == 16
  assert NextTokens().room(8192) == 128
  with user_error("max_target_length: 14 leaves no room for a source"):
    make(16, max_target_length=14).preprocess(PAIR)


def test_special_tokens_alone_are_no_source():
  tokenizer = small.tokenizer().with_split_special_tokens(False)
  task = make().bind(cases.ENCODER, tokenizer)
  with user_error(r"'text' is empty; expected a text, got '\[SEP\] \[MASK\]',"):
    task.preprocess({"text": "[SEP] [MASK]"})
  with user_error("the field 'target' has no tokens"):
    task.preprocess({"text": "a", "target": "\x01"}, labelled=True)


def test_a_mask_is_a_gap_if_the_config_says_so():
  text = {"text": "the [MASK] sorts"}
  (plain,) = make().preprocess(text)
  assert MASK not in plain.token_ids
  (gap,) = make(inputs=Source(32, masks=True)).preprocess(text)
  assert gap.token_ids.tolist() == [
    *(CLS, *ids("the"), MASK, *ids("sorts"), SEP)
  ]


def test_what_is_cut_is_counted_or_an_error_with_its_place(tmp_path):
  rows = [
    {"text": "the list " * n, "target": "a " * (2 * n - 1)} for n in (1, 4, 6)
  ]
  options = {"max_length": 12, "masked_lm": {"max_target_length": 4}}
  _, data = cases.fit(tmp_path, "generation", rows, **options)
  assert data.notes[1:] == (
    "text is cut in 2 of 3 training records, by 4 tokens in the mean",
    "target is cut in 2 of 3 training records, by 6 tokens in the mean",
  )
  with user_error(r"train\.jsonl:2: the field 'text' has 8 tokens, of which 6"):
    cases.fit(tmp_path, "generation", rows, too_long="fail", **options)
  with pytest.raises(UserError, match="too_long: expected cut or fail, got"):
    cases.fit(tmp_path, "generation", rows, too_long="x", **options)


@pytest.mark.parametrize("objective", ["causal", "masked"])
def test_rows_are_counted_as_they_are_computed(tmp_path, objective):
  options = {"objective": objective, "max_target_length": 4}
  rows = [PAIR] * 3
  _, data = cases.fit(
    tmp_path, "generation", rows, max_length=12, masked_lm=options
  )
  assert data.predictions == 4
  assert data.max_length == 5 + (8 if objective == "masked" else 4)
  batch = data.training(2, 0, None).batch(0, range(2))
  assert batch.token_ids.shape == (2, 13 if objective == "masked" else 12)
  assert batch.targets["masked_lm/ids"].shape == (2, 4)


def test_what_is_measured_while_training_is_the_likelihood_of_the_gold_text():
  target = NextTokens(label_smoothing=0.1)
  rng = np.random.default_rng(0)
  logits = jnp.asarray(rng.normal(size=(2, 3, 5)), jnp.float32)
  arrays = {
    "ids": jnp.array([[1, 2, 3], [4, 0, 0]]),
    "weights": jnp.array([[1.0, 1, 1], [1, 0, 0]]),
  }
  measured = target.measured(logits, arrays, None)
  likelihoods = target.predict(measured, None, [{}, {}], None)
  found = target.evaluate([{}, {}], likelihoods)
  chosen = np.asarray(jax.nn.log_softmax(logits))[
    [0, 0, 0, 1], [0, 1, 2, 0], [1, 2, 3, 4]
  ]
  assert found["perplexity"] == pytest.approx(np.exp(-chosen.mean()), rel=1e-5)
  right = logits.argmax(-1)[[0, 0, 0, 1], [0, 1, 2, 0]] == np.array(
    [1, 2, 3, 4]
  )
  assert found["token_accuracy"] == pytest.approx(right.mean())
  # The loss to be learned is smoothed; perplexity is not.
  smooth = np.asarray(jax.nn.log_softmax(logits)).mean(-1)
  smooth = smooth[[0, 0, 0, 1], [0, 1, 2, 0]]
  loss = target.loss(logits, arrays, None)["loss"].value()
  assert loss == pytest.approx(-(0.9 * chosen + 0.1 * smooth).mean(), rel=1e-5)
