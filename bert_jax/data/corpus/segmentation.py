"""Finds the words of Chinese sentences, for whole-word masking.

BERT's tokenizer makes each ideograph a token. Cui et al. (2019,
arXiv:1906.08101) mask all characters of a word, which a segmenter finds. It
runs once, when a corpus is prepared, and the corpus stores which tokens
continue a word.
"""

import functools
import importlib.metadata
import itertools
import logging
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int32

from bert_jax.settings import UserError
from bert_jax.text.tokenizer import Tokenizer

# Two ideographs or more, of the blocks that BERT separates.
_IDEOGRAPHS = re.compile(
  "[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0002fa1f]{2,}"
)

# Yields the start and the end of each word of a sentence, in characters.
Segmenter = Callable[[str], Iterator[tuple[int, int]]]


@functools.cache
def _jieba() -> Any:
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Of its regular expressions.
    import jieba
  jieba.setLogLevel(logging.WARNING)
  return jieba


def _jieba_words(sentence: str) -> Iterator[tuple[int, int]]:
  for _, start, end in _jieba().tokenize(sentence):
    yield start, end


SEGMENTERS: Mapping[str, Segmenter] = {"jieba": _jieba_words}
"""The values of `config.corpus.words`."""


def describe(name: str | None) -> list[dict[str, Any]]:
  """The version of a segmenter, for JSON.

  Raises:
    UserError: it is not installed.
  """
  if name is None:
    return []
  try:
    _jieba()
  except ImportError as error:
    raise UserError(
      "config.corpus.words needs jieba: pip install 'bert_jax[chinese]'"
      f" ({error})"
    ) from None
  return [{"package": name, "version": importlib.metadata.version(name)}]


def mark(
  ids: Int32[np.ndarray, "tokens"],
  sentences: Sequence[str],
  pieces: Sequence[Sequence[int]],
  tokenizer: Tokenizer,
  segmenter: str,
) -> Int32[np.ndarray, "tokens"]:
  """The ids, with `~id` for each token that continues a Chinese word.

  Words are those of at least two ideographs and nothing else; other words are
  known by the tokenizer.

  Args:
    ids: the ids of all sentences.
    sentences: the text of each sentence.
    pieces: the ids of each sentence.
    tokenizer: encodes a sentence to these ids.
    segmenter: a name in `SEGMENTERS`.
  """
  words = SEGMENTERS[segmenter]
  continues = np.zeros(len(ids), bool)
  ends = itertools.accumulate(map(len, pieces))
  for sentence, piece, end in zip(sentences, pieces, ends):
    if not piece or not _IDEOGRAPHS.search(sentence):
      continue
    inside = np.zeros(len(sentence) + 1, bool)
    for first, last in words(sentence):
      if _IDEOGRAPHS.fullmatch(sentence, first, last):
        inside[first + 1 : last] = True
    encoding = tokenizer.encode(sentence)
    assert encoding.ids[1:-1] == list(piece)
    starts = [start for start, _ in encoding.offsets[1:-1]]
    continues[end - len(piece) : end] = inside[starts]
  return np.where(continues, ~ids, ids)
