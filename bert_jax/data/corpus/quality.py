"""Quality filters of published corpora, by name.

A filter takes a text and returns the text it keeps and the reasons for all that
it removes: (reason, line) for a line, and (reason, None) if it refuses the
whole text, which is then None. The rules are for English; those that count
words are of little use for languages without spaces.
"""

import collections
import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from bert_jax.data.corpus import sentences


class Filtered(NamedTuple):
  """The result of a filter.

  Attributes:
    text: the text that remains; None if it is refused.
    removed: the reason and the text of each removed line; or the reason for
      which the whole text is refused, and None.
  """

  text: str | None
  removed: Sequence[tuple[str, str | None]] = ()


Filter = Callable[[str], Filtered]

_CITATION = re.compile(r"\[\d*\]|\[edit\]|\[citation needed\]")
_POLICIES = (
  "terms of use",
  "privacy policy",
  "cookie policy",
  "uses cookies",
  "use of cookies",
  "use cookies",
)


def c4(text: str) -> Filtered:
  """C4 (Raffel et al. 2020, arXiv:1910.10683, section 2.2).

  The rules and their order are those of `clean_page` in TensorFlow Datasets'
  `c4_utils.py`: lines end with a terminal punctuation mark and have at least 5
  words, none of them longer than 1,000 characters; lines about JavaScript and
  policies are removed, as are citation marks; a text with "lorem ipsum" or a
  curly bracket, or of fewer than 3 sentences, is refused. Sentences are those
  of `sentences.prose`. C4's list of bad words is not applied.
  """
  kept, removed, count = [], [], 0
  for line in text.splitlines():
    line = line.strip()
    if not line:
      continue
    words, reason = line.split(), None
    if max(map(len, words)) > 1000:
      removed.append(("a word of more than 1,000 characters", line))
      continue
    line = _CITATION.sub("", line)
    lower = line.lower()
    if not line.endswith((".", "?", "!", '"')) or line.endswith("..."):
      reason = "no end mark"
    elif len(line.split()) < 5:
      reason = "fewer than 5 words"
    elif "lorem ipsum" in lower:
      return Filtered(None, [("lorem ipsum", None)])
    elif "javascript" in lower:
      reason = "javascript"
    elif "{" in line:
      return Filtered(None, [("a curly bracket", None)])
    elif any(policy in lower for policy in _POLICIES):
      reason = "a policy"
    if reason:
      removed.append((reason, line))
      continue
    count += len(sentences.prose(line))
    kept.append(line)
  if count < 3:
    return Filtered(None, [("fewer than 3 sentences", None)])
  return Filtered("\n".join(kept), removed)


_STOP_WORDS = {"the", "be", "to", "of", "and", "that", "have", "with"}
_BULLETS = ("•", "‣", "▪", "●", "◦", "-", "*", "–")
_ELLIPSES = ("...", "…")


def gopher(text: str) -> Filtered:
  """MassiveText's quality filter (Rae et al. 2021, arXiv:2112.11446, A.1.1).

  50 to 100,000 words of a mean length of 3 to 10 characters; at most 0.1 "#" or
  ellipses per word; at most 90 % of the lines begin with a bullet and 30 % end
  with an ellipsis; 80 % of the words have a letter; and at least two of the
  words the, be, to, of, and, that, have, with.
  """
  words = text.split()
  lines = [line.strip() for line in text.splitlines() if line.strip()]
  count, reason = len(words), None
  if count < 50:
    reason = "fewer than 50 words"
  elif count > 100_000:
    reason = "more than 100,000 words"
  elif not 3 <= sum(map(len, words)) / count <= 10:
    reason = "the mean length of words"
  elif text.count("#") / count > 0.1:
    reason = "many #"
  elif sum(map(text.count, _ELLIPSES)) / count > 0.1:
    reason = "many ellipses"
  elif _share(line.startswith(_BULLETS) for line in lines) > 0.9:
    reason = "lines with bullets"
  elif _share(line.endswith(_ELLIPSES) for line in lines) > 0.3:
    reason = "lines that end with an ellipsis"
  elif _share(any(map(str.isalpha, word)) for word in words) < 0.8:
    reason = "words without a letter"
  elif len(_STOP_WORDS.intersection(map(_bare, words))) < 2:
    reason = "fewer than 2 stop words"
  return Filtered(None, [(reason, None)]) if reason else Filtered(text)


# The largest shares of characters, by the number of words of an n-gram.
_TOP = {2: 0.20, 3: 0.18, 4: 0.16}
_REPEATED = {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.10}


def gopher_repetition(text: str) -> Filtered:
  """MassiveText's repetition filter (Rae et al. 2021, table A1).

  Refuses a text with too large a share of repeated lines or paragraphs (0.3 of
  their number, 0.2 of the characters), of the most frequent n-gram of 2 to 4
  words, or of n-grams of 5 to 10 words that occurred before.
  """
  for name, separator in (("lines", r"\n"), ("paragraphs", r"\n\s*\n")):
    parts = [part.strip() for part in re.split(separator, text)]
    parts = [part for part in parts if part]
    seen: set[str] = set()
    repeated = []
    for part in parts:
      if part in seen:
        repeated.append(part)
      seen.add(part)
    characters = sum(map(len, repeated))
    if len(repeated) > 0.3 * len(parts) or characters > 0.2 * len(text):
      return Filtered(None, [(f"repeated {name}", None)])
  words = [_bare(word) for word in text.split()]
  words = [word for word in words if word]
  total = sum(map(len, words)) or 1
  for size, largest in _TOP.items():
    counts = collections.Counter(zip(*(words[i:] for i in range(size))))
    if counts:
      count = max(counts.values())
      longest = max(
        sum(map(len, gram)) for gram, n in counts.items() if n == count
      )
      if count > 1 and count * longest > largest * total:
        return Filtered(None, [(f"a frequent {size}-gram", None)])
  for size, largest in _REPEATED.items():
    if _repeated_characters(words, size) > largest * total:
      return Filtered(None, [(f"repeated {size}-grams", None)])
  return Filtered(text)


def _repeated_characters(words: Sequence[str], size: int) -> int:
  """The characters in n-grams that occurred before, each counted once."""
  seen: set[tuple[str, ...]] = set()
  characters = place = 0
  while place <= len(words) - size:
    gram = tuple(words[place : place + size])
    if gram in seen:
      characters += sum(map(len, gram))
      place += size
    else:
      seen.add(gram)
      place += 1
  return characters


def _bare(word: str) -> str:
  """A word in lower case without the punctuation around it."""
  return word.lower().strip(".,;:!?\"'()[]{}“”‘’«»…-–")


def _share(values) -> float:
  values = list(values)
  return sum(values) / len(values) if values else 0.0


QUALITY: Mapping[str, Filter] = {
  "c4": c4,
  "gopher": gopher,
  "gopher_repetition": gopher_repetition,
}
"""The names of `config.corpus.clean.quality`."""
