"""Text of vocabularies that keep no spaces, as it is usually written.

WordPiece splits text at spaces and around punctuation, and forgets which. What
is written here follows the usual rules of English and of numbers; case and
accents that a vocabulary removes do not come back.
"""

import re

_CJK = "[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]"

_RULES = tuple(
  (re.compile(pattern), written)
  for pattern, written in (
    (r"(?<=\d) ?([.,:]) (?=\d)", r"\1"),  # 1,000.5, 10:30
    (r"(?<=\w) ?([-/_]) ?(?=\w)", r"\1"),  # well-known, and/or, snake_case
    # it's, don't, o'clock
    (r"(?<=\w) ?(['’]) ?(?=(?:s|t|re|ve|ll|d|m)\b)", r"\1"),
    (r"(?<=\b[odlODL]) ?(['’]) ?(?=\w)", r"\1"),
    (r" ([.,;:!?%)\]}…。，、！？；：）])", r"\1"),
    (r"([(\[{$€£#@（]) ", r"\1"),
    (r"(?<=\b[a-zA-Z]\.) (?=[a-zA-Z]\.)", ""),  # e.g., U.S.
    (rf"(?<={_CJK}) (?={_CJK})", ""),
  )
)
_QUOTE = re.compile(r' ?" ?')


def detokenized(text: str) -> str:
  """Text with spaces between all words and marks, as it is usually written.

  >>> detokenized('a well - known list ( of 3. 5 % ) , " yes "')
  'a well-known list (of 3.5%), "yes"'
  """
  quotes = 0

  def quote(match: re.Match) -> str:
    nonlocal quotes
    quotes += 1
    return ' "' if quotes % 2 else '" '

  text = _QUOTE.sub(quote, text)
  for pattern, written in _RULES:
    text = pattern.sub(written, text)
  return text.strip()
