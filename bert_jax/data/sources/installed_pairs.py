"""Texts and what is to be written from them, without a download.

They come from the source of Python's standard library and of the packages that
bert_jax requires. No package is in both splits, and near duplicates are left
out, so that what is written cannot be remembered.
"""

import ast
import collections
import hashlib
import inspect
import json
import pathlib
import random
import re
import tempfile
import textwrap
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from bert_jax import settings
from bert_jax.data.corpus import duplicates, workers
from bert_jax.data.sources import installed_docs

_EVAL_SHARE = 0.1  # Of the pairs.
_EVAL_MOST = 1000
_NEAR = duplicates.Kind("near", similarity=0.7, ngram=4)
_CODE = range(60, 1200)  # Characters of a function.
_SUMMARY = range(3, 21)  # Words of a summary.
_PASSAGE = range(100, 400)  # Characters of a passage.
_SPAN = range(2, 7)  # Words that are masked.
_WORD = re.compile(r"[A-Za-z]{2,}")
# Where a completion may begin, and how long it is at least.
_TOKEN = re.compile(r"\w+|[^\w\s]")
_SHORTEST = 4


class Function(NamedTuple):
  """A function of a module.

  Attributes:
    name: its name.
    code: its source without decorators and docstring.
    summary: the first line of its docstring.
  """

  name: str
  code: str
  summary: str


def functions(source: bytes) -> list[Function]:
  """The functions of a module that have a docstring with a summary.

  A summary is a first line that is prose and has nothing, or a blank line,
  after it. Functions that do nothing, or are very long, are left out.
  """
  if b'"""' not in source and b"'''" not in source:
    return []
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    try:
      text = source.decode()
      tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
      return []
  lines = text.split("\n")
  found = (
    _function(node, lines)
    for node in ast.walk(tree)
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
  )
  return [function for function in found if function]


def _function(
  node: ast.FunctionDef | ast.AsyncFunctionDef, lines: Sequence[str]
) -> Function | None:
  docstring = ast.get_docstring(node, clean=False)
  if docstring is None or len(node.body) < 2:
    return None
  first, second, *_ = node.body
  nothing = (ast.Pass, ast.Raise, ast.Expr)
  if len(node.body) == 2 and isinstance(second, nothing):
    return None
  if first.lineno == node.lineno or second.lineno <= (first.end_lineno or 0):
    return None  # The docstring shares a line with code.
  head, *rest = inspect.cleandoc(docstring).split("\n")
  summary = installed_docs.plain(head)
  letters = sum(map(str.isalpha, summary)) + summary.count(" ")
  if (
    (rest and rest[0].strip())
    or len(_WORD.findall(summary)) not in _SUMMARY
    or letters < 0.85 * len(summary)
  ):
    return None
  code = lines[node.lineno - 1 : first.lineno - 1]
  code += lines[first.end_lineno : node.end_lineno]
  joined = textwrap.dedent("\n".join(x.rstrip() for x in code).expandtabs(4))
  if len(joined) not in _CODE:
    return None
  return Function(node.name, joined, summary)


def _read(modules: Sequence[tuple[str, str, str]]) -> list[list[Function]]:
  found = []
  for _, _, path in modules:
    try:
      found.append(functions(pathlib.Path(path).read_bytes()))
    except OSError:
      found.append([])
  return found


Pair = dict[str, Any]
"""A record with `text`, `target` and `package`; that of code has its `name`."""


def _functions(processes: int) -> Iterator[tuple[str, Function]]:
  """The functions of all packages, with the package of each."""
  modules = installed_docs.modules()
  groups = [modules[i : i + 100] for i in range(0, len(modules), 100)]
  read = workers.run(_read, [(group,) for group in groups], processes)
  for group, texts in zip(groups, read):
    for (package, _, _), found in zip(group, texts):
      for function in found:
        yield package, function


def _summaries(processes: int, mask: str) -> Iterator[Pair]:
  del mask
  for package, (name, code, summary) in _functions(processes):
    yield {"text": code, "target": summary, "package": package, "name": name}


def _completions(processes: int, mask: str) -> Iterator[Pair]:
  """A line of code of each function, from one of its tokens to its end."""
  del mask
  for package, (name, code, _) in _functions(processes):
    rng = random.Random(code)
    line = rng.choice([*re.finditer(r"(?<=\n)[ ]*[^\s#].*", code)])
    starts = [token.start() for token in _TOKEN.finditer(line[0])][1:]
    starts = [n for n in starts if len(line[0]) - n >= _SHORTEST]
    if starts:
      cut = line.start() + rng.choice(starts)
      text, target = code[:cut].rstrip(" "), code[cut : line.end()]
      yield {"text": text, "target": target, "package": package, "name": name}


