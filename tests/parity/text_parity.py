"""WordPiece against Transformers' tokenizers, the Python one and the fast one.

A difference is a text whose ids, or ids and offsets, are not the same.
"""

import pathlib
import random
import tempfile
import unicodedata
from collections.abc import Iterator

import transformers

from bert_jax.text import wordpiece_trainer
from bert_jax.text.basic_tokenizer import WordRules
from bert_jax.text.config_files import KEYS
from bert_jax.text.wordpiece import MPNET_TOKENS, SPECIAL_TOKENS, WordPiece
from tests.text.strings import TEXTS

_MADE_TEXTS = 400


def texts() -> list[str]:
  """The adversarial and multilingual texts and random mixtures of them."""
  generator = random.Random(0)
  words = [word for text in TEXTS for word in text.split(" ") if word]
  characters = sorted(set("".join(TEXTS)))
  made = []
  for _ in range(_MADE_TEXTS):
    some = generator.choices(words, k=generator.randint(1, 12))
    some += ["".join(generator.choices(characters, k=6))]
    made.append(" ".join(some))
  return [text for text in TEXTS + made if not _has_unassigned(text)]


def _has_unassigned(text: str) -> bool:
  """Whether Python's Unicode version lacks a character of `text`."""
  return any(unicodedata.category(character) == "Cn" for character in text)


def checks() -> Iterator[tuple[str, float, float]]:
  bert, mpnet = (
    (transformers.BertTokenizer, transformers.BertTokenizerFast),
    (transformers.MPNetTokenizer, transformers.MPNetTokenizerFast),
  )
  for name, rules, names, classes in (
    ("uncased", WordRules(), SPECIAL_TOKENS, bert),
    ("cased", WordRules(lowercase=False), SPECIAL_TOKENS, bert),
    ("MPNet", WordRules(), MPNET_TOKENS, mpnet),
  ):
    # Without case folding the Python tokenizer composes characters first, as
    # bert_jax.text.basic_tokenizer describes, and Google's does not.
    given = texts()
    if not rules.lowercase:
      given = [unicodedata.normalize("NFC", text) for text in given]
    counts = wordpiece_trainer.count_words(given, rules)
    tokens = wordpiece_trainer.train(
      counts, 3_000, min_frequency=3, coverage=0.998, special_tokens=names
    )
    ours = WordPiece(
      tokens,
      rules,
      names=dict(zip(KEYS, names)),
      double_separator=names == MPNET_TOKENS,
    )
    with tempfile.TemporaryDirectory() as folder:
      yield from _compare(name, ours, given, pathlib.Path(folder), classes)


def _compare(
  name: str,
  ours: WordPiece,
  given: list[str],
  folder: pathlib.Path,
  classes: tuple[type, type],
) -> Iterator[tuple[str, float, float]]:
  ours.save(folder)
  options = {"do_lower_case": ours.rules.lowercase}
  slow, fast = (kind(str(folder / "vocab.txt"), **options) for kind in classes)
  saved = transformers.AutoTokenizer.from_pretrained(folder)

  # The Python tokenizer's own steps; literal special tokens stay text.
  if isinstance(slow, transformers.BertTokenizer):
    differing = sum(
      slow.convert_tokens_to_ids(
        slow._tokenize(text, split_special_tokens=True)
      )
      != ours.encode_pieces([text])[0]
      for text in given
    )
    yield f"text, {name}: {len(given)} texts, Python steps", differing, 0

  # Called as users call it, it also keeps special tokens whole and lowers the
  # case of each character alone, so that it never makes a final sigma.
  plain = [text for text in given if not _is_special(ours, text)]
  usual = [text for text in plain if "Σ" not in text]
  differing = sum(
    slow(text, "a pair").input_ids != ours.encode(text, "a pair").ids
    for text in usual
  )
  yield f"text, {name}: {len(usual)} pairs, Python class", differing, 0

  differing = sum(
    saved(text, "a pair").input_ids != ours.encode(text, "a pair").ids
    for text in plain
  )
  yield f"text, {name}: {len(plain)} pairs, saved and reopened", differing, 0

  # Offsets, of texts on whose ids the fast tokenizer agrees.
  differing = agreed = 0
  for text in given:
    theirs = fast(text, return_offsets_mapping=True)
    encoding = ours.encode(text)
    if theirs.input_ids == encoding.ids:
      agreed += 1
      differing += theirs.offset_mapping != encoding.offsets
  yield f"text, {name}: {agreed} offsets, fast class", differing, 0
  assert agreed > len(given) / 2


def _is_special(ours: WordPiece, text: str) -> bool:
  return any(ours.token(id) in text for id in vars(ours.special).values())
