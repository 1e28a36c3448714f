"""Cleans the documents of a source before they are tokenized.

First each document alone: markup, characters, boilerplate, language, quality.
Then documents that an earlier one equals or resembles, then lines that occurred
before: the other way round, a copy with small changes would keep these and
resemble nothing. The documents that remain are a new source, in files of the
scratch folder. The result does not depend on the numbers of shards, processes
and machines.
"""

import dataclasses
import functools
import importlib.metadata
import itertools
import pathlib
import shutil
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from bert_jax import settings
from bert_jax.data import sources
from bert_jax.data.corpus import clean_text, duplicates, quality, text_store
from bert_jax.data.sources import files
from bert_jax.storage import folders, paths

_DUPLICATES = ("exact", "near")
_SAMPLES = 3
_SAMPLE_CHARACTERS = 100


@dataclasses.dataclass(frozen=True)
class CleanConfig:
  """The section `config.corpus.clean`; by default nothing is changed.

  The rules are applied in the order of the keys. Lines that a document repeats
  itself count as `duplicate_lines`, but are removed before the quality filters,
  which refuse a text that repeats itself.

  Attributes:
    html: whether HTML documents become text, by lxml (the extra `clean`).
    control_characters: whether control and zero-width characters are removed,
      and unusual spaces and line breaks become usual ones.
    unicode: the Unicode normalization form, "NFC" or "NFKC", if any.
    boilerplate: whether lines of notices, links and menus are removed, and with
      `html` navigation, footers, asides and forms.
    languages: the languages of the documents to keep, as ISO 639-1 codes, which
      commas may separate; empty keeps all. Needs py3langid (the extra `clean`).
    language_probability: the smallest probability of the language.
    quality: quality filters in the order of their use: "c4", "gopher" and
      "gopher_repetition"; see `bert_jax.data.corpus.quality`. For English.
    duplicate_documents: "exact" removes documents that an earlier one equals;
      "near" also those that resemble one.
    duplicate_lines: "exact" removes lines that occurred before, in the same or
      an earlier document; "near" also those that resemble one.
    similarity: the smallest Jaccard similarity, of sets of word n-grams, of two
      lines or documents that resemble each other.
    ngram: the number of words of these n-grams. A shorter text has one n-gram
      of all its words.
  """

  html: bool = False
  control_characters: bool = False
  unicode: str | None = None
  boilerplate: bool = False
  languages: tuple[str, ...] = ()
  language_probability: float = 0.5
  quality: tuple[str, ...] = ()
  duplicate_documents: str | None = None
  duplicate_lines: str | None = None
  similarity: float = 0.8
  ngram: int = 5

  def __post_init__(self):
    for name in ("languages", "quality"):
      object.__setattr__(self, name, files.split(getattr(self, name)))
    for name, known in (
      ("unicode", clean_text.UNICODE_FORMS),
      ("quality", quality.QUALITY),
      ("duplicate_lines", _DUPLICATES),
      ("duplicate_documents", _DUPLICATES),
    ):
      given = getattr(self, name)
      for value in given if isinstance(given, tuple) else (given,):
        if value is not None:
          settings.choice(
            f"config.corpus.clean.{name}", value, dict.fromkeys(known)
          )
    for name, low, high in (
      ("similarity", 0.3, 1),
      ("language_probability", 0, 1),
      ("ngram", 1, 64),
    ):
      is_valid = functools.partial(_between, low, high)
      settings.check(self, f"{low} to {high}", is_valid, name)

  @property
  def is_active(self) -> bool:
    """Whether any rule is on."""
    return self != CleanConfig(
      language_probability=self.language_probability,
      similarity=self.similarity,
      ngram=self.ngram,
    )


def _between(low: float, high: float, value: float) -> bool:
  return low <= value <= high


def describe(config: CleanConfig) -> list[dict[str, Any]]:
  """The versions of all that decides the result, for JSON.

  Raises:
    UserError: a package is missing, or a language unknown.
  """
  if not config.is_active:
    return []
  found = {"unicode": unicodedata.unidata_version}
  if config.html:
    clean_text.check_html_library()
    found["lxml"] = importlib.metadata.version("lxml")
  if config.languages:
    clean_text.check_languages(config.languages)
    found["py3langid"] = importlib.metadata.version("py3langid")
  return [{"package": name, "version": x} for name, x in found.items()]


