"""From a config's mappings to frozen dataclasses, with clear errors.

An unknown key, or a value of another type, is an error that names the key.
"""

import dataclasses
import difflib
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

T = TypeVar("T")


class UserError(ValueError):
  """Something that the user gave is wrong; the message says what and where.

  The launch scripts print the message on one line and exit with code 2.
  """


def from_dict(
  cls: type[T], section: Mapping[str, Any], where: str = "config"
) -> T:
  """Builds the dataclass `cls` from a mapping, nested sections included.

  Args:
    cls: a dataclass; a field whose type is a dataclass is a section. The
      sections of other fields may be named in a class attribute `SECTIONS`,
      dataclasses by path; unknown keys are looked for there.
    section: names and values; names that are missing take their defaults.
    where: the config key of this section, for messages.

  Raises:
    UserError: a key is unknown or missing, or a value has the wrong type or
      is refused by the dataclass itself.
  """
  if not isinstance(section, Mapping):
    raise UserError(f"{where}: expected a section, got {section!r}")
  fields = {field.name: field for field in dataclasses.fields(cls)}
  for key in section:
    if key not in fields:
      raise UserError(
        f"{where}.{key}: unknown key; {_key_hint(cls, key, where)}"
      )
  hints = typing.get_type_hints(cls)
  values = {
    key: _convert(hints[key], value, f"{where}.{key}")
    for key, value in section.items()
  }
  for name, field in fields.items():
    has_default = (
      field.default is not dataclasses.MISSING
      or field.default_factory is not dataclasses.MISSING
    )
    if name not in values and not has_default:
      raise UserError(f"{where}.{name}: missing, and it has no default")
  try:
    return cls(**values)
  except UserError:
    raise
  except ValueError as error:
    raise UserError(f"{where}.{error}") from error


def replace(section: T, changes: Mapping[str, Any], where: str) -> T:
  """A dataclass with other values of some fields; see `from_dict`."""
  names = (field.name for field in dataclasses.fields(section))
  values = {name: getattr(section, name) for name in names}
  return from_dict(type(section), {**values, **changes}, where)


def choice(where: str, value: str, options: Mapping[str, T]) -> T:
  """`options[value]`, or a UserError that lists the options."""
  if value not in options:
    raise UserError(f"{where}: unknown {value!r}; {_hint(value, options)}")
  return options[value]


def check(
  section: Any, expected: str, is_valid: Callable[[Any], bool], *names: str
) -> None:
  """Checks some fields of a dataclass.

  Raises:
    ValueError: a value is not as expected, a text such as `at least 0`.
  """
  for name in names:
    if not is_valid(value := getattr(section, name)):
      raise ValueError(f"{name}: expected {expected}, got {value}")


def _hint(key: str, known: Mapping[str, Any]) -> str:
  close = difflib.get_close_matches(str(key), list(known), n=1)
  meant = f"did you mean {close[0]!r}? " if close else ""
  return f"{meant}known: {', '.join(sorted(known))}"


def _key_hint(cls: type, key: str, where: str) -> str:
  """The hint for an unknown key: a similar key, here or in a nested section."""
  known = {field.name: field for field in dataclasses.fields(cls)}
  nested: dict[str, list[str]] = {}
  for name, path in _nested(cls, where):
    nested.setdefault(name, []).append(path)
  # The key itself, if it is in a section, is the closest match.
  close = difflib.get_close_matches(str(key), [*known, *nested], n=1)
  if close and close[0] not in known:
    return f"did you mean {' or '.join(nested[close[0]])}?"
  return _hint(key, known)


def _nested(cls: type, where: str) -> Iterator[tuple[str, str]]:
  """The name and the path of each key in the sections of a dataclass."""
  hints = typing.get_type_hints(cls)
  hints = {field.name: hints[field.name] for field in dataclasses.fields(cls)}
  for section, hint in {**hints, **getattr(cls, "SECTIONS", {})}.items():
    for inner in (hint, *typing.get_args(hint)):
      if dataclasses.is_dataclass(inner):
        for field in dataclasses.fields(inner):
          yield field.name, f"{where}.{section}.{field.name}"
        yield from _nested(inner, f"{where}.{section}")


def _convert(hint: Any, value: Any, where: str) -> Any:
  """Checks `value` against a type hint; makes nested dataclasses, tuples."""
  origin, arguments = typing.get_origin(hint), typing.get_args(hint)
  if hint is Any:
    return value
  if origin in (typing.Union, types.UnionType):
    if value is None and type(None) in arguments:
      return None
    if isinstance(value, str) and str in arguments:
      return value
    (inner,) = [x for x in arguments if x not in (type(None), str)] or [str]
    return _convert(inner, value, where)
  if dataclasses.is_dataclass(hint):
    if isinstance(value, hint):
      return value
    return from_dict(hint, value, where)
  if origin is tuple:
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, list | tuple):
      raise UserError(f"{where}: expected a list, got {value!r}")
    return tuple(_convert(arguments[0], item, where) for item in items)
  if origin in (dict, Mapping):
    if not isinstance(value, Mapping):
      raise UserError(f"{where}: expected a mapping, got {value!r}")
    return dict(value)
  return _scalar(origin or hint, value, where)


def _scalar(expected: type, value: Any, where: str) -> Any:
  if expected is float and isinstance(value, int) and type(value) is not bool:
    return float(value)
  if not isinstance(value, expected) or (
    expected is not bool and isinstance(value, bool)
  ):
    raise UserError(
      f"{where}: expected {expected.__name__}, got {value!r}"
      f" ({type(value).__name__})"
    )
  return value
