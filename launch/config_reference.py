"""The keys of a config: type, default and meaning, from its dataclasses.

The meaning of a key is its entry under `Attributes:` in the docstring of the
dataclass, or of one of its base classes.
"""

import dataclasses
import json
import textwrap
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from bert_jax import settings, tasks
from bert_jax.models.config import EncoderConfig, encoder_config
from bert_jax.models.presets import PRESETS
from bert_jax.training.recipe import Recipe

from . import docstrings

REQUIRED = "required"


class Key(NamedTuple):
  """A row of the reference.

  Attributes:
    key: its name with its sections, such as `optimizer.schedule.name`.
    type: of its values, as in an annotation.
    default: as in Python, or `REQUIRED`.
    meaning: a sentence or two.
  """

  key: str
  type: str
  default: str
  meaning: str


def describe(
  section: Any, where: str = "", also_documented_by: type = object
) -> list[Key]:
  """The keys of a section and of the sections in it.

  Args:
    section: a dataclass, or an instance whose values are the defaults. Fields
      with `repr=False` are not keys.
    where: the name of the section; keys begin with it.
    also_documented_by: a class whose docstring has meanings, too.

  Raises:
    LookupError: the docstring has no meaning for a key.
  """
  cls = section if isinstance(section, type) else type(section)
  hints, keys = typing.get_type_hints(cls), []
  meanings = docstrings.meanings(also_documented_by) | docstrings.meanings(cls)
  for field in dataclasses.fields(cls):
    if not field.repr:
      continue
    key = f"{where}.{field.name}".lstrip(".")
    hint = hints[field.name]
    if inner := _inner_section(hint):
      keys += describe(inner, key)
      continue
    if field.name not in meanings:
      raise LookupError(
        f"{cls.__module__}.{cls.__name__}: the docstring's Attributes lack"
        f" {field.name}"
      )
    default = (
      _default(field) if section is cls else repr(getattr(section, field.name))
    )
    keys.append(Key(key, _type(hint), default, meanings[field.name]))
  return keys


def data_keys(task: str) -> list[Key]:
  """The keys of the section `data` of a task, and of its targets.

  Raises:
    UserError: there is no such task, or it cannot be trained.
  """
  cls = settings.choice("config.task", task, tasks.DATA)
  if task not in tasks.LABELLED:
    return describe(cls, "data")
  keys = describe(cls, "data", type(cls.TASK.inputs))
  for name, target in cls.TASK.targets.items():
    keys += describe(target, f"data.targets.{name}")
  return keys


def recipe_keys(task: str) -> Iterator[tuple[str, list[Key]]]:
  """The keys of a recipe by section; the first section is the top level.

  Raises:
    UserError: there is no such task, or it cannot be trained.
  """
  preset = Key(
    "model.preset",
    "str or None",
    "None",
    f"the size that other keys override: {', '.join(PRESETS)}.",
  )
  sections = {
    "data": data_keys(task),
    "model": [preset, *describe(EncoderConfig, "model")],
  }
  for name, hint in typing.get_type_hints(Recipe).items():
    if inner := _inner_section(hint):
      sections[name] = describe(inner, name)
  top = [x for x in describe(Recipe) if x.key.split(".")[0] not in sections]
  yield "", top
  yield from sections.items()


def help_text(config: Mapping[str, Any] | None) -> str:
  """All keys that the recipe's task takes, as text for a terminal."""
  task = (config or {}).get("task", "pretraining")
  lines = [f"The keys of a recipe of the task {task}; --config.KEY=VALUE:"]
  for _, keys in recipe_keys(task):
    lines.append("")
    for key in keys:
      default = "" if key.default == REQUIRED else f" = {key.default}"
      lines.append(f"{key.key}: {key.type}{default}")
      lines.append(textwrap.indent(textwrap.fill(key.meaning, 76), "    "))
  return "\n".join(lines)


def resolved_text(config: Mapping[str, Any]) -> str:
  """The recipe with all defaults: lines `KEY: VALUE`, values as JSON."""
  recipe = Recipe.from_dict(config)
  model = dict(recipe.model)
  if not recipe.init:
    resolved = dataclasses.asdict(encoder_config(recipe.model))
    if "vocab_size" not in model and "preset" not in model:
      del resolved["vocab_size"]  # That of the vocabulary.
    model = resolved | model
  data = _values(recipe.data_config())
  if recipe.task in tasks.LABELLED:
    data["targets"] = recipe.data_config().task().targets
  values = _values(recipe) | {"data": data, "model": model}
  return "\n".join(
    f"{key}: {json.dumps(value, default=list)}"
    for key, value in _flat(values, "config")
  )


def _values(section: Any) -> dict[str, Any]:
  return {
    field.name: getattr(section, field.name)
    for field in dataclasses.fields(section)
    if field.repr
  }


def _flat(values: Mapping[str, Any], where: str) -> Iterator[tuple[str, Any]]:
  for name, value in values.items():
    inner = _values(value) if dataclasses.is_dataclass(value) else value
    if isinstance(inner, Mapping) and inner:
      yield from _flat(inner, f"{where}.{name}")
    else:
      yield f"{where}.{name}", inner


def _inner_section(hint: Any) -> type | None:
  """The dataclass of a field that is a section, or None or a section."""
  options = typing.get_args(hint) if _is_union(hint) else (hint,)
  return next(filter(dataclasses.is_dataclass, options), None)


def _is_union(hint: Any) -> bool:
  return typing.get_origin(hint) in (typing.Union, types.UnionType)


def _type(hint: Any) -> str:
  if hint is type(None):
    return "None"
  if _is_union(hint):
    return " or ".join(map(_type, typing.get_args(hint)))
  arguments = [x for x in typing.get_args(hint) if x is not Ellipsis]
  name = getattr(hint, "__name__", str(hint))
  return f"{name}[{', '.join(map(_type, arguments))}]" if arguments else name


def _default(field: dataclasses.Field) -> str:
  if field.default is not dataclasses.MISSING:
    return repr(field.default)
  if field.default_factory is not dataclasses.MISSING:
    return repr(field.default_factory())
  return REQUIRED
