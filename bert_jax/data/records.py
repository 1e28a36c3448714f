"""Reads labelled records for fine-tuning, with the location of each."""

import codecs
import dataclasses
import hashlib
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Literal, NamedTuple, TypeVar

from bert_jax import settings
from bert_jax.data.sources import files as files_lib
from bert_jax.data.sources import formats, labelled, parallel, squad, tfds
from bert_jax.data.sources.labelled import BadRow, Layout, Record, Row
from bert_jax.storage import paths as paths_lib

T = TypeVar("T")
Split = Literal["train", "eval"]


@dataclasses.dataclass(frozen=True)
class RecordsConfig:
  """The source of labelled records: the base of a task's `config.data`.

  Attributes:
    train: paths and glob patterns of the training records, separated by
      commas, or a list of them, `["a, b.tsv"]`; for TFDS a split or a slice of
      one.
    eval: the same for the evaluation records.
    format: "tsv", "csv", "txt" (a text per line), "jsonl", "json", "conll",
      "parallel" (aligned lines: a folder, or in `train` a file for each field),
      "squad", "dialogues" (turns that end with __eou__) or "tfds"; empty for
      that of the file's suffix and content, "parallel" for a folder and "tfds"
      if `dataset` is set. Files may be compressed by gzip.
    columns: maps fields to columns: names or numbers of table columns (from 0;
      negative numbers count from the end), JSON keys or TFDS features (`a.b`
      for nested ones), or file names in a folder. Fields that are missing here
      or mapped to their own name are at the format's default: under their own
      name, or in order in tables without a header.
    header: whether the first line of TSV and CSV files names the columns.
    separator: the separator of list items in a cell of TSV and CSV files.
      Cells may hold a list as Python writes it too, `['a', 'b']`.
    encoding: the encoding of the files, such as cp1252; empty for UTF-8, or
      UTF-16 or UTF-32 where a byte order mark says so.
    bad_rows: "fail" or "skip" malformed rows.
    dataset: the TFDS data set, `name[/config][:version]`.
    data_dir: the folder of prepared TFDS data sets; None for its default.
    download: whether TFDS may download and prepare a missing data set.
  """

  train: str | tuple[str, ...] = ()
  eval: str | tuple[str, ...] = ()
  format: str = ""
  columns: Mapping[str, str | int] = dataclasses.field(default_factory=dict)
  header: bool = True
  separator: str = "|"
  encoding: str = ""
  bad_rows: str = "fail"
  dataset: str = ""
  data_dir: str | None = None
  download: bool = False

  def __post_init__(self):
    for name in ("train", "eval"):
      object.__setattr__(self, name, files_lib.split(getattr(self, name)))
    if self.format and self.format not in formats.FORMATS:
      raise ValueError(
        f"format: unknown {self.format!r}; known: {', '.join(formats.FORMATS)}"
      )
    if self.dataset and self.format not in ("", "tfds"):
      raise ValueError(
        f"dataset: {self.dataset!r} needs the format tfds, got {self.format!r}"
      )
    if self.bad_rows not in ("fail", "skip"):
      raise ValueError(
        f"bad_rows: expected fail or skip, got {self.bad_rows!r}"
      )
    if not self.separator:
      raise ValueError(
        "separator: expected at least one character, got an empty string"
      )
    try:
      name = self.encoding and codecs.lookup(self.encoding).name
      "".encode(name or "utf-8")
    except LookupError as error:
      raise ValueError(f"encoding: {error}") from None
    object.__setattr__(self, "encoding", name)
    for field, column in self.columns.items():
      if type(column) not in (str, int):
        raise ValueError(
          f"columns.{field}: expected a name or a number, got {column!r}"
        )