@dataclasses.dataclass
class Removed:
  """What one rule removed.

  Attributes:
    documents: the number of documents removed.
    lines: the number of lines removed from documents that remain.
    characters: the number of characters removed.
    changed: the number of documents changed within their lines.
    samples: the beginnings of the first texts affected.
  """

  documents: int = 0
  lines: int = 0
  characters: int = 0
  changed: int = 0
  samples: list[str] = dataclasses.field(default_factory=list)

  def sample(self, *texts: str) -> None:
    """Keeps the beginning of a text, if it is among the first."""
    if len(self.samples) < _SAMPLES:
      starts = (" ".join(text[:1000].split()) for text in texts)
      sample = " ~ ".join(x[:_SAMPLE_CHARACTERS] for x in starts)
      if sample not in self.samples:
        self.samples.append(sample)

  def merge(self, other: "Removed") -> None:
    """Adds the counts of another part, which follows this one."""
    for name in ("documents", "lines", "characters", "changed"):
      setattr(self, name, getattr(self, name) + getattr(other, name))
    samples = dict.fromkeys(self.samples + other.samples)
    self.samples = list(samples)[:_SAMPLES]


class Counts:
  """What was read, and what each rule removed.

  Attributes:
    documents: the number of documents read.
    characters: the number of characters read.
    removed: by rule.
  """

  def __init__(self):
    self.documents = self.characters = 0
    self.removed: dict[str, Removed] = {}

  def rule(self, name: str) -> Removed:
    """The counts of a rule."""
    return self.removed.setdefault(name, Removed())

  def merge(self, other: "Counts") -> None:
    """Adds the counts of another part, which follows this one."""
    self.documents += other.documents
    self.characters += other.characters
    for name, removed in other.removed.items():
      self.rule(name).merge(removed)

  def figures(self) -> dict[str, Any]:
    """The counts as plain numbers for JSON, rules in the order of their use."""
    order = [field.name for field in dataclasses.fields(CleanConfig)]
    order.insert(order.index("duplicate_documents"), "empty")
    # Such as "quality.c4: no end mark".
    rules = sorted(
      self.removed,
      key=lambda rule: (order.index(rule.partition(".")[0]), rule),
    )
    return {
      "documents": self.documents,
      "characters": self.characters,
      "removed": {
        rule: {
          name: value
          for name, value in dataclasses.asdict(self.removed[rule]).items()
          if value
        }
        for rule in rules
      },
    }


def clean_document(
  text: str, config: CleanConfig, counts: Counts
) -> str | None:
  """The text of a document by all rules that need no other document.

  Returns:
    The text, or None if the document is removed.
  """
  counts.documents += 1
  counts.characters += len(text)
  if config.html and clean_text.has_markup(text):
    before = text
    text = clean_text.html_to_text(text, content_only=config.boilerplate)
    rule = counts.rule("html")
    rule.changed += 1
    rule.characters += max(0, len(before) - len(text))
    rule.sample(before)
  if config.control_characters:
    before = text
    text, number = clean_text.remove_control_characters(text)
    if text != before:
      rule = counts.rule("control_characters")
      rule.changed += 1
      rule.characters += number
  if config.unicode:
    before = text
    text = unicodedata.normalize(config.unicode, text)
    if text != before:
      counts.rule("unicode").changed += 1
  if config.boilerplate:
    text = _without_lines(
      text, clean_text.is_boilerplate, counts.rule("boilerplate")
    )
  if config.languages and text and not text.isspace():
    language, probability = clean_text.language(text)
    if language not in config.languages:
      return _drop(text, counts.rule(f"languages.{language}"))
    if probability < config.language_probability:
      return _drop(text, counts.rule(f"languages.{language}, not certain"))
  if config.duplicate_lines:
    seen: set[str] = set()

    def is_repeated(line: str) -> bool:
      line = " ".join(line.split())
      return bool(line) and (line in seen or bool(seen.add(line)))

    text = _without_lines(text, is_repeated, counts.rule("duplicate_lines"))
  for name in config.quality:
    kept, removed = quality.QUALITY[name](text)
    for reason, line in removed:
      rule = counts.rule(f"quality.{name}: {reason}")
      if line is None:
        return _drop(text, rule)
      rule.lines += 1
      rule.characters += len(line)
      rule.sample(line)
    text = kept
  if not text or text.isspace():
    return _drop("", counts.rule("empty"))
  return text


