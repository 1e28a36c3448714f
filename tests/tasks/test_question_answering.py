import numpy as np
import pytest

from bert_jax.data.grouping import pad
from bert_jax.tasks.inputs.question_context import QuestionContext
from bert_jax.tasks.targets import spans
from bert_jax.tasks.targets.span import Answer
from tests import small
from tests.tasks.cases import ENCODER, LONG, model, task

CONTEXT = "the names sorted in place , it sorts them"
RECORD = {"question": "a list", "context": CONTEXT}


def softmax(x):
  x = np.exp(np.asarray(x, np.float64) - np.max(x))
  return x / x.sum()


def brute_force(logits, in_context, max_length):
  """Every span with its score, best first, and the score of no answer."""
  used = [0, *np.flatnonzero(in_context)]
  starts, ends = np.zeros((2, len(logits)))
  starts[used], ends[used] = softmax(logits[used, 0]), softmax(logits[used, 1])
  found = [
    (starts[i] * ends[j], i, j)
    for i in range(len(logits))
    for j in range(i, min(i + max_length, len(logits)))
    if in_context[i] and in_context[j]
  ]
  return sorted(found, reverse=True), starts[0] * ends[0]


@pytest.mark.parametrize("max_length", [1, 3, 100])
def test_spans_are_those_of_trying_them_all(max_length):
  rng = np.random.default_rng(max_length)
  logits = rng.normal(0, 2, (3, 12, 2)).astype(np.float32)
  in_context = np.zeros((3, 12), bool)
  in_context[0, 4:11] = in_context[1, 3:5] = True  # And a row that only pads.
  found = spans.best(logits, in_context, max_length, 8)
  for row, own in enumerate(found):
    expected, null_score = brute_force(logits[row], in_context[row], max_length)
    scores = np.exp(own.logits - own.normalizer)
    assert len(scores) == min(len(expected), 8)
    for k, (score, first, last) in enumerate(expected[:8]):
      assert scores[k] == pytest.approx(score, rel=1e-4)
      assert (own.firsts[k], own.lasts[k]) == (first, last)
    null = np.exp(own.null_logit - own.normalizer)
    assert null == pytest.approx(null_score, rel=1e-4)


def in_chunks():
  inputs = QuestionContext(ENCODER.max_positions, stride=4)
  return task("question_answering", inputs)


def answers(record, peaks, **options):
  """Answers of a model whose logits are 0 but at these (chunk, column)s."""
  made = in_chunks()
  examples = made.preprocess(record)
  batch = pad(examples, made.axes)
  logits = np.zeros((*batch.token_ids.shape, 2), np.float32)
  for place, value in peaks.items():
    logits[place] = value
  made.check_options(options)
  records = [record] * len(examples)
  rows = made.predict({"classifier": logits}, batch, records, **options)
  return made.decode(record, made.merge(record, rows), **options)


def place_of(word, record=RECORD):
  """The column of a word's first piece, in the first chunk."""
  (example,) = in_chunks().preprocess(record)
  start = record["context"].index(word)
  in_context = example.targets["inputs/in_context"]
  starts = example.targets["inputs/starts"]
  return int(np.flatnonzero(in_context & (starts == start))[0])


def test_the_answer_is_a_part_of_the_context():
  first, last = place_of("names"), place_of("sorted")
  (found,) = answers(RECORD, {(0, first, 0): 20, (0, last, 1): 20})
  # "sorted" is "sort ##ed": the rest of the word belongs to the answer.
  assert (found.text, found.start, found.end) == ("names sorted", 4, 16)
  assert found.score == pytest.approx(1, abs=1e-4)
  (found,) = answers(
    RECORD, {(0, first, 0): 20, (0, last, 1): 20}, align_to_words=False
  )
  assert found.text == "names sort"


