"""What the chunks of a context learn."""

import pytest

from bert_jax.tasks.inputs.question_context import QuestionContext
from bert_jax.text import load
from tests import small
from tests.errors import user_error
from tests.tasks.cases import ENCODER, LONG, task
from tests.text import small_files

CONTEXT = "the names sorted in place , it sorts them"


def preprocess(record, tokenizer=None, max_length=32, **options):
  inputs = QuestionContext(max_length, **{"stride": 4, **options})
  made = task("question_answering", inputs)
  if tokenizer:
    made = made.bind(ENCODER, tokenizer)
  return made.preprocess(record)


def answered(answers, context=CONTEXT, **options):
  record = {"question": "a list", "context": context, "answers": answers}
  return preprocess(record, **options)


def gold(example, context):
  """The text that a chunk learns, and its weight."""
  targets = example.targets
  first = targets["answer/start_positions"]
  last = targets["answer/end_positions"]
  text = context[targets["inputs/starts"][first] : targets["inputs/ends"][last]]
  return text, float(targets["answer/weights"])


def answer(text, context=CONTEXT):
  return {"text": text, "start": context.index(text)}


@pytest.mark.parametrize(
  ("text", "expected"),
  [
    ("names", "names"),
    ("names sorted", "names sorted"),
    ("sorts them", "sorts them"),
    ("sort", "sort"),  # A piece of "sorted".
    ("ames so", "names sort"),  # Within pieces.
    ("the", "the"),
    (" them", "them"),
    ("in place ", "in place"),
    (CONTEXT, CONTEXT),
  ],
)
def test_the_answer_is_learned_as_its_tokens(text, expected):
  (example,) = answered([answer(text)])
  assert gold(example, CONTEXT) == (expected, 1)
  first = int(example.targets["answer/start_positions"])
  assert example.targets["inputs/in_context"][first]


@pytest.mark.parametrize("family", small_files.FAMILIES)
@pytest.mark.parametrize(
  ("start", "text", "expected"),
  [(4, "cats", "cats"), (9, "dog ", "dog"), (8, " dog a", "dog a")],
)
def test_spaces_around_an_answer_are_not_learned(
  family, start, text, expected, tmp_path
):
  tokenizer = load(small_files.FAMILIES[family](tmp_path / family))
  context = "the cats dog a"
  record = {
    "question": "the dog",
    "context": context,
    "answers": [{"text": text, "start": start}],
  }
  (example,) = preprocess(record, tokenizer)
  found, _ = gold(example, context)
  assert found == expected


def test_the_first_of_several_answers_is_learned():
  (example,) = answered([answer("them"), answer("names")])
  assert gold(example, CONTEXT) == ("them", 1)


def test_where_there_is_no_answer_the_first_token_is_learned():
  (example,) = answered([])
  assert example.targets["answer/start_positions"] == 0
  assert example.targets["answer/end_positions"] == 0
  assert example.targets["answer/weights"] == 1


def test_without_answers_there_is_nothing_to_learn():
  record = {"question": "a list", "context": CONTEXT}
  (example,) = preprocess(record)
  assert example.targets.keys() == {
    *("inputs/starts", "inputs/ends", "inputs/in_context")
  }


def test_chunks_that_cut_the_answer_learn_that_there_is_none():
  start = LONG.index("names . the array", len(LONG) // 2)
  text = "names . the array"
  made = answered([{"text": text, "start": start}], LONG, max_length=24)
  assert len(made) > 3
  whole = 0
  for example in made:
    targets = example.targets
    used = targets["inputs/in_context"]
    begins = targets["inputs/starts"][used].min()
    ends = targets["inputs/ends"][used].max()
    if begins <= start and start + len(text) <= ends:
      whole += 1
      place = int(targets["answer/start_positions"])
      assert targets["inputs/starts"][place] == start
      assert gold(example, LONG) == (text, 1)
    else:
      assert targets["answer/start_positions"] == 0
      assert targets["answer/end_positions"] == 0
  assert 0 < whole < len(made)


def test_long_questions_are_cut():
  record = {"question": LONG, "context": "it sorts names"}
  (example,) = preprocess(record, max_question=5)
  tokens = [small.tokenizer().token(id) for id in example.token_ids]
  assert " ".join(tokens) == (
    "[CLS] it sort ##ed a list [SEP] it sorts names [SEP]"
  )
  assert example.segment_ids.tolist() == [0] * 7 + [1] * 4
  (example,) = preprocess(record)
  assert (example.segment_ids == 0).sum() == 16  # Half of the longest row.


@pytest.mark.parametrize(
  ("answers", "message"),
  [
    ([{"text": " ", "start": 3}], "the answer ' ' at .* has no tokens"),
  ],
)
def test_answers_that_are_not_in_the_context_are_refused(answers, message):
  with user_error(message):
    answered(answers)