def _passages(processes: int) -> Iterator[tuple[str, str]]:
  """Paragraphs of docstrings, with the package of each."""
  with tempfile.TemporaryDirectory() as scratch:
    source = installed_docs.open_source(pathlib.Path(scratch), processes)
    for index in range(len(source)):
      record = source[index]
      for text in record["text"].split("\n\n"):
        if len(text) in _PASSAGE:
          yield record["label"], text


def _continuations(processes: int, mask: str) -> Iterator[Pair]:
  """Passages that are cut near their middle."""
  del mask
  for package, text in _passages(processes):
    words = text.split(" ")
    cut = round(len(words) * random.Random(text).uniform(0.4, 0.6))
    texts = " ".join(words[:cut]), " ".join(words[cut:])
    yield {"text": texts[0], "target": texts[1], "package": package}


def _infillings(processes: int, mask: str) -> Iterator[Pair]:
  """Passages with a mask in place of some words."""
  for package, text in _passages(processes):
    words, rng = text.split(" "), random.Random(text)
    count = min(rng.choice(_SPAN), len(words) - 2)
    start = rng.randrange(1, len(words) - count)
    hidden = " ".join([*words[:start], mask, *words[start + count :]])
    target = " ".join(words[start : start + count])
    yield {"text": hidden, "target": target, "package": package}


KINDS: Mapping[str, Callable[[int, str], Iterator[Pair]]] = {
  "code_summary": _summaries,
  "code_completion": _completions,
  "continuation": _continuations,
  "infilling": _infillings,
}
"""From a number of processes and the name of the mask to pairs."""


def write(
  folder: pathlib.Path, kind: str, processes: int = 1, mask: str = "[MASK]"
) -> dict[str, int]:
  """Writes `train.jsonl` and `eval.jsonl` with pairs of a kind.

  A package is in one split. The same packages give the same files.

  Args:
    folder: the folder to write to.
    kind: a key of `KINDS`.
    processes: the number of processes that read the packages.
    mask: what stands in place of the words to be written, for "infilling".

  Returns:
    The number of records of each split.

  Raises:
    UserError: the kind is unknown, or all pairs are of one package.
  """
  make = settings.choice("kind", kind, KINDS)
  pairs = list(make(processes, mask))
  held_out = _held_out(collections.Counter(x["package"] for x in pairs))
  if not held_out:
    raise settings.UserError(
      f"kind: {kind} needs pairs of several packages, to hold out some of them"
    )
  # Of near duplicates the first is kept, one to train on if there is one.
  pairs.sort(key=lambda pair: pair["package"] in held_out)
  pairs = _distinct(pairs)
  splits = {
    split: [x for x in pairs if (x["package"] in held_out) == is_held_out]
    for split, is_held_out in (("train", False), ("eval", True))
  }
  if len(splits["eval"]) > _EVAL_MOST:
    splits["eval"] = random.Random(0).sample(splits["eval"], _EVAL_MOST)
  folder.mkdir(parents=True, exist_ok=True)
  for split, rows in splits.items():
    lines = (json.dumps(row) + "\n" for row in rows)
    (folder / f"{split}.jsonl").write_text("".join(lines), encoding="utf-8")
  return {split: len(rows) for split, rows in splits.items()}


def _held_out(sizes: Mapping[str, int]) -> set[str]:
  """The packages to hold out: in the order of hashes, as long as they fit.

  So a package that is installed later changes little.
  """
  left = _EVAL_SHARE * sum(sizes.values())
  found = set()
  by_hash = sorted(sizes, key=lambda x: hashlib.sha256(x.encode()).digest())
  for package in by_hash:
    if sizes[package] <= left:
      found.add(package)
      left -= sizes[package]
  return found


def _distinct(pairs: Sequence[Pair]) -> list[Pair]:
  """The pairs whose text, with the target, resembles no earlier one."""
  texts = [f"{pair['text']}\n{pair['target']}" for pair in pairs]
  with tempfile.TemporaryDirectory() as folder:
    keys = duplicates.write_keys(_NEAR, folder, folder, 0, texts)
    parts = duplicates.ranges(keys)
    for part in range(parts):
      duplicates.search(_NEAR, folder, folder, 1, part, parts)
    found = duplicates.found(_NEAR, folder, 0, parts)
  return [pair for number, pair in enumerate(pairs) if number not in found]
