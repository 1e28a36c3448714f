import sys
import unicodedata

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies

from bert_jax.text import basic_tokenizer
from bert_jax.text.basic_tokenizer import WordRules
from bert_jax.text.wordpiece import SPECIAL_TOKENS, WordPiece
from tests.errors import user_error
from tests.text import reference
from tests.text.strings import TEXTS

RULES = {
  "uncased": WordRules(),
  "cased": WordRules(lowercase=False),
  "uncased with accents": WordRules(strip_accents=False),
  "cased without accents": WordRules(lowercase=False, strip_accents=True),
  "no cjk": WordRules(split_cjk=False),
}
BY_RULES = pytest.mark.parametrize("rules", RULES.values(), ids=RULES)


def make(texts=TEXTS, rules=None):
  """A vocabulary of about half the words, and halves of the others."""
  rules = rules or WordRules()
  found = {}
  for text in texts:
    for number, word in enumerate(reference.split_words(text, rules)):
      middle = len(word) // 2
      for piece in (word,) if number % 2 else (word[:middle], word[middle:]):
        for end in {1, len(piece)}:
          found |= {piece[:end]: None, "##" + piece[:end]: None}
  found = dict.fromkeys(piece for piece in found if piece not in ("", "##"))
  return WordPiece([*SPECIAL_TOKENS, *found], rules)


def expected(tokenizer, text):
  vocabulary = {token: id for id, token in enumerate(tokenizer.tokens)}
  return reference.pieces(
    reference.split_words(text, tokenizer.rules), vocabulary
  )


@BY_RULES
def test_ids_equal_the_reference(rules):
  tokenizer = make(rules=rules)
  want = [expected(tokenizer, text) for text in TEXTS]
  assert tokenizer.encode_pieces(TEXTS) == want
  special = tokenizer.special
  for text, ids in zip(TEXTS, want):
    assert tokenizer.encode(text).ids == [special.cls, *ids, special.sep]
  unknown = sum(ids.count(special.unknown) for ids in want)
  assert 0 < unknown < sum(map(len, want)) / 4


@pytest.mark.parametrize("rules", [RULES["uncased"], RULES["cased"]])
def test_every_character_is_split_like_the_reference(rules):
  normalize = basic_tokenizer.normalizer(rules).normalize_str
  split = basic_tokenizer.pre_tokenizer(rules).pre_tokenize_str
  # What is unassigned in this Python may be assigned elsewhere; and there are
  # long runs of ideographs and syllables (Lo).
  characters = [
    character
    for character in map(chr, range(sys.maxunicode + 1))
    if (category := unicodedata.category(character))
    not in ("Cn", "Cs", "Co", "Lo")
    or (category == "Lo" and ord(character) % 32 in (0, 31))
  ]
  assert len(characters) > 20_000
  wrong = []
  for start in range(0, len(characters), 100):
    some = [f"a{character}B" for character in characters[start : start + 100]]
    got = [word for word, _ in split(normalize("  ".join(some)))]
    want = [reference.split_words(text, rules) for text in some]
    if got != [word for part in want for word in part]:
      wrong += [
        text[1]
        for text, part in zip(some, want)
        if [word for word, _ in split(normalize(text))] != part
      ]
  # Ahom and Dives Akuru vowel signs, where Unicode's versions differ.
  assert set(wrong) <= {"\U0001171e", "\U00011938"}


@hypothesis.settings(max_examples=300)
@hypothesis.given(
  strategies.text(
    strategies.one_of(
      strategies.characters(exclude_categories=("Cs", "Cn")),
      strategies.sampled_from("aAbBéΣςσ'.\u0301\u00ad\u200b 漢字İß\x85#["),
    ),
    max_size=60,
  ),
  strategies.sampled_from(list(RULES.values())),
)
def test_any_text_is_split_like_the_reference(text, rules):
  normalized = basic_tokenizer.normalizer(rules).normalize_str(text)
  split = basic_tokenizer.pre_tokenizer(rules).pre_tokenize_str(normalized)
  got = [word for word, _ in split]
  assert got == reference.split_words(text, rules)


