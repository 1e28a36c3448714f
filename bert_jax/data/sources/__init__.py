"""Sources of documents, by random access.

To add a source, add a file here, its settings to `SourceConfig`, and an entry
to `SOURCES`.
"""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from bert_jax.data.sources import files as files_lib
from bert_jax.data.sources import installed_docs, text_files, tfds
from bert_jax.storage import paths


class Source(Protocol):
  """Documents by random access; picklable."""

  def __len__(self) -> int:
    """The number of documents."""

  def __getitem__(self, index: int) -> Mapping[str, Any]:
    """The `text` of a document, `replaced_bytes`, and other fields.

    `replaced_bytes` counts those that are not UTF-8, replaced by U+FFFD.
    """


@dataclasses.dataclass(frozen=True)
class SourceConfig:
  """The source of documents.

  Attributes:
    source: "text_files", "tfds" or "installed_docs".
    files: glob patterns of text files, separated by commas.
    documents: how text files are split into documents: "blank_line" (at blank
      lines), "line" or "file". JSON lines are always split by lines.
    field: the field of JSON lines, or the TFDS feature, with the text.
    dataset: the TFDS data set, `name[/config][:version]`.
    split: a TFDS split or a slice of one.
    data_dir: the folder of prepared TFDS data sets; None for its default.
  """

  source: str
  files: tuple[str, ...] = ()
  documents: str = "blank_line"
  field: str = "text"
  dataset: str = ""
  split: str = "train"
  data_dir: str | None = None

  def __post_init__(self):
    object.__setattr__(self, "files", files_lib.split(self.files))
    for name, known in (
      ("source", tuple(SOURCES)),
      ("documents", text_files.DOCUMENTS),
    ):
      if getattr(self, name) not in known:
        raise ValueError(
          f"{name}: unknown {getattr(self, name)!r}; known: {', '.join(known)}"
        )


# For each source: a function that opens it, from the settings, a scratch folder
# that exists as long as the source is used, and the number of processes; and a
# description of its input for JSON. Equal descriptions mean equal documents.
SOURCES: Mapping[str, tuple[Callable[..., Source], Callable[..., Any]]] = {
  "text_files": (
    lambda config, scratch, processes: text_files.open_source(
      config.files, config.documents, config.field, scratch
    ),
    lambda config: files_lib.describe(
      files_lib.find(config.files, "config.corpus.files")
    ),
  ),
  "tfds": (
    lambda config, scratch, processes: _open_tfds(config),
    lambda config: tfds.describe(_open_tfds(config).dataset),
  ),
  "installed_docs": (
    lambda config, scratch, processes: installed_docs.open_source(
      scratch, processes
    ),
    lambda config: installed_docs.describe(),
  ),
}


def _open_tfds(config: SourceConfig) -> tfds.TfdsTexts:
  dataset = tfds.Dataset(config.dataset, config.split, config.data_dir)
  return tfds.open_source(dataset, config.field)


def open_source(
  config: SourceConfig, scratch: pathlib.Path, processes: int = 1
) -> Source:
  """Opens the source that `config` names, or raises a `UserError`."""
  return SOURCES[config.source][0](config, scratch, processes)


def describe(config: SourceConfig) -> list[dict[str, Any]]:
  """The input of the source: files with SHA-256, or packages with versions."""
  return SOURCES[config.source][1](config)


def shared(source: Source, scratch: pathlib.Path, where: str) -> Source:
  """The same source for use on other machines.

  Uploads its scratch folder to `where`, a folder in a store.

  Raises:
    UserError: the store refuses the upload.
  """
  if not any(scratch.iterdir()):
    return source
  paths.upload_folder(scratch, where)
  return source.moved(scratch, where)
