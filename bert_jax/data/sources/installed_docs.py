"""The docstrings of Python's standard library and of installed packages.

English prose without a download, so that a first pretraining run works
anywhere. The packages are the requirements of bert_jax; their files are
parsed, never imported. A document is a module, its label the package.
"""

import ast
import functools
import gc
import importlib.metadata
import inspect
import json
import pathlib
import platform
import re
import sysconfig
import warnings
from typing import Any

from bert_jax.data.corpus import workers
from bert_jax.data.sources import text_files
from bert_jax.settings import UserError

_DISTRIBUTION = "bert_jax"
_NOT_DOCUMENTATION = re.compile(
  r"(^|/)(tests?|testing|_?vendor(ed)?|idlelib|lib2to3|turtledemo"
  r"|site-packages|dist-packages)/|(^|/)(test_[^/]*|[^/]*_tests?|conftest)\.py$"
)
_SHORTEST = 60  # The minimum number of characters of a document.

_FENCE = re.compile(r"^\s*```")
_DOCTEST = re.compile(r"^\s*>>>")
_DIRECTIVE = re.compile(r"^\s*\.\.\s")
# The start of an entry in a list of arguments, in the common docstring styles.
_ENTRY = re.compile(
  r"^\s*(?::\w+[^:]*:\s|[-*+•]\s+|\d+[.)]\s+"
  r"|[`*]{0,2}[\w., *]{1,40}[`*]{0,2}\s?(?:\([^()]*\))?\s*:(?:\s|$))"
)
_MARKER = re.compile(r"^\s*(?:[-*+•]|\d+[.)]|:(?=\w+[ :]))\s*")
_UNDERLINE = re.compile(r"^\s*([-=~^\"'#*`_+])\1{2,}\s*$")
_MARKUP = [
  (re.compile(r":[\w:+-]+:`~?\.?([^`<]*?)(?:\s*<[^`>]*>)?`"), r"\1"),
  (re.compile(r"!?\[([^\]]+)\]\([^)\s]*\)"), r"\1"),
  (re.compile(r"`([^`<]+?)\s*<[^`>]+>`_+"), r"\1"),
  (re.compile(r"\s*\[[\w#]+\]_"), ""),
  (re.compile(r"<?https?://\S+>?"), ""),
  (re.compile(r"`+([^`]*)`+_*"), r"\1"),
  (re.compile(r"\*{1,2}([^\s*](?:[^*]*[^\s*])?)\*{1,2}"), r"\1"),
  (re.compile(r"\s+"), " "),
]
_WORD = re.compile(r"[A-Za-z]{2,}")


def docstrings(source: bytes) -> list[str]:
  """The docstrings of a module in the order of its source.

  Returns none for invalid Python, and for a file without triple quotes.
  """
  if b'"""' not in source and b"'''" not in source:
    return []  # Parsing is slow, and data tables are long.
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    try:
      tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
      return []
  found = []
  todo: list[ast.AST] = [tree]
  while todo:
    node = todo.pop()
    body = getattr(node, "body", None)
    if isinstance(
      node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    ):
      text = ast.get_docstring(node, clean=False)
      if text:
        found.append(inspect.cleandoc(text))
    if isinstance(body, list):
      todo.extend(reversed([*body, *getattr(node, "orelse", [])]))
  return found


def paragraphs(docstring: str) -> list[str]:
  """The paragraphs of prose of a docstring.

  Code, doctests, tables, headings and markup are removed. An entry in a list of
  arguments is a paragraph, with its name and type.
  """
  chunks: list[list[str]] = [[]]
  skip_below = None  # An indented block is skipped until this indentation.
  fenced = doctest = False
  for line in docstring.expandtabs().split("\n"):
    indent = len(line) - len(line.lstrip())
    if _FENCE.match(line):
      fenced = not fenced
    if not line.strip():
      doctest = False
    elif skip_below is not None and indent > skip_below:
      continue
    else:
      skip_below = None
      doctest = doctest or bool(_DOCTEST.match(line))
    directive = bool(_DIRECTIVE.match(line))
    if directive or line.rstrip().endswith("::"):
      skip_below = indent
    dropped = fenced or doctest or directive or not line.strip()
    if dropped or _FENCE.match(line) or _UNDERLINE.match(line):
      if _UNDERLINE.match(line):
        chunks[-1] = []  # The underlined text is a heading.
      chunks.append([])
      continue
    entry = _ENTRY.match(line)
    if entry:
      chunks.append([])
      # In NumPy's style the description is on the line after "name : type".
      is_type = re.search(r"\w\s+:\s*$", entry[0])
      line = f"{line.rstrip()}." if is_type else _MARKER.sub("", line)
    chunks[-1].append(line.strip())
  texts = [plain(" ".join(chunk)) for chunk in chunks]
  return [text for text in texts if _is_prose(text)]