def _drop(text: str, rule: Removed) -> None:
  rule.documents += 1
  rule.characters += len(text)
  if text:
    rule.sample(text)


def _without_lines(text: str, is_removed: Any, rule: Removed) -> str:
  """The text without the lines that a function names, which are counted."""
  kept = []
  for line in text.split("\n"):
    if is_removed(line):
      rule.lines += 1
      rule.characters += len(line)
      rule.sample(line)
    else:
      kept.append(line)
  return "\n".join(kept)


class _Run(Protocol):
  """Runs a function on tasks, with results in order."""

  def __call__(
    self, name: str, function: Any, tasks: Sequence[tuple[Any, ...]]
  ) -> Iterator[Any]: ...


def clean(
  source: sources.Source,
  config: CleanConfig,
  scratch: paths.Path,
  shards: int,
  run: _Run,
) -> tuple[text_store.Texts, dict[str, Any]]:
  """Cleans the documents of a source.

  Args:
    source: the documents.
    config: the rules.
    scratch: a folder for files that the result reads, and that all machines
      can access.
    shards: the number of parts in which the documents are cleaned.
    run: runs a function on a list of arguments, in worker processes.

  Returns:
    The documents that remain, and the figures for `corpus.json`.
  """
  counts, sizes = Counts(), []

  def collect(results: Iterator[tuple[int, Counts]]) -> None:
    sizes.clear()
    for size, part in results:
      sizes.append(size)
      counts.merge(part)

  def duplicated(
    texts: text_store.Texts, unit: str, kind: duplicates.Kind
  ) -> "_Duplicates":
    folder = _new_folder(scratch, f"{unit}-{kind.name}")
    tasks = [(texts, n, kind, folder, scratch, unit) for n in range(shards)]
    keys = sum(run(f"{kind.name} {unit}", _write_keys, tasks))
    parts = duplicates.ranges(keys)
    tasks = [
      (kind, folder, scratch, shards, part, parts) for part in range(parts)
    ]
    for _ in run(f"{kind.name} {unit} found", duplicates.search, tasks):
      pass
    return _Duplicates(kind, folder, parts)

  folder = _new_folder(scratch, "cleaned")
  tasks = [(source, config, n, shards, scratch, folder) for n in range(shards)]
  collect(run("clean", _clean_shard, tasks))
  texts = text_store.Texts(folder, tuple(sizes))
  if config.duplicate_documents:
    found = [
      duplicated(texts, "documents", kind)
      for kind in _kinds(config.duplicate_documents, config)
    ]
    tasks = [(texts, n, found, scratch) for n in range(shards)]
    collect(run("documents", _drop_documents, tasks))
    for each in found:
      _remove(each.folder)
    texts = dataclasses.replace(texts, sizes=tuple(sizes), chosen=True)
  if config.duplicate_lines:
    found = [
      duplicated(texts, "lines", kind)
      for kind in _kinds(config.duplicate_lines, config)
    ]
    folder = _new_folder(scratch, "distinct")
    tasks = [(texts, n, found, scratch, folder) for n in range(shards)]
    collect(run("lines", _drop_lines, tasks))
    for used in (texts.folder, *(each.folder for each in found)):
      _remove(used)
    texts = text_store.Texts(folder, tuple(sizes))
  return texts, counts.figures()


def _kinds(value: str, config: CleanConfig) -> list[duplicates.Kind]:
  near = duplicates.Kind("near", config.similarity, config.ngram)
  exact = duplicates.Kind("exact")
  return [exact, near] if value == "near" else [exact]


def _new_folder(scratch: paths.Path, name: str) -> str:
  folder = f"{scratch}/{name}"
  if not paths.is_remote(folder):
    pathlib.Path(folder).mkdir()
  return folder


def _remove(folder: str) -> None:
  if paths.is_remote(folder):
    paths.remove(folder)
  else:
    shutil.rmtree(folder)


