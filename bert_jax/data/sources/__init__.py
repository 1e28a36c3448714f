"""Where documents come from: random access to records of text.

A new source is one file here, its settings in `SourceConfig` and its line in
`SOURCES`.
"""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from bert_jax import settings
from bert_jax.data.sources import files as files_lib
from bert_jax.data.sources import installed_docs, text_files, tfds
from bert_jax.storage import paths


class Source(Protocol):
  """Documents by random access; it can be pickled."""

  def __len__(self) -> int:
    """The number of documents."""

  def __getitem__(self, index: int) -> Mapping[str, Any]:
    """One document.

    Returns:
      `text` (str), `replaced_bytes` (int: bytes that were not UTF-8, each
      replaced by U+FFFD in the text), and what else the source knows.
    """


@dataclasses.dataclass(frozen=True)
class SourceConfig:
  """Where documents come from.

  Attributes:
    source: "text_files", "tfds" or "installed_docs".
    files: text_files: glob patterns; commas in one separate several.
    documents: text_files: what a document is, "blank_line" (what lies
      between blank lines), "line" or "file"; in JSON lines always a line.
    field: the field of JSON lines, or the TFDS feature, that holds the text.
    dataset: tfds: `name[/config][:version]`.
    split: tfds: a split or a slice of one.
    data_dir: tfds: where data sets are prepared; None for its default.
  """

  source: str
  files: tuple[str, ...] = ()
  documents: str = "blank_line"
  field: str = "text"
  dataset: str = ""
  split: str = "train"
  data_dir: str | None = None

  def __post_init__(self):
    patterns = (part for text in self.files for part in text.split(","))
    files = tuple(part.strip() for part in patterns if part.strip())
    object.__setattr__(self, "files", files)
    for name, known in (
      ("source", tuple(SOURCES)),
      ("documents", text_files.DOCUMENTS),
    ):
      if getattr(self, name) not in known:
        raise ValueError(
          f"{name}: unknown {getattr(self, name)!r}; known: {', '.join(known)}"
        )


@dataclasses.dataclass(frozen=True)
class SourceKind:
  """What a kind of source can do.

  Attributes:
    open: from the settings, a scratch folder that lasts as long as the source
      is read, and the number of processes, to the source.
    describe: what the source reads, for JSON: equal descriptions mean equal
      documents.
  """

  open: Callable[[SourceConfig, pathlib.Path, int], Source]
  describe: Callable[[SourceConfig], list[dict[str, Any]]]


SOURCES: Mapping[str, SourceKind] = {
  "text_files": SourceKind(
    open=lambda config, scratch, processes: text_files.open_source(
      config.files, config.documents, config.field, scratch
    ),
    describe=lambda config: files_lib.describe(
      files_lib.find(config.files, "config.corpus.files")
    ),
  ),
  "tfds": SourceKind(
    open=lambda config, scratch, processes: tfds.open_source(
      config.dataset, config.split, config.data_dir, config.field
    ),
    describe=lambda config: tfds.describe(
      config.dataset, config.split, config.data_dir, config.field
    ),
  ),
  "installed_docs": SourceKind(
    open=lambda config, scratch, processes: installed_docs.open_source(
      scratch, processes
    ),
    describe=lambda config: installed_docs.describe(),
  ),
}


def open_source(
  config: SourceConfig, scratch: pathlib.Path, processes: int = 1
) -> Source:
  """Opens the source that `config` names.

  Raises:
    UserError: the settings do not lead to readable documents.
  """
  kind = settings.choice("config.corpus.source", config.source, SOURCES)
  return kind.open(config, scratch, processes)


def describe(config: SourceConfig) -> list[dict[str, Any]]:
  """What the source reads: files with their hashes, packages, versions."""
  kind = settings.choice("config.corpus.source", config.source, SOURCES)
  return kind.describe(config)


def shared(source: Source, scratch: pathlib.Path, where: str) -> Source:
  """The same source, read on other machines than the one that opened it.

  Args:
    source: what `open_source` gave.
    scratch: the folder that it was given; its files are put into a store.
    where: the folder of the store.

  Raises:
    UserError: the store refuses the files.
  """
  if not any(scratch.iterdir()):
    return source
  paths.upload_folder(scratch, where)
  return source.moved(scratch, where)
