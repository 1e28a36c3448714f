"""BERT's tokenizer again, in plain Python, to hold the fast one against.

Written from the rules of google-research/bert's `tokenization.py` as first
released, one character at a time and with Python's own Unicode tables.
"""

import unicodedata

_IDEOGRAPHS = (
  (0x3400, 0x4DBF),
  (0x4E00, 0x9FFF),
  (0xF900, 0xFAFF),
  (0x20000, 0x2A6DF),
  (0x2A700, 0x2B73F),
  (0x2B740, 0x2B81F),
  (0x2B820, 0x2CEAF),
  (0x2F800, 0x2FA1F),
)
_ASCII_PUNCTUATION = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"


def split_words(text, rules):
  found = []
  for chunk in _clean(text, rules.split_cjk).split():
    if rules.lowercase:
      chunk = chunk.lower()
    if rules.lowercase if rules.strip_accents is None else rules.strip_accents:
      chunk = _without_accents(chunk)
    found += _split_punctuation(chunk)
  return found


def pieces(words, vocabulary):
  found = []
  for word in words:
    found += _longest_first(word, vocabulary)
  return found


def _clean(text, split_cjk):
  out = []
  for character in text:
    category = unicodedata.category(character)
    if character in "\t\n\r" or category == "Zs":
      out.append(" ")
    elif character == "\ufffd" or category.startswith("C"):
      continue
    elif split_cjk and any(
      low <= ord(character) <= high for low, high in _IDEOGRAPHS
    ):
      out.append(f" {character} ")
    else:
      out.append(character)
  return "".join(out)


def _without_accents(chunk):
  return "".join(
    character
    for character in unicodedata.normalize("NFD", chunk)
    if unicodedata.category(character) != "Mn"
  )


def _split_punctuation(chunk):
  parts = [""]
  for character in chunk:
    if character in _ASCII_PUNCTUATION or unicodedata.category(
      character
    ).startswith("P"):
      parts += [character, ""]
    else:
      parts[-1] += character
  return [part for part in parts if part]


def _longest_first(word, vocabulary):
  unknown = [vocabulary["[UNK]"]]
  if len(word) > 100:
    return unknown
  found = []
  while word:
    prefix = "##" if found else ""
    for end in range(len(word), 0, -1):
      if prefix + word[:end] in vocabulary:
        found.append(vocabulary[prefix + word[:end]])
        word = word[end:]
        break
    else:
      return unknown
  return found