def plain(text: str) -> str:
  """A line or paragraph without markup and links."""
  for pattern, replacement in _MARKUP:
    text = pattern.sub(replacement, text)
  text = re.sub(r"::$", ":", text.strip())
  return text[:1].upper() + text[1:]


def _is_prose(text: str) -> bool:
  """Whether text is prose rather than code or a table."""
  letters = sum(map(str.isalpha, text)) + text.count(" ")
  words = len(_WORD.findall(text))
  is_closed = text.endswith((".", "!", "?", ":", ")", '."'))
  return letters >= 0.8 * len(text) and words >= (4 if is_closed else 8)


def _read_modules(names: list[tuple[str, str, str]]) -> list[list[str]]:
  """The paragraphs of each module, given as (package, name, path)."""
  found = []
  gc.disable()  # Garbage collection takes a third of the time.
  for _, _, path in names:
    try:
      source = pathlib.Path(path).read_bytes()
    except OSError:
      source = b""
    found.append(
      [text for doc in docstrings(source) for text in paragraphs(doc)]
    )
  gc.enable()
  return found


def _required() -> list[str]:
  """The requirements of bert_jax, from a checkout or the installed package."""
  path = pathlib.Path(__file__).parents[3] / "requirements.txt"
  try:
    if path.is_file():
      return path.read_text(encoding="utf-8").splitlines()
    return importlib.metadata.requires(_DISTRIBUTION) or []
  except importlib.metadata.PackageNotFoundError:
    raise UserError(
      "config.corpus.source: installed_docs needs requirements.txt or an"
      f" installed {_DISTRIBUTION}; install it with `pip install -e .`"
    ) from None


@functools.cache
def distributions() -> dict[str, importlib.metadata.Distribution]:
  """The installed requirements of bert_jax, direct and indirect, by name."""
  found = {}
  todo = _required()
  while todo:
    requirement = todo.pop()
    match = re.match(r"[A-Za-z0-9][\w.-]*", requirement)
    if not match or re.search(r"\bextra\s*==", requirement):
      continue
    name = re.sub(r"[-_.]+", "-", match[0]).lower()
    if name in found:
      continue
    try:
      found[name] = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
      continue  # Required only on other systems or Python versions.
    todo.extend(found[name].requires or [])
  return dict(sorted(found.items()))


def modules() -> list[tuple[str, str, str]]:
  """All modules as (package, name, path), sorted; no tests."""
  library = pathlib.Path(sysconfig.get_paths()["stdlib"])
  modules = [
    ("python", path.relative_to(library).as_posix(), str(path))
    for path in library.rglob("*.py")
  ]
  for package, distribution in distributions().items():
    modules += [
      (package, file.as_posix(), str(distribution.locate_file(file)))
      for file in distribution.files or []
      if file.suffix == ".py"
    ]
  return sorted(
    module for module in modules if not _NOT_DOCUMENTATION.search(module[1])
  )


def describe() -> list[dict[str, Any]]:
  """The packages and their versions, for JSON."""
  versions = {"python": platform.python_version()}
  versions |= {name: found.version for name, found in distributions().items()}
  return [{"package": name, "version": x} for name, x in versions.items()]


def open_source(
  scratch: pathlib.Path, processes: int = 1
) -> text_files.TextFiles:
  """A source of records {"text", "replaced_bytes", "label", "module"}.

  It reads the docstrings that are extracted to the folder `scratch`. Repeated
  paragraphs are kept only in their first document.

  Raises:
    UserError: the requirements of bert_jax cannot be found.
  """
  found = modules()
  groups = [found[i : i + 100] for i in range(0, len(found), 100)]
  path = scratch / "installed_docs.jsonl"
  seen: set[str] = set()
  with path.open("w", encoding="utf-8") as file:
    read = workers.run(_read_modules, [(group,) for group in groups], processes)
    for group, texts in zip(groups, read):
      for (package, name, _), document in zip(group, texts):
        new = [text for text in dict.fromkeys(document) if text not in seen]
        seen.update(new)
        text = "\n\n".join(new)
        if len(text) >= _SHORTEST:
          record = {"text": text, "label": package, "module": name}
          file.write(json.dumps(record) + "\n")
  return text_files.TextFiles([str(path)], [str(path)], "line", "text")