@dataclasses.dataclass(frozen=True)
class Records:
  """The rows of a split, and the reasons of those that were skipped.

  Attributes:
    rows: the records with their locations.
    skipped: an error message for each skipped row.
    bad_rows: "fail" or "skip" malformed rows.
    section: the config section of the records, for messages.
    split: "train" or "eval".
  """

  rows: list[Row]
  skipped: list[str]
  bad_rows: str
  section: str
  split: Split

  def reject(self, where: str, reason: str) -> None:
    """Skips a row, or raises a `UserError` if `bad_rows` is "fail"."""
    message = f"{where}: {reason}"
    if self.bad_rows == "fail":
      raise settings.UserError(
        f"{message} ({self.section}.bad_rows=skip skips such rows)"
      )
    self.skipped.append(message)

  @property
  def notes(self) -> tuple[str, ...]:
    """See the function `notes`."""
    surrogates = labelled.count_surrogates([row.record for row in self.rows])
    files = f"{self.section}.{self.split}"
    return notes(self.skipped, surrogates, files)

  def each(self, function: Callable[[Record], T]) -> tuple["Records", list[T]]:
    """Applies a function to each record; a `UserError` makes a bad row.

    Returns:
      The rows without the bad ones, and the result of the function for each.

    Raises:
      UserError: a row is bad and `bad_rows` is "fail", or no row is left.
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
    """Raises a `UserError` if there are no rows."""
    if not self.rows:
      first = f"; the first: {self.skipped[0]}" if self.skipped else ""
      raise settings.UserError(
        f"{self.section}.{self.split}: no rows are left, {len(self.skipped)}"
        f" are bad{first}"
      )


def notes(
  skipped: Sequence[str], surrogates: int, files: str
) -> tuple[str, ...]:
  """Lines for the user about rows that were skipped or changed.

  Args:
    skipped: an error message for each skipped row.
    surrogates: the number of lone surrogates in the texts.
    files: the config key or flag of the files.
  """
  lines = []
  if skipped:
    count = f"{len(skipped):,} rows of {files} skipped"
    lines.append(f"{count}; the first: {skipped[0]}")
  if surrogates:
    count = f"{surrogates:,} lone surrogates in the texts of {files}"
    lines.append(f"{count} are read as U+FFFD")
  return tuple(lines)


class Splits(NamedTuple):
  """The records that a task learns from, and those that it is evaluated on.

  The methods apply a function to records; a `UserError` makes a bad row.

  Attributes:
    train: to learn from.
    evaluation: to be evaluated on.
    is_split: whether the latter were split off the former.
  """

  train: Records
  evaluation: Records
  is_split: bool = False

  def each(self, function: Callable[[Record], T]) -> list[T]:
    """The results for the training records."""
    return self.train.each(function)[1]

  def each_known(self, function: Callable[[Record], T]) -> list[T]:
    """The results for all records of the file that training records are of."""
    return (self.each_of_both if self.is_split else self.each)(function)

  def each_of_both(self, function: Callable[[Record], T]) -> list[T]:
    """The results for the training and the evaluation records."""
    return self.each(function) + self.evaluation.each(function)[1]


def find(
  config: RecordsConfig, split: Split, section: str = "config.data"
) -> list[tuple[str, list[str]]]:
  """The format and the paths of each group that is read together.

  Raises:
    UserError: a pattern matches no file, or a suffix is of no known format.
  """
  given = getattr(config, split)
  if not config.dataset and config.format != "tfds":
    return formats.find(given, config.format, section, split)
  if not given:
    raise settings.UserError(
      f"{section}.{split}: expected a split, for instance train[:90%]"
    )
  return [("tfds", [part]) for part in given]


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
    config: the source of the records.
    split: "train" or "eval".
    fields: the fields of a record, in the order of a table without a header.
    lists: the fields that are lists.
    optional: the fields that a file or a row may lack. A field that is renamed
      by `config.columns` must be in every file with named columns.
    section: the config key of `config`, for messages.

  Returns:
    The records, at least one. Values have the type of the file: text in
    tables, any JSON value in JSON, label names from TFDS. `answers` are
    validated and converted to a list of {"text", "start"}.

  Raises:
    UserError: a file or a column does not exist, a file is empty, a row is bad
      and `bad_rows` is "fail", or no row is left.
  """
  records = Records([], [], config.bad_rows, section, split)
  rows = stream(config, split, fields, lists, optional, section)
  for row in rows:
    if isinstance(row, BadRow):
      records.reject(*row)
    else:
      records.rows.append(row)
  records.need_rows()
  return records


def stream(
  config: RecordsConfig,
  split: Split,
  fields: Sequence[str],
  lists: Collection[str] = (),
  optional: Collection[str] = (),
  section: str = "config.data",
  rest: bool = False,
) -> Iterator[Row | BadRow]:
  """Yields the rows of a split one by one, also those that are bad.

  With `rest`, records keep the named columns that are no fields. For the other
  arguments see `read`.

  Raises:
    UserError: a file or a column does not exist, or a file is empty.
  """
  layout = Layout(
    fields=tuple(fields),
    lists=frozenset(lists),
    optional=frozenset(optional),
    columns=config.columns,
    header=config.header,
    separator=config.separator,
    encoding=config.encoding,
    rest=rest,
    section=section,
  )
  # Before the first row is asked for, so that a missing file is found at once.
  found = find(config, split, section)
  return _rows(config, split, layout, found)


def _rows(
  config: RecordsConfig,
  split: Split,
  layout: Layout,
  found: list[tuple[str, list[str]]],
) -> Iterator[Row | BadRow]:
  """The rows of all files, folders or TFDS splits that were found."""
  for format_, paths in found:
    name = ", ".join(paths)
    if format_ == "tfds":
      dataset = _dataset(config, name, split, layout.section)
      name = f"{config.dataset}[{name}]"
      rows = tfds.read(dataset, layout)
    else:
      if not config.format:
        format_ = formats.by_content(format_, paths[0], layout)
      rows = formats.FILE_FORMATS[format_](paths, layout)
    is_empty = True
    for row in rows:
      is_empty = False
      if isinstance(row, Row) and "answers" in row.record:
        row = labelled.row(row.where, _with_answers, row.record)
      yield row
    if is_empty:
      raise settings.UserError(f"{layout.section}.{split}: {name} has no rows")


def fingerprint(
  config: RecordsConfig, split: Split, section: str = "config.data"
) -> str:
  """A hash of a split's files and of the settings for reading them.

  File names are not included.

  Raises:
    UserError: a file does not exist, or the data set is not prepared.
  """
  described = []
  for format_, paths in find(config, split, section):
    if format_ == "tfds":
      described += tfds.describe(_dataset(config, paths[0], split, section))
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
  how += [config.encoding] if config.encoding else []
  text = json.dumps([contents, how, config.bad_rows], sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()


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


def _with_answers(record: Record) -> Record:
  """Converts answers to the same form for all formats."""
  answers = squad.answers(record["answers"], record.get("context"))
  return {**record, "answers": answers}
