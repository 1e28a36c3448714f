"""Sources of documents, by random access.

To add a source, add a file here, its settings to `SourceConfig`, and an entry
to `SOURCES`.
"""

import contextlib
import dataclasses
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

from bert_jax import settings
from bert_jax.data.sources import files as files_lib
from bert_jax.data.sources import installed_docs, mixture, text_files, tfds
from bert_jax.settings import UserError
from bert_jax.storage import paths


class Source(Protocol):
  """Documents by random access; picklable."""

  def __len__(self) -> int:
    """The number of documents."""

  def __getitem__(self, index: int) -> Mapping[str, Any]:
    """The `text` of a document, `replaced_bytes`, and other fields.

    `replaced_bytes` counts those that are not UTF-8, and halves of surrogate
    pairs in JSON; each is replaced by U+FFFD.
    """


@dataclasses.dataclass(frozen=True)
class SourceConfig:
  """The source of documents.

  Attributes:
    source: "text_files", "tfds", "installed_docs" or "mixture".
    files: glob patterns of text files, separated by commas, or a list.
    documents: how text files are split into documents: "blank_line" (at blank
      lines), "line" or "file". JSON lines are always split by lines.
    field: the field of JSON lines, or the TFDS feature, with the text.
    dataset: the TFDS data set, `name[/config][:version]`.
    split: a TFDS split or a slice of one.
    data_dir: the folder of prepared TFDS data sets; None for its default.
    parts: the sources of a mixture by name, each a section of the keys above
      and `weight`: how many times each document is in the train split. 2.5
      means twice, and a third time for half of the documents; 0.1 takes a
      tenth of them. 1 if missing.
  """

  source: str
  files: str | tuple[str, ...] = ()
  documents: str = "blank_line"
  field: str = "text"
  dataset: str = ""
  split: str = "train"
  data_dir: str | None = None
  parts: Mapping[str, Any] | None = None

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
    if (self.source == "mixture") != bool(self.parts):
      raise ValueError(
        "parts: expected the sources of a mixture with source='mixture', and"
        " only with it"
      )
    for _ in self.sections():  # Checks them.
      pass

  def sections(self) -> "Iterator[tuple[str, SourceConfig, float]]":
    """The name, the source and the weight of each part of a mixture."""
    for name, section in (self.parts or {}).items():
      where = f"config.corpus.parts.{name}"
      if not isinstance(section, Mapping):
        raise UserError(f"{where}: expected a section, got {section!r}")
      rest = {key: x for key, x in section.items() if key != "weight"}
      part = settings.from_dict(SourceConfig, rest, where)
      weight = section.get("weight", 1.0)
      is_number = isinstance(weight, int | float) and weight is not True
      if not is_number or not 0 < weight <= mixture.MOST_COPIES:
        raise UserError(
          f"{where}.weight: expected above 0 and at most"
          f" {mixture.MOST_COPIES}, got {weight!r}"
        )
      if part.source == "mixture":
        raise UserError(f"{where}.source: a mixture has no mixture in it")
      yield name, part, float(weight)


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
  "mixture": (
    lambda config, scratch, processes: _open_mixture(
      config, scratch, processes
    ),
    lambda config: _describe_mixture(config),
  ),
  "installed_docs": (
    lambda config, scratch, processes: installed_docs.open_source(
      scratch, processes
    ),
    lambda config: installed_docs.describe(),
  ),
}


def _open_mixture(
  config: SourceConfig, scratch: pathlib.Path, processes: int
) -> mixture.Mixture:
  parts = []
  for name, part, weight in config.sections():
    folder = scratch / f"part-{len(parts)}"
    folder.mkdir()
    with _errors_of_part(name):
      source = open_source(part, folder, processes)
    parts.append(mixture.Part(name, source, weight, folder))
  return mixture.Mixture(parts)


def _describe_mixture(config: SourceConfig) -> list[dict[str, Any]]:
  described = []
  for name, part, weight in config.sections():
    with _errors_of_part(name):
      source = describe(part)
    described.append({"part": name, "weight": weight, "source": source})
  return described


@contextlib.contextmanager
def _errors_of_part(name: str) -> Iterator[None]:
  """Names the keys of a part in errors."""
  try:
    yield
  except UserError as error:
    where = f"config.corpus.parts.{name}."
    raise UserError(str(error).replace("config.corpus.", where)) from None


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
  if isinstance(source, mixture.Mixture):
    return source.with_sources(
      shared(part.source, part.scratch, f"{where}/{number}")
      for number, part in enumerate(source.parts)
    )
  if not any(scratch.iterdir()):
    return source
  paths.upload_folder(scratch, where)
  return source.moved(scratch, where)
