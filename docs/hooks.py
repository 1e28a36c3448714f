"""Pages of the site that are made from the code: recipes and config keys.

MkDocs calls `on_page_markdown` for each page. A line `<!-- recipes -->` is
replaced by the docstrings of the recipes, and `<!-- keys: SECTION -->` by the
table of a section's config keys. MkDocs checks the links of the site; those of
the READMEs are checked here.
"""

import ast
import logging
import pathlib
import re
import sys
import textwrap
from collections.abc import Sequence
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # The program `mkdocs` does not look there.

from launch import config_reference  # noqa: E402

_MARK = re.compile(r"^<!-- (recipes|keys)(?:: ([\w.]+))? -->$", re.MULTILINE)
_LINK = re.compile(r"\]\((?!https?:)([^)#]+)")
_TASK = "pretraining"  # All tasks have the same sections.
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
  marks = {mark[2] for mark in _MARK.finditer(markdown) if mark[2]}
  sections = {n or "recipe" for n, _ in config_reference.recipe_keys(_TASK)}
  if marks and marks != sections:
    _LOG.warning("sections of a config: %s", ", ".join(marks ^ sections))
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
  """The table of one section of a config, with its inner sections."""
  if section == "data":
    return _data()
  keys = dict(config_reference.recipe_keys(_TASK))
  return _block(keys["" if section == "recipe" else section])


def _data() -> str:
  """The section `data`: what tasks share, then what is special to each."""
  from bert_jax.tasks import DATA, LABELLED
  from bert_jax.tasks.labelled import LabelledConfig

  shared = config_reference.describe(LabelledConfig, "data")
  parts = [
    "### Tasks with labelled records",
    ", ".join(f"`{name}`" for name in LABELLED) + " share these keys:",
    _block(shared),
  ]
  for name in DATA:
    keys = config_reference.data_keys(name)
    if name in LABELLED:
      keys = [key for key in keys if key not in shared]
    parts += [f"### `{name}`", _block(keys)]
  return "\n\n".join(parts)


def _block(keys: Sequence[config_reference.Key]) -> str:
  """A table of config keys."""
  lines = ["| key | type | default | meaning |", "| --- | --- | --- | --- |"]
  for key in keys:
    is_required = key.default == config_reference.REQUIRED
    default = key.default if is_required else f"`{key.default}`"
    meaning = key.meaning.replace("|", "\\|")
    lines.append(f"| `{key.key}` | `{key.type}` | {default} | {meaning} |")
  return "\n".join(['<div class="keys" markdown>', "", *lines, "", "</div>"])