def test_spans_of_the_same_words_add_up():
  first = place_of("sorted")
  peaks = {(0, first, 0): 20, (0, first, 1): 20, (0, first + 1, 1): 20}
  apart = answers(RECORD, peaks, top_k=2, align_to_words=False)
  assert sorted(a.text for a in apart) == ["sort", "sorted"]
  assert [a.score for a in apart] == pytest.approx([0.5, 0.5], abs=1e-4)
  best, second = answers(RECORD, peaks, top_k=2)
  assert best.text == "sorted"
  assert best.score == pytest.approx(1, abs=1e-4)
  assert second.score < 1e-4


def test_long_answers_are_left_out():
  peaks = {(0, place_of("the"), 0): 20, (0, place_of("them"), 1): 20}
  (found,) = answers(RECORD, peaks)
  assert found.text == CONTEXT
  (found,) = answers(RECORD, peaks, max_answer_length=3)
  assert len(found.text) < len(CONTEXT)


def test_that_there_is_no_answer_is_an_answer_if_wanted():
  peaks = {(0, 0, 0): 20, (0, 0, 1): 20}
  (found,) = answers(RECORD, peaks)
  assert found.text
  best, second = answers(RECORD, peaks, no_answer=True, top_k=2)
  assert best == Answer("", 0, 0, pytest.approx(1, abs=1e-4))
  assert second == found
  only = answers(RECORD, {(0, place_of("it"), 0): 20}, no_answer=True)
  assert only[0].text.startswith("it")


def test_the_best_chunk_wins_and_its_offsets_are_those_of_the_context():
  record = {"question": "a list", "context": LONG}
  examples = in_chunks().preprocess(record)
  chunk, column = 2, 9
  start = int(examples[chunk].targets["inputs/starts"][column])
  peaks = {
    (chunk, column, 0): 9,
    (chunk, column, 1): 9,
    (0, 7, 0): 4,
    (0, 7, 1): 4,
  }
  for k in range(len(examples)):  # In all but one, no answer is likelier.
    if k != chunk:
      peaks[k, 0, 0] = peaks[k, 0, 1] = 15
  (best,) = answers(record, peaks, no_answer=True)
  assert best.start == start
  assert LONG[best.start : best.end] == best.text
  scores = [a.score for a in answers(record, peaks, top_k=5)]
  assert scores == sorted(scores, reverse=True)
  assert max(scores) <= 1


def test_a_context_without_tokens_has_no_answers():
  record = {"question": "a", "context": "\u200b"}
  assert model("question_answering")([record]) == [[]]
  ((null,),) = model("question_answering")([record], no_answer=True)
  assert null.text == ""


def test_special_tokens_in_a_context_are_text():
  record = {"question": "[SEP] a", "context": "the [SEP] list [CLS] it"}
  (example,) = in_chunks().preprocess(record)
  special = small.tokenizer().special
  assert example.token_ids.tolist().count(special.sep) == 2
  targets = example.targets
  used = targets["inputs/in_context"]
  spans_of = zip(targets["inputs/starts"][used], targets["inputs/ends"][used])
  covered = {i for start, end in spans_of for i in range(start, end)}
  context = record["context"]
  assert covered == {i for i, c in enumerate(context) if not c.isspace()}


@pytest.mark.parametrize(
  ("place", "expected"),
  [(1, "the"), (2, "cats"), (4, "cats"), (5, "..."), (7, "...")],
)
def test_words_of_pieces_that_tell_only_of_spaces_end_at_punctuation(
  place, expected
):
  text = "the cats..."
  tokens = spans.Tokens(
    starts=np.array([0, 0, 4, 5, 7, 8, 9, 10, 0]),
    ends=np.array([0, 3, 5, 7, 8, 9, 10, 11, 0]),
    in_context=np.array([0, 1, 1, 1, 1, 1, 1, 1, 0], bool),
    continuations=np.array([0, 0, 0, 1, 1, 1, 1, 1, 0], bool),
  )
  first, last = spans.widen(tokens, text, place, place)
  assert text[tokens.starts[first] : tokens.ends[last]] == expected