@pytest.mark.parametrize("text", ["naïve Cafe\u0301s  x", "漢字 a\u00adb\x00c"])
def test_offsets_slice_the_text(text):
  tokenizer = make([text])
  encoding = tokenizer.encode(text, text)
  half = len(encoding.ids) // 2 + 1
  assert encoding.segments == [0] * half + [1] * (len(encoding.ids) - half)
  assert encoding.offsets[0] == encoding.offsets[-1] == (0, 0)
  assert encoding.offsets[1:half] == encoding.offsets[half:]
  for id, (start, end) in zip(encoding.ids[1 : half - 1], encoding.offsets[1:]):
    sliced = reference.split_words(text[start:end], tokenizer.rules)
    assert "".join(sliced) == tokenizer.token(id).removeprefix("##")


def test_the_mask_token_s_name_stands_for_the_mask():
  tokenizer = make(["a mask [ ] mask [cls] cls"])
  mask, text = tokenizer.special.mask, "a [MASK], [CLS] [mask][MASK]"
  encoding = tokenizer.encode_masked(text)
  places = [i for i, id in enumerate(encoding.ids) if id == mask]
  assert [encoding.offsets[i] for i in places] == [(2, 8), (22, 28)]
  want = tokenizer.encode_pieces(["a", ", [CLS] [mask]"])
  special = tokenizer.special
  assert encoding.ids == [
    special.cls, *want[0], mask, *want[1], mask, special.sep
  ]  # fmt: skip
  assert encoding.segments == [0] * len(encoding.ids)
  assert tokenizer.encode_masked("a") == tokenizer.encode("a")
  with user_error("text: expected a string"):
    tokenizer.encode_masked(None)


def test_a_lone_surrogate_is_dropped_and_keeps_offsets():
  tokenizer = make(["ab"])
  assert tokenizer.encode_pieces(["a\ud800b"]) == tokenizer.encode_pieces(
    ["ab"]
  )
  assert tokenizer.encode("\udfffab").offsets[1] == (1, 2)


def test_decode_joins_words_and_leaves_special_tokens_out():
  tokenizer = make(["running quickly home"])
  encoding = tokenizer.encode("running quickly home", "home")
  assert tokenizer.decode(encoding.ids) == "running quickly home home"
  assert tokenizer.decode([]) == ""
  assert tokenizer.decode(np.array(encoding.ids)) == "running quickly home home"


def test_continuations():
  tokenizer = WordPiece([*SPECIAL_TOKENS, "a", "##a", "##", "#"])
  assert tokenizer.continuations.tolist() == [False] * 6 + [True, False, False]
  assert tokenizer.continuations.dtype == bool
  assert len(tokenizer) == 9


@pytest.mark.parametrize("id", [-1, 9, 2**40])
def test_no_such_id(id):
  tokenizer = WordPiece([*SPECIAL_TOKENS, *"abcd"])
  with pytest.raises(IndexError, match=str(id)):
    tokenizer.token(id)
  with pytest.raises(IndexError, match=str(id)):
    tokenizer.decode([id])


@pytest.mark.parametrize(
  ("tokens", "message"),
  [
    ([], "empty"),
    (["a", "b"], r"no \[PAD\] \[UNK\] \[CLS\] \[SEP\] \[MASK\]"),
    ([*SPECIAL_TOKENS[:4], "a"], r"no \[MASK\]"),
    ([*SPECIAL_TOKENS, "a\nb"], "line 6"),
  ],
)
def test_damaged_vocabulary(tokens, message):
  with user_error(message):
    WordPiece(tokens)


def test_hostile_text_takes_linear_time():
  # Quadratic, these would take minutes.
  tokenizer = make(["ab"])
  for unit in ("ʰ", "'Σ", "\u0301", "Σʰ", "#", "a\u00ad"):
    tokenizer.encode(unit * 30_000 + "Σ")
