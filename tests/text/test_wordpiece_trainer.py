import collections
import itertools
import os
import random

import hypothesis
import pytest
from hypothesis import strategies

from bert_jax.text import wordpiece_trainer
from bert_jax.text.basic_tokenizer import WordRules
from bert_jax.text.wordpiece import SPECIAL_TOKENS, WordPiece
from tests.commands import python
from tests.errors import user_error
from tests.text import reference
from tests.text.strings import MULTILINGUAL, TEXTS

COUNTS = wordpiece_trainer.count_words(MULTILINGUAL * 3)


def merge_slowly(counts, alphabet, size, min_frequency):
  """Pair merging with every count made anew at every step."""
  spelling = {
    word: (word[0], *("##" + character for character in word[1:]))
    for word in counts
  }
  pieces = list(alphabet)
  while len(pieces) < size:
    pairs = collections.Counter()
    for word, parts in spelling.items():
      for pair in itertools.pairwise(parts):
        pairs[pair] += counts[word]
    if not pairs:
      break
    left, right = best = min(pairs, key=lambda pair: (-pairs[pair], pair))
    if pairs[best] < min_frequency:
      break
    joined = left + right[2:]
    if joined not in pieces:
      pieces.append(joined)
    for word, parts in spelling.items():
      out = []
      for part in parts:
        if out and (out[-1], part) == best:
          out[-1] = joined
        else:
          out.append(part)
      spelling[word] = tuple(out)
  return pieces


@hypothesis.settings(max_examples=100)
@hypothesis.given(
  strategies.dictionaries(
    strategies.text("abc", min_size=1, max_size=9),
    strategies.integers(1, 6),
    min_size=1,
    max_size=12,
  ),
  strategies.integers(0, 30),
)
def test_pieces_equal_a_slow_trainer(counts, extra):
  characters = sorted(set("".join(counts)))
  inside = set("".join(word for word in counts if len(word) > 1))
  alphabet = [*characters, *("##" + c for c in characters if c in inside)]
  size = 5 + len(alphabet) + extra
  got = wordpiece_trainer.train(counts, size, coverage=1.0)
  want = merge_slowly(counts, alphabet, size - 5, min_frequency=2)
  assert got == (*SPECIAL_TOKENS, *want)


def test_words_are_counted_as_the_reference_splits_them():
  for rules in (WordRules(), WordRules(lowercase=False)):
    want = collections.Counter()
    for text in TEXTS:
      want.update(reference.split_words(text, rules))
    assert wordpiece_trainer.count_words(TEXTS, rules) == want


def test_counts_of_parts_add_up(monkeypatch):
  whole = wordpiece_trainer.count_words(TEXTS)
  halves = [
    wordpiece_trainer.count_words(TEXTS[start::2]) for start in range(2)
  ]
  assert halves[1] + halves[0] == whole
  monkeypatch.setattr(wordpiece_trainer, "_CHUNKS_AT_ONCE", 3)
  assert wordpiece_trainer.count_words(iter(TEXTS)) == whole


def test_order_of_the_counts_does_not_matter():
  items = list(COUNTS.items())
  want = wordpiece_trainer.train(COUNTS, 700)
  assert len(want) == 700
  for seed in range(3):
    random.Random(seed).shuffle(items)
    assert wordpiece_trainer.train(dict(items), 700) == want


def test_hash_seed_does_not_matter():
  program = (
    "from bert_jax.text import wordpiece_trainer;"
    "from tests.text.strings import MULTILINGUAL;"
    "counts = wordpiece_trainer.count_words(MULTILINGUAL * 3);"
    "print(ascii(wordpiece_trainer.train(counts, 700)))"
  )
  want = ascii(wordpiece_trainer.train(COUNTS, 700))
  # The seed of this process is another one.
  result = python(program, env=os.environ | {"PYTHONHASHSEED": "1"})
  assert result.stdout.strip() == want


def test_trained_on_a_text_it_encodes_it():
  trained = wordpiece_trainer.train(COUNTS, 1_000, coverage=1.0)
  tokenizer = WordPiece(trained)
  ids = [id for part in tokenizer.encode_pieces(MULTILINGUAL) for id in part]
  assert tokenizer.special.unknown not in ids
  characters = wordpiece_trainer.train(COUNTS, 1_000 - 250, coverage=1.0)
  more = WordPiece(characters).encode_pieces(MULTILINGUAL)
  assert sum(map(len, more)) > len(ids)


def test_rarest_characters_beyond_the_coverage_are_left_out():
  texts = ["common words are common " * 50, "rare ж words Ω", "z" * 101]
  counts = wordpiece_trainer.count_words(texts)
  trained = wordpiece_trainer.train(counts, 60, coverage=0.995)
  assert "ж" not in trained and "c" in trained
  known = sum(
    counts[word] * sum(c in trained for c in word)
    for word in counts
    if len(word) <= 100
  )
  everything = sum(counts[w] * len(w) for w in counts if len(w) <= 100)
  assert 0.995 <= known / everything < 1


def test_only_characters_seen_inside_words_get_a_continuation():
  trained = wordpiece_trainer.train({"ab": 5, "漢": 5, "!": 5}, 100)
  assert trained == (
    *SPECIAL_TOKENS, "!", "a", "b", "漢", "##a", "##b", "ab"
  )  # fmt: skip


def test_ties_go_to_the_pair_that_sorts_first():
  trained = wordpiece_trainer.train({"zy": 4, "ab": 4, "cd": 4}, 5 + 12 + 2)
  assert trained[-2:] == ("ab", "cd")


def test_rarest_words_beyond_the_limit_are_left_out():
  counts = {"ab": 9, "cd": 8, "ef": 7}
  trained = wordpiece_trainer.train(counts, 100, max_words=2)
  assert {"ab", "cd"} < set(trained) and "ef" not in trained
  assert {"e", "##f"} < set(trained)


def test_too_small_a_size():
  with user_error(r"size 8 is too small.* need 9"):
    wordpiece_trainer.train({"ab": 5}, 8)
  assert len(wordpiece_trainer.train({"ab": 5}, 9)) == 9


@pytest.mark.parametrize("counts", [{}, {"a" * 101: 3}, {"a": 0}, {"": 2}])
def test_no_words(counts):
  with user_error("no words"):
    wordpiece_trainer.train(counts, 100)


def test_what_is_not_text():
  with user_error("got one string"):
    wordpiece_trainer.count_words("a text")
  with user_error("expected a string, got None"):
    wordpiece_trainer.count_words(["a", None])