def _clean_shard(
  source: sources.Source,
  config: CleanConfig,
  shard: int,
  shards: int,
  scratch: paths.Path,
  folder: str,
) -> tuple[int, Counts]:
  counts, size = Counts(), len(source)

  def cleaned() -> Iterator[Mapping[str, Any]]:
    for index in range(size * shard // shards, size * (shard + 1) // shards):
      record = source[index]
      text = clean_document(record["text"], config, counts)
      if text is not None:
        yield {**record, "text": text}

  return text_store.write(cleaned(), shard, scratch, folder), counts


@dataclasses.dataclass(frozen=True)
class _Duplicates:
  """The files of finished searches."""

  kind: duplicates.Kind
  folder: str
  parts: int

  def of(self, shard: int) -> dict[int, tuple[int, int]]:
    """See `duplicates.found`."""
    return duplicates.found(self.kind, self.folder, shard, self.parts)


def _write_keys(
  texts: text_store.Texts,
  shard: int,
  kind: duplicates.Kind,
  folder: str,
  scratch: paths.Path,
  unit: str,
) -> int:
  documents = (record["text"] for record in texts.shard(shard))
  if unit == "lines":
    documents = itertools.chain.from_iterable(map(_lines, documents))
  return duplicates.write_keys(kind, folder, scratch, shard, documents)


def _lines(text: str) -> list[str]:
  """The lines that can be duplicates: those with text."""
  return [line for line in text.split("\n") if line and not line.isspace()]


def _drop_lines(
  texts: text_store.Texts,
  shard: int,
  found: Sequence[_Duplicates],
  scratch: paths.Path,
  folder: str,
) -> tuple[int, Counts]:
  """Writes the documents of a shard without the lines that are duplicates."""
  counts = Counts()
  exact, *near = (set(each.of(shard)) for each in found)
  near = set().union(*near)
  number = itertools.count()

  def distinct() -> Iterator[Mapping[str, Any]]:
    for record in texts.shard(shard):
      kept = []
      for line in record["text"].split("\n"):
        if line and not line.isspace():
          place = next(number)
          if place in exact or place in near:
            name = "exact" if place in exact else "near"
            rule = counts.rule(_rule("duplicate_lines", name))
            rule.lines += 1
            rule.characters += len(line)
            rule.sample(line)
            continue
        kept.append(line)
      text = "\n".join(kept)
      if text and not text.isspace():
        yield {**record, "text": text}
      else:
        counts.rule("duplicate_lines.all of a document").documents += 1

  return text_store.write(distinct(), shard, scratch, folder), counts


def _drop_documents(
  texts: text_store.Texts,
  shard: int,
  found: Sequence[_Duplicates],
  scratch: paths.Path,
) -> tuple[int, Counts]:
  """Writes the indices of the documents of a shard that are no duplicates."""
  counts = Counts()
  documents = texts.shard(shard)
  duplicated: dict[int, tuple[str, tuple[int, int]]] = {}
  for each in found:
    for index, earlier in each.of(shard).items():
      duplicated.setdefault(index, (each.kind.name, earlier))
  for index in sorted(duplicated):
    name, (other, place) = duplicated[index]
    text = documents[index]["text"]
    rule = counts.rule(_rule("duplicate_documents", name))
    rule.documents += 1
    rule.characters += len(text)
    if len(rule.samples) < _SAMPLES:
      rule.sample(*_apart(text, texts.shard(other)[place]["text"]))
  kept = [i for i in range(len(documents)) if i not in duplicated]
  with folders.staging(texts.folder, scratch) as staged:
    np.save(staged / text_store.chosen_name(shard), np.array(kept, np.int64))
  return len(kept), counts


def _rule(name: str, kind: str) -> str:
  return name if kind == "exact" else f"{name}.near"


def _apart(text: str, other: str) -> tuple[str, ...]:
  """The parts of two texts from shortly before they differ."""
  if text == other:
    return (text,)
  words, others = text.split(), other.split()
  pairs = enumerate(itertools.zip_longest(words, others))
  first = next((place for place, (a, b) in pairs if a != b), 0)
  start = max(0, first - 4)
  return " ".join(words[start:]), " ".join(others[start:])
