"""The meanings of a dataclass' fields, from its docstring."""

import inspect
import re
import textwrap
from collections.abc import Iterator


def meanings(cls: type) -> dict[str, str]:
  """The meaning of each attribute, from Google-style docstrings."""
  meanings: dict[str, str] = {}
  for base in reversed(cls.__mro__[:-1]):
    # A docstring that joins several has an `Attributes:` in each.
    text = inspect.cleandoc(base.__doc__ or "")
    for part in re.split(r"^\s*Attributes:\n", text, flags=re.M)[1:]:
      meanings.update(_entries(part))
  return meanings


def _entries(text: str) -> Iterator[tuple[str, str]]:
  """`name: meaning` entries; continued lines are indented further."""
  indent = re.match(" *", text)[0]
  # They end where a line is indented less.
  block = re.split(rf"\n(?!{indent}|\s*$)", text, flags=re.M)[0]
  for item in re.split(r"\n(?=\S)", textwrap.dedent(block)):
    name, colon, meaning = item.partition(":")
    if colon:
      yield name.strip(), " ".join(meaning.split())
