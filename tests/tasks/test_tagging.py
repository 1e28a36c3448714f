import itertools

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from bert_jax import text as texts
from bert_jax.data.grouping import pad
from bert_jax.tasks import tagging, words
from tests import small
from tests.tasks.cases import ENCODER, LONG, predictor
from tests.text import small_files

LABELS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC", "MISC")
CHARACTERS = "the dogcats9,.犬é🤗\n\t\u3000"


@pytest.fixture(params=small_files.FAMILIES, scope="module")
def tokenizer(request, tmp_path_factory):
  root = tmp_path_factory.mktemp("tokenizers")
  return texts.load(small_files.FAMILIES[request.param](root))


def found(text, tokenizer):
  return [
    text[word.start : word.end]
    for word in words.find(text, tokenizer.encode(text), tokenizer)
  ]


@pytest.mark.parametrize(
  ("text", "expected"),
  [
    ("It sorts  the list.", ["It", "sorts", "the", "list", "."]),
    ("sorted, names", ["sorted", ",", "names"]),
    ("\n unheardof\tlist ", ["unheardof", "list"]),
    ("so\u200brts", ["so\u200brts"]),
    ("犬の", ["犬", "の"]),
    ("", []),
    (" \n", []),
  ],
)
def test_words_of_wordpiece_end_at_spaces_and_punctuation(text, expected):
  assert found(text, small.tokenizer()) == expected


@hypothesis.given(st.text(CHARACTERS, max_size=30))
@hypothesis.settings(
  deadline=None,
  max_examples=60,
  derandomize=True,
  suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)
@hypothesis.example("the  dog   cats\n\nthe\t\tdog 9,9 🤗🤗 犬 ")
def test_words_of_other_families_end_at_spaces(tokenizer, text):
  spans = found(text, tokenizer)
  if tokenizer.special.unknown in tokenizer.encode(text).ids:
    # What is not in the vocabulary may be a word of its own.
    assert "".join(spans) == "".join(text.split())
    assert not any(map(str.isspace, "".join(spans)))
  else:
    assert spans == text.split()


@hypothesis.given(st.lists(st.text(CHARACTERS, max_size=6), max_size=8))
@hypothesis.settings(
  deadline=None,
  max_examples=60,
  derandomize=True,
  suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)
def test_given_words_begin_with_the_pieces_that_found_ones_do(tokenizer, given):
  given = ["".join(word.split()) for word in given]
  given = [word for word in given if word]
  encoding = tokenizer.encode(" ".join(given))
  located = words.locate(given, encoding, tokenizer)
  assert [word.start for word in located] == [*range(len(given))]
  assert [word.end for word in located] == [*range(1, len(given) + 1)]
  if tokenizer.special.unknown not in encoding.ids:
    again = words.find(" ".join(given), encoding, tokenizer)
    assert [word.piece for word in located] == [word.piece for word in again]


def test_given_words_may_hold_spaces_or_nothing():
  given = ["the list", "", "sorts", "\u200b", "it"]
  encoding = small.tokenizer().encode(" ".join(given))
  located = words.locate(given, encoding, small.tokenizer())
  assert [given[word.start] for word in located] == ["the list", "sorts", "it"]


def tag(record, labels, max_length=32, entities=False):
  """Answers of a model that gives first pieces these labels, in turn."""
  head = tagging.Head(LABELS)
  task = tagging.make(ENCODER, small.tokenizer(), head)
  examples = tagging.prepare(small.tokenizer(), max_length, record)
  batch = pad(examples)
  # All that is no first piece is labelled otherwise, with much certainty.
  logits = np.zeros((*batch.token_ids.shape, len(LABELS)), np.float32)
  logits[..., LABELS.index("MISC")] = 50
  labels = itertools.cycle(labels)
  for row, example in enumerate(examples):
    for position in example.targets["positions"]:
      logits[row, position] = 0
      logits[row, position, LABELS.index(next(labels))] = 3
  found = task.answer(logits, batch, [record] * len(examples), entities)
  return task.join(found)


# "sorted" and "sorts" are of two pieces each.
RECORD = {"text": "the array sorted names . it sorts a list"}
GIVEN = ["O", "B-PER", "I-PER", "I-LOC", "I-LOC", "B-LOC", "B-LOC", "MISC", "O"]


def test_each_word_has_the_label_of_its_first_piece():
  answer = tag(RECORD, GIVEN)
  assert [word.label for word in answer] == GIVEN
  assert [word.word for word in answer] == RECORD["text"].split()
  for word in answer:
    assert RECORD["text"][word.start : word.end] == word.word
    expected = np.exp(3) / (np.exp(3) + len(LABELS) - 1)
    assert word.probability == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("is_split", [False, True])
def test_words_of_one_entity_are_joined(is_split):
  record = {"words": RECORD["text"].split()} if is_split else RECORD
  answer = tag(record, GIVEN, entities=True)
  assert [(entity.text, entity.label) for entity in answer] == [
    ("array sorted", "PER"),
    ("names .", "LOC"),
    ("it", "LOC"),
    ("sorts", "LOC"),
    ("a", "MISC"),
  ]
  for entity in answer:
    if is_split:
      part = " ".join(record["words"][entity.start : entity.end])
    else:
      part = record["text"][entity.start : entity.end]
    assert part == entity.text
    assert 0.7 < entity.probability < 0.9


def test_nothing_but_outsiders_is_no_entity():
  assert tag(RECORD, ["O"], entities=True) == []
  assert tag({"text": ""}, ["O"], entities=True) == []
  assert tag({"text": ""}, ["O"]) == []


def test_windows_are_joined_to_one_answer():
  whole = tag({"text": LONG}, ["B-PER", "O", "I-LOC"], max_length=1000)
  parts = tag({"text": LONG}, ["B-PER", "O", "I-LOC"], max_length=12)
  assert parts == whole
  assert [word.word for word in whole] == LONG.split()
  (entity,) = tag({"text": LONG}, ["I-PER"], max_length=12, entities=True)
  assert (entity.start, entity.end) == (0, len(LONG.rstrip()))


def test_given_words_have_indices_for_characters():
  given = ["it", "sorted", "names"]
  answer = predictor("tagging")([{"words": given}])[0]
  assert [word.word for word in answer] == given
  assert [(word.start, word.end) for word in answer] == [(0, 1), (1, 2), (2, 3)]
