"""Labelled records for fine-tuning, with the place that each comes from."""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Literal, TypeVar

from bert_jax import settings
from bert_jax.data.sources import files as files_lib
from bert_jax.data.sources import formats, labelled, parallel, squad, tfds
from bert_jax.data.sources.labelled import BadRow, Layout, Record, Row
from bert_jax.storage import paths as paths_lib

T = TypeVar("T")
Split = Literal["train", "eval"]

_POLICIES = ("fail", "skip")


@dataclasses.dataclass(frozen=True)
class RecordsConfig:
  """Where labelled records come from: the base of a task's `config.data`.

  Attributes:
    train: paths and glob patterns, commas in one separate several; for TFDS a
      split or a slice of one.
    eval: the same for the records to evaluate on.
    format: "tsv", "csv", "jsonl", "conll", "parallel", "squad" or "tfds";
      empty is by a file's ending, "parallel" for a folder and "tfds" where
      `dataset` is given. Files may be gzip'd.
    columns: from our fields to the names or numbers of columns (from 0, or
      from the end with negative ones), JSON keys or TFDS features (`a.b` for
      nested ones), or the files in a folder. A field that is not here, or is
      mapped to its own name, is where the format has it: under its own name,
      and in tables without a header one after the other.
    header: whether the first line of TSV and CSV names the columns.
    separator: what separates the items of a list in a cell of TSV and CSV.
    bad_rows: what to do with malformed rows, "fail" or "skip".
    dataset: tfds: `name[/config][:version]`.
    data_dir: tfds: where data sets are prepared; None for its default.
    download: tfds: whether to download and prepare what is not there.
  """

  train: tuple[str, ...] = ()
  eval: tuple[str, ...] = ()
  format: str = ""
  columns: Mapping[str, str | int] = dataclasses.field(default_factory=dict)
  header: bool = True
  separator: str = "|"
  bad_rows: str = "fail"
  dataset: str = ""
  data_dir: str | None = None
  download: bool = False

  def __post_init__(self):
    for name in ("train", "eval"):
      parts = (part for text in getattr(self, name) for part in text.split(","))
      paths = tuple(part.strip() for part in parts if part.strip())
      object.__setattr__(self, name, paths)
    if self.format and self.format not in formats.FORMATS:
      raise ValueError(
        f"format: unknown {self.format!r}; known: {', '.join(formats.FORMATS)}"
      )
    if self.dataset and self.format not in ("", "tfds"):
      raise ValueError(
        f"dataset: {self.dataset!r} is of TFDS, and the format is"
        f" {self.format!r}; expected one of the two"
      )
    if self.bad_rows not in _POLICIES:
      raise ValueError(
        f"bad_rows: expected {' or '.join(_POLICIES)}, got {self.bad_rows!r}"
      )
    if not self.separator:
      raise ValueError("separator: expected at least one character, got none")
    for field, column in self.columns.items():
      if type(column) not in (str, int):
        raise ValueError(
          f"columns.{field}: expected a name or a number, got {column!r}"
        )


@dataclasses.dataclass(frozen=True)
class Records:
  """Rows, and what is wrong with those that were left out.

  Attributes:
    rows: the records with their places.
    skipped: a message for each row that was left out.
    bad_rows: what to do with a bad row, "fail" or "skip".
    section: the config section that the records come from.
    split: "train" or "eval".
  """

  rows: list[Row]
  skipped: list[str]
  bad_rows: str
  section: str
  split: Split

  def reject(self, where: str, reason: str) -> None:
    """Notes that a row is left out.

    Raises:
      UserError: bad rows are to fail.
    """
    message = f"{where}: {reason}"
    if self.bad_rows == "fail":
      raise settings.UserError(
        f"{message} ({self.section}.bad_rows=skip leaves such rows out)"
      )
    self.skipped.append(message)

  def each(self, function: Callable[[Record], T]) -> tuple["Records", list[T]]:
    """Applies a function that may refuse records.

    Args:
      function: of a record; a UserError that it raises makes a bad row.

    Returns:
      The rows that are not refused, and for each what the function gives.

    Raises:
      UserError: bad rows are to fail, or no row is left.
    """
    kept = dataclasses.replace(self, rows=[], skipped=list(self.skipped))
    results = []
    for row in self.rows:
      try:
        results.append(function(row.record))
      except settings.UserError as error:
        kept.reject(row.where, str(error))
      else:
        kept.rows.append(row)
    kept.need_rows()
    return kept, results

  def need_rows(self) -> None:
    """Raises a UserError where no row is left."""
    if not self.rows:
      first = self.skipped[0] if self.skipped else "there are none"
      raise settings.UserError(
        f"{self.section}.{self.split}: no rows are left, {len(self.skipped)}"
        f" are bad; the first: {first}"
      )


