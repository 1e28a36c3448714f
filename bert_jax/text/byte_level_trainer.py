"""A deterministic trainer of byte-level BPE vocabularies.

Byte-pair merging (Sennrich et al. 2016) of the bytes of words, as in GPT-2
(Radford et al. 2019) and RoBERTa. Spaces, case and every character are kept:
decoding gives back what was encoded, so that a model can write any text. Ties
go to the pair that sorts first, as in `wordpiece_trainer`, and the vocabulary
is a function of the word counts.
"""

import collections
from collections.abc import Iterable, Mapping, Sequence

from tokenizers import pre_tokenizers

from bert_jax.settings import UserError
from bert_jax.text import config_files, wordpiece_trainer
from bert_jax.text.tokenizer import check_text

SPECIAL_TOKENS = tuple(config_files.ROBERTA.values())
"""The special tokens of RoBERTa, in the order of the fields of `SpecialIds`."""


def count_words(texts: Iterable[str]) -> collections.Counter[str]:
  """Counts the words of texts, each with the space before it.

  A word is spelt as the tokens of the vocabulary are: a character for each of
  its bytes. The counts of the parts of a corpus can be added.

  Raises:
    UserError: a text is not a string, or `texts` is a single string.
  """
  if isinstance(texts, str):
    raise UserError("texts: expected a list of strings, got one string")
  split = pre_tokenizers.ByteLevel(add_prefix_space=True).pre_tokenize_str
  counts: collections.Counter[str] = collections.Counter()
  for text in texts:
    counts.update(word for word, _ in split(check_text(text)))
  return counts


def train(
  word_counts: Mapping[str, int],
  size: int,
  *,
  min_frequency: int = 2,
  max_words: int = 1_000_000,
  special_tokens: Sequence[str] = SPECIAL_TOKENS,
) -> tuple[tuple[str, ...], list[tuple[str, str]]]:
  """Trains a vocabulary; independent of the order of the counts.

  >>> counts = count_words(["the cat sat", "the mat"])
  >>> tokens, merges = train(counts, 264)
  >>> merges
  [('a', 't'), ('h', 'e'), ('t', 'he')]

  Args:
    word_counts: the count of each word, as from `count_words`.
    size: the size of the vocabulary, special tokens included.
    min_frequency: the minimum count of a pair of tokens that is merged.
    max_words: the maximum number of words to train on, the most frequent ones.
    special_tokens: the first tokens of the vocabulary.

  Returns:
    The tokens in the order of the ids: special tokens, the 256 bytes, and
    merged tokens; and the merges in their order. The tokens are fewer than
    `size` if the text is too short.

  Raises:
    UserError: there are no words, or `size` is less than the number of special
      tokens and bytes.
  """
  known = sorted(
    (
      (word, count) for word, count in word_counts.items() if count > 0 and word
    ),
    key=lambda item: (-item[1], item[0]),
  )
  if not known:
    raise UserError("vocabulary: there are no words to train on")
  alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
  least = len(special_tokens) + len(alphabet)
  if size < least:
    raise UserError(
      f"vocabulary: size {size} is too small: {len(special_tokens)} special"
      f" tokens and {len(alphabet)} bytes need {least}"
    )
  pieces, merges = wordpiece_trainer.grow(
    sorted(known[:max_words]),
    alphabet,
    size - len(special_tokens),
    min_frequency,
    prefix="",
  )
  return (*special_tokens, *pieces), merges
