"""Text that is written piece after piece, and spaces around punctuation."""

import hypothesis
import pytest
from hypothesis import strategies

from bert_jax.text import byte_level, byte_level_trainer
from bert_jax.text.detokenization import detokenized
from bert_jax.text.pieces import Pieces
from bert_jax.text.wordpiece import SPECIAL_TOKENS, WordPiece

COUNTS = byte_level_trainer.count_words(["the list, the names: das Größte 語"])
MARKS = [*"abst0123.,:;!?'\"-/_()[]{}$%#@日本"]
VOCABULARIES = {
  "byte_level": byte_level.of_merges(*byte_level_trainer.train(COUNTS, 270)),
  "wordpiece": WordPiece([*SPECIAL_TOKENS, *MARKS, "##a", "##s", "##1"]),
}


@pytest.mark.parametrize("name", VOCABULARIES)
@hypothesis.given(data=strategies.data())
@hypothesis.settings(max_examples=200)
def test_pieces_joined_are_the_text_and_never_half_a_character(name, data):
  tokenizer = VOCABULARIES[name]
  ids = data.draw(
    strategies.lists(
      strategies.integers(len(SPECIAL_TOKENS), len(tokenizer) - 1), max_size=20
    )
  )
  pieces = Pieces(tokenizer)
  found = [pieces.add(id) for id in ids]
  whole = tokenizer.detokenize(ids).strip()
  assert "".join([*found, pieces.end()]) == whole


def test_a_character_of_several_tokens_comes_whole():
  tokenizer = VOCABULARIES["byte_level"]
  (ids,) = tokenizer.encode_pieces(["the €𝄞 names"])
  pieces = Pieces(tokenizer)
  found = [pieces.add(id) for id in ids]
  assert not any("\ufffd" in piece for piece in found)
  assert "".join([*found, pieces.end()]) == "the €𝄞 names"
  # It does not wait for the end.
  assert "".join(found) == "the €𝄞 name"


@pytest.mark.parametrize(
  ("given", "written"),
  [
    ("it ' s a list , isn ' t it ?", "it's a list, isn't it?"),
    ("a well - known / new foo _ bar", "a well-known/new foo_bar"),
    ('he said : " yes , " and " no "', 'he said: "yes," and "no"'),
    ("1 , 000. 5 % of $ 3 at 10 : 30", "1,000.5% of $3 at 10:30"),
    ("the u. s. army ( e. g. )", "the u.s. army (e.g.)"),
    ("日 本 語 。 x", "日本語。 x"),
    ("", ""),
  ],
)
def test_spaces_are_as_usual(given, written):
  assert detokenized(given) == written


def test_only_a_vocabulary_without_spaces_is_guessed_at():
  plain = "it ' s ( a )"
  (ids,) = VOCABULARIES["byte_level"].encode_pieces([plain])
  assert VOCABULARIES["byte_level"].detokenize(ids).strip() == plain
  (ids,) = VOCABULARIES["wordpiece"].encode_pieces(["a ' s ( a )"])
  assert VOCABULARIES["wordpiece"].detokenize(ids) == "a's (a)"
