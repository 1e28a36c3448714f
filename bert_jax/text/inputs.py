"""What a tokenizer may be given as text."""

import re
from collections.abc import Sequence

from bert_jax.settings import UserError

_SURROGATE = re.compile("[\ud800-\udfff]")


def checked(text: object, name: str = "text") -> str:
  r"""`text`, once it is known to be a string that UTF-8 can hold.

  JSON's `"\ud800"` makes a lone surrogate, which no UTF-8 holds: it becomes
  U+FFFD, one character for one, so that offsets stay.

  Args:
    text: what a user gave.
    name: what the message calls it.

  Raises:
    UserError: it is not a string.
  """
  if not isinstance(text, str):
    raise UserError(
      f"{name}: expected a string, got {text!r:.40} ({type(text).__name__})"
    )
  return text if text.isascii() else _SURROGATE.sub("\ufffd", text)


def checked_list(texts: Sequence[object], name: str = "texts") -> list[str]:
  """Several texts, each `checked`.

  Raises:
    UserError: `texts` is one string, or one of them is not a string.
  """
  if isinstance(texts, str):
    raise UserError(f"{name}: expected a list of strings, got one string")
  return [
    checked(text, f"{name}[{number}]") for number, text in enumerate(texts)
  ]
