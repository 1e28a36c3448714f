"""Texts written without a model that learns: what a model has to beat.

Each function takes the records to learn from and those to write for, and
returns a text for each of the latter. A record has a `text` or `turns`, and a
`target`.
"""

import collections
import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer

Records = Sequence[Mapping[str, Any]]
Floor = Callable[[Records, Records], list[str]]

_WORDS = r"\w+|[^\w\s]"
_TOKENS = re.compile(r"\w+|[^\w\s]|\s+")
# The parts of a name: `read`, `HTTP`, `Response`, `2`.
_PARTS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[^\W\d_A-Z]+|\d+")
_AT_ONCE = 256


def source(record: Mapping[str, Any]) -> str:
  """The text, or the last turn."""
  turns = record.get("turns")
  return turns[-1] if turns else record["text"]


def copy(train: Records, asked: Records) -> list[str]:
  """The source itself."""
  del train
  return [source(record) for record in asked]


def commonest(train: Records, asked: Records) -> list[str]:
  """The target that is most frequent in training."""
  counts = collections.Counter(record["target"] for record in train)
  return [counts.most_common(1)[0][0]] * len(asked)


def _nearest(train: Records, asked: Records) -> list[Mapping[str, Any]]:
  """The training record whose source is most similar, by TF-IDF of words."""
  vectorizer = TfidfVectorizer(
    token_pattern=_WORDS, lowercase=False, sublinear_tf=True
  )
  known = vectorizer.fit_transform(map(source, train)).T.tocsr()
  wanted = vectorizer.transform(map(source, asked))
  found: list[int] = []
  for start in range(0, len(asked), _AT_ONCE):
    similarity = (wanted[start : start + _AT_ONCE] @ known).toarray()
    found += similarity.argmax(axis=1).tolist()
  return [train[n] for n in found]


def nearest(train: Records, asked: Records) -> list[str]:
  """The target of the most similar source, by TF-IDF of words."""
  return [record["target"] for record in _nearest(train, asked)]


def nearest_with_names(train: Records, asked: Records) -> list[str]:
  """The same, with the names in which the two sources differ exchanged."""
  return [
    _exchanged(source(near), source(record), near["target"])
    for near, record in zip(_nearest(train, asked), asked)
  ]


def _exchanged(old: str, new: str, target: str) -> str:
  """The target of `old`, with names of `new` in place of those of `old`."""
  before, after = (re.findall(_WORDS, text) for text in (old, new))
  names = {}
  matcher = difflib.SequenceMatcher(None, before, after, autojunk=False)
  for kind, i, j, k, m in matcher.get_opcodes():
    if kind == "replace" and j - i == m - k:
      for one, other in zip(before[i:j], after[k:m]):
        # Names of methods begin with a capital in C#.
        for change in (str, _capital):
          names.setdefault(change(one), change(other))
  return "".join(names.get(token, token) for token in _TOKENS.findall(target))


def _capital(word: str) -> str:
  return word[:1].upper() + word[1:]


def word_by_word(train: Records, asked: Records) -> list[str]:
  """Each word as the one that it goes with most: the greatest Dice score."""
  pairs: dict[str, collections.Counter[str]] = collections.defaultdict(
    collections.Counter
  )
  counts: collections.Counter[str] = collections.Counter()
  ours: collections.Counter[str] = collections.Counter()
  for record in train:
    words = {word.lower() for word in re.findall(_WORDS, source(record))}
    theirs = {*re.findall(_WORDS, record["target"])}
    ours.update(words)
    counts.update(theirs)
    for word in words:
      pairs[word].update(theirs)
  best = {
    word: max(
      found, key=lambda x, n=ours[word]: (found[x] / (n + counts[x]), x)
    )
    for word, found in pairs.items()
  }
  return [
    re.sub(
      r" (?=[.,!?])",
      "",
      " ".join(
        best.get(word.lower(), word)
        for word in re.findall(_WORDS, source(record))
      ),
    )
    for record in asked
  ]


def name_in_words(train: Records, asked: Records) -> list[str]:
  """The words of a function's name: `Read http line.` for `readHTTPLine`."""
  del train
  texts = (
    " ".join(part.lower() for part in _PARTS.findall(record["name"]))
    for record in asked
  )
  return [f"{_capital(text)}." for text in texts]


def unigram_perplexity(
  train: Sequence[Sequence[int]], asked: Sequence[Sequence[int]], size: int
) -> float:
  """The perplexity of a token by the counts of training, with 1 added.

  Args:
    train: the tokens of the targets to learn from, with the end of each.
    asked: those of the targets to be written.
    size: the size of the vocabulary.
  """
  counts = np.ones(size)
  np.add.at(counts, np.concatenate(train), 1)
  logs = np.log(counts / counts.sum())[np.concatenate(asked)]
  return float(np.exp(-logs.mean()))
