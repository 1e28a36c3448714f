"""Splits text into sentences: by lines, or by rules for prose."""

import re

_PARAGRAPH = re.compile(r"\n[^\S\n]*\n\s*")
# Marks, closing quotes and a space. It matches at every mark, and the code
# decides: a pattern that can fail takes quadratic time on "......".
_MARK = re.compile(
  """[.!?؟।…。！？][.!?؟।…。！？]*["'”’»)\\]」』）]*(?P<space> ?)"""
)
_OPENING = "\"'“‘«(["
_CJK_MARKS = tuple("。！？")
_INITIAL = re.compile(r"(?:[A-Za-z]\.)*[A-Za-z]")
# A full stop after these rarely ends a sentence.
_ABBREVIATIONS = re.compile(
  r"mrs?|ms|drs?|prof|st|sr|jr|rev|hon|gen|col|maj|capt|lt|sgt|gov|sen|rep"
  r"|pres|mt|ft|vs|viz|cf|ca|approx|resp|dept|figs?|eqs?|secs?|ch|chap|vols?"
  r"|nos?|pp|eds?|trans|al|refs?",
  re.IGNORECASE,
)
_LONGEST = 1_000
_CLAUSE_END = re.compile(r"[;:,，、；：]\s*")


def lines(text: str) -> list[str]:
  """The lines of a text, without blank ones."""
  return [line for line in text.split("\n") if line and not line.isspace()]


def prose(text: str) -> list[str]:
  """The sentences of running text, by rules for most languages.

  A blank line ends a sentence, a line break does not. A full stop does not end
  a sentence after an abbreviation or initial, or before a lower-case letter.
  Sentences of more than 1,000 characters are split at a clause or word.

  >>> prose("Dr. Who came. He left.")
  ['Dr. Who came.', 'He left.']
  """
  found: list[str] = []
  for paragraph in _PARAGRAPH.split(text):
    paragraph = " ".join(paragraph.split())
    start = 0
    for match in _MARK.finditer(paragraph):
      if match.end() < len(paragraph) and _ends(paragraph, match):
        _add(found, paragraph[start : match.end()].rstrip())
        start = match.end()
    _add(found, paragraph[start:])
  return found


SPLITTERS = {"line": lines, "prose": prose}
"""The values of `config.corpus.sentences`."""


def _ends(text: str, match: re.Match[str]) -> bool:
  """Whether a mark inside the text ends a sentence."""
  mark = match[0]
  if not match["space"]:
    return any(character in mark for character in _CJK_MARKS)
  following = text[match.end() : match.end() + 4].lstrip(_OPENING)
  if following[:1].islower():
    return False
  if mark != ". ":
    return True
  # A bounded look-back takes linear time on any text.
  before = text[max(0, match.start() - 20) : match.start()]
  word = before.rpartition(" ")[2].lstrip(_OPENING)
  if _ABBREVIATIONS.fullmatch(word):
    return False
  # An initial, or an abbreviation such as "U.S.".
  return word == "I" or not (word.isascii() and _INITIAL.fullmatch(word))


def _add(found: list[str], sentence: str) -> None:
  """Appends a sentence, split if it is too long."""
  while len(sentence) > _LONGEST:
    ends = [m.end() for m in _CLAUSE_END.finditer(sentence, 0, _LONGEST)]
    cut = ends[-1] if ends else 0
    if cut < _LONGEST // 2:
      cut = sentence.rfind(" ", _LONGEST // 2, _LONGEST) + 1 or _LONGEST
    found.append(sentence[:cut].rstrip())
    sentence = sentence[cut:].lstrip()
  if sentence:
    found.append(sentence)
