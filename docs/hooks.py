"""Pages of the site that are made from the code: recipes and config keys.

MkDocs calls `on_page_markdown` for each page. A line `<!-- recipes -->` is
replaced by the docstrings of the recipes, and `<!-- keys: SECTION -->` by the
table of a section's config keys. MkDocs checks the links of the site; those of
the READMEs are checked here.
"""

import ast
import dataclasses
import inspect
import logging
import pathlib
import re
import textwrap
import types
import typing
from collections.abc import Collection, Mapping, Sequence
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parent.parent
_MARK = re.compile(r"^<!-- (recipes|keys)(?:: ([\w.]+))? -->$", re.MULTILINE)
_LINK = re.compile(r"\]\((?!https?:)([^)#]+)")
_LOG = logging.getLogger("mkdocs.hooks")


def on_pre_build(**_: Any) -> None:
  """Warns, which ends a strict build, of dead links in the READMEs."""
  for name in ("README.md", "CONTRIBUTING.md", "benchmarks/README.md"):
    path = ROOT / name
    for link in _LINK.findall(path.read_text(encoding="utf-8")):
      if not (path.parent / link).exists():
        _LOG.warning("%s: dead link %s", name, link)


def on_page_markdown(markdown: str, **_: Any) -> str:
  """Replaces the marks of a page by what is made from the code."""
  return _MARK.sub(
    lambda mark: _recipes() if mark[1] == "recipes" else _keys(mark[2]),
    markdown,
  )


def _recipes() -> str:
  lines = []
  for folder in ("pretrain", "finetune"):
    lines += ["", f"## `configs/{folder}/`"]
    for path in sorted((ROOT / "configs" / folder).glob("[!_]*.py")):
      text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
      title, _, rest = (text or "").partition("\n")
      lines += ["", f"### `{path.name}`", "", f"**{title}**", "", _prose(rest)]
  return "\n".join(lines)


def _prose(text: str) -> str:
  """A docstring as Markdown, in which code is indented by four."""
  blocks = re.split(r"\n\n+(?=\S)|(?<=\n\n)(?=  )", text.strip("\n"))
  return "\n\n".join(
    textwrap.indent(textwrap.dedent(block), "    ")
    if block.startswith("  ")
    else block
    for block in blocks
  )


def _keys(section: str) -> str:
  """The tables of one section of a config, with its inner sections."""
  from bert_jax.models.config import EncoderConfig
  from bert_jax.training.recipe import Recipe

  if section == "recipe":
    return _table(Recipe, "config", inner=False)
  if section == "data":
    return _data()
  if section == "model":
    return _table(EncoderConfig, "config.model")
  hint = typing.get_type_hints(Recipe)[section]
  return _table(_inner_class(hint), f"config.{section}")


def _data() -> str:
  """The section `data`: what tasks share, then what is special to each."""
  from bert_jax.tasks import DATA, LABELLED
  from bert_jax.tasks.labelled import LabelledConfig

  shared = {field.name for field in dataclasses.fields(LabelledConfig)}
  parts = [
    "### Tasks with labelled records",
    ", ".join(f"`{name}`" for name in LABELLED) + " share these keys:",
    _table(LabelledConfig, "config.data"),
  ]
  for name, cls in DATA.items():
    is_labelled = name in LABELLED
    if is_labelled:
      meanings = _meanings(type(cls.TASK.inputs))
      rows = _rows(cls, "config.data", shared, meanings)
      for target, value in cls.TASK.targets.items():
        rows += _rows(type(value), f"config.data.targets.{target}")
    else:
      rows = _rows(cls, "config.data")
    parts += [f"### `{name}`", _block(rows)]
  return "\n\n".join(parts)


def _table(cls: type, where: str, inner: bool = True) -> str:
  """The keys of a dataclass; then those of the dataclasses inside."""
  tables = [_block(_rows(cls, where))]
  hints = typing.get_type_hints(cls)
  for field in dataclasses.fields(cls) if inner else ():
    if section := _inner_class(hints[field.name]):
      tables.append(_table(section, f"{where}.{field.name}"))
  return "\n\n".join(tables)


def _rows(
  cls: type,
  where: str,
  skip: Collection[str] = (),
  meanings: Mapping[str, str] | None = None,
) -> list[str]:
  """The rows of a dataclass's fields; `meanings` adds to its docstring."""
  hints, rows = typing.get_type_hints(cls), []
  meanings = {**(meanings or {}), **_meanings(cls)}
  for field in dataclasses.fields(cls):
    if field.name in skip or not field.repr:
      continue
    hint = hints[field.name]
    if _inner_class(hint):
      kind, default = "section", ""
    else:
      kind, default = f"`{_type(hint)}`", _default(field)
    key = f"{where}.{field.name}".removeprefix("config.")
    meaning = meanings.get(field.name, "").replace("|", "\\|")
    rows.append(f"| `{key}` | {kind} | {default} | {meaning} |")
  return rows


def _block(rows: Sequence[str]) -> str:
  head = ["| key | type | default | meaning |", "| --- | --- | --- | --- |"]
  lines = ['<div class="keys" markdown>', "", *head, *rows, "", "</div>"]
  return "\n".join(lines)


def _inner_class(hint: Any) -> type | None:
  options = [hint, *typing.get_args(hint)]
  found = [x for x in options if dataclasses.is_dataclass(x)]
  return found[0] if found and typing.get_origin(hint) is not tuple else None


def _type(hint: Any) -> str:
  if typing.get_origin(hint) in (typing.Union, types.UnionType):
    return " or ".join(_type(x) for x in typing.get_args(hint))
  if hint is type(None):
    return "None"
  arguments = [x for x in typing.get_args(hint) if x is not Ellipsis]
  name = getattr(hint, "__name__", str(hint))
  if not arguments:
    return name
  return f"{name}[{', '.join(_type(x) for x in arguments)}]"


def _default(field: dataclasses.Field) -> str:
  if field.default is not dataclasses.MISSING:
    return f"`{field.default!r}`"
  if field.default_factory is not dataclasses.MISSING:
    return f"`{field.default_factory()!r}`"
  return "required"


def _meanings(cls: type) -> dict[str, str]:
  """The meaning of each attribute, from Google-style docstrings."""
  meanings: dict[str, str] = {}
  for base in reversed(cls.__mro__[:-1]):
    text = inspect.cleandoc(base.__doc__ or "")
    _, _, text = text.partition("Attributes:\n")
    text = re.split(r"\n(?=\S)", text)[0]
    for item in re.split(r"\n(?=\S)", textwrap.dedent(text)):
      name, colon, meaning = item.partition(":")
      if colon:
        meanings[name.strip()] = " ".join(meaning.split())
  return meanings
