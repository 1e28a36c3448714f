"""Which pieces make the words of a text."""

import hypothesis
import pytest
from hypothesis import strategies as st

from bert_jax import text as texts
from bert_jax.tasks.inputs import words
from tests import small
from tests.text import small_files

REPEATABLE = hypothesis.settings(
  max_examples=60,
  suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)
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
@REPEATABLE
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
@REPEATABLE
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