def read(
  config: RecordsConfig,
  split: Split,
  fields: Sequence[str],
  lists: Collection[str] = (),
  optional: Collection[str] = (),
  section: str = "config.data",
) -> Records:
  """Reads all records of a split.

  Args:
    config: where they are.
    split: which of them.
    fields: the fields of a record, in the order of a table without a header.
    lists: the fields that are lists.
    optional: the fields that a file or a row may lack; one that
      `config.columns` renames must be in every file with named columns.
    section: the config key of `config`, for messages.

  Returns:
    The records, at least one. Values are those of the file: text in tables,
    what JSON has in JSON lines, names of labels from TFDS. `answers` are
    checked, and come as a list of {"text", "start"}.

  Raises:
    UserError: a file or a column is not there, a file is empty, a row is bad
      and bad rows are to fail, or no row is left.
  """
  layout = Layout(
    fields=tuple(fields),
    lists=frozenset(lists),
    optional=frozenset(optional),
    columns=config.columns,
    header=config.header,
    separator=config.separator,
    section=section,
  )
  records = Records([], [], config.bad_rows, section, split)
  for name, rows in _sources(config, split, layout):
    before = len(records.rows) + len(records.skipped)
    for row in rows:
      row = _checked(row)
      if isinstance(row, BadRow):
        records.reject(*row)
      else:
        records.rows.append(row)
    if len(records.rows) + len(records.skipped) == before:
      raise settings.UserError(f"{section}.{split}: {name} has no rows")
  records.need_rows()
  return records


def fingerprint(
  config: RecordsConfig, split: Split, section: str = "config.data"
) -> str:
  """What tells a split's records from others, whatever their files' names.

  Args:
    config: where they are.
    split: which of them.
    section: the config key of `config`, for messages.

  Returns:
    A hash of the files' bytes and of how they are read.

  Raises:
    UserError: a file is not there, or the data set is not prepared.
  """
  described = []
  for format_, paths in _found(config, split, section):
    if format_ == "tfds":
      described += tfds.describe_records(
        _dataset(config, paths[0], split, section)
      )
      continue
    for path in paths:
      folder = paths_lib.is_folder(path)
      files = parallel.folder_files(path, config.columns) if folder else [path]
      described += files_lib.describe(files)
  contents = [
    [entry.get(key) for key in ("dataset", "split", "sha256")]
    for entry in described
  ]
  columns = dict(config.columns)
  how = [config.format, columns, config.header, config.separator]
  text = json.dumps([contents, how, config.bad_rows], sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()


def _sources(
  config: RecordsConfig, split: Split, layout: Layout
) -> Iterator[tuple[str, Iterator[Row | BadRow]]]:
  """The name and the rows of each file, folder or split."""
  for format_, paths in _found(config, split, layout.section):
    name = ", ".join(paths)
    if format_ == "tfds":
      dataset = _dataset(config, name, split, layout.section)
      yield f"{config.dataset}[{name}]", tfds.read(dataset, layout)
    else:
      yield name, formats.FILE_FORMATS[format_](paths, layout)


def _found(
  config: RecordsConfig, split: Split, section: str
) -> list[tuple[str, list[str]]]:
  """Formats, with the paths that are read together, or a split of TFDS."""
  given = getattr(config, split)
  if not config.dataset and config.format != "tfds":
    return formats.find(given, config.format, section, split)
  if not given:
    raise settings.UserError(
      f"{section}.{split}: name a split, such as train[:90%]"
    )
  return [("tfds", [part]) for part in given]


def _dataset(
  config: RecordsConfig, part: str, split: Split, section: str
) -> tfds.Dataset:
  return tfds.Dataset(
    name=config.dataset,
    split=part,
    data_dir=config.data_dir,
    download=config.download,
    section=section,
    split_key=f"{section}.{split}",
  )


def _checked(row: Row | BadRow) -> Row | BadRow:
  """Answers in one form, whatever the format."""
  if isinstance(row, BadRow) or "answers" not in row.record:
    return row
  return labelled.row(row.where, _with_answers, row.record)


def _with_answers(record: Record) -> Record:
  answers = squad.answers(record["answers"], record.get("context"))
  return {**record, "answers": answers}
