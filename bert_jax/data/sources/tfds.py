"""Documents and labelled records from TFDS, without TensorFlow."""

import dataclasses
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from bert_jax import settings
from bert_jax.data.sources import files as files_lib
from bert_jax.data.sources import labelled
from bert_jax.data.sources.labelled import BadRow, Layout, Record, Row
from bert_jax.storage import paths as paths_lib


class Dataset(NamedTuple):
  """A split of a data set, and its config keys for messages.

  Attributes:
    name: the TFDS name, `name[/config][:version]`.
    split: a TFDS split or slice, for instance `train[:10%]`.
    data_dir: the folder of prepared data sets; None for the default of TFDS.
    download: whether to download and prepare a missing data set; None if the
      section has no such key.
    section: the config section of `dataset` and `data_dir`.
    split_key: the config key of the split.
  """

  name: str
  split: str
  data_dir: str | None
  download: bool | None = None
  section: str = "config.corpus"
  split_key: str = "config.corpus.split"


def open_records(dataset: Dataset) -> Any:
  """Opens a `tfds.data_source`.

  Raises:
    UserError: there is no such data set or split, or the data set is not
      prepared and cannot be.
  """
  key = f"{dataset.section}.dataset"
  if not dataset.name:
    raise settings.UserError(f"{key}: expected a TFDS data set")
  dataset = dataset._replace(data_dir=_here(dataset))
  try:
    return _prepared(dataset)
  except settings.UserError:
    raise
  except ImportError as error:
    missing = error
  except Exception as error:
    # A download runs the code of the data set, which can raise anything.
    if not dataset.download:
      raise
    reason = f"{type(error).__name__}: {error}".partition("\n")[0]
    raise settings.UserError(
      f"{key}: TensorFlow Datasets cannot download and prepare"
      f" {dataset.name!r}: {reason}"
    ) from error
  reason = str(missing).rpartition(": ")[2]
  raise settings.UserError(
    f"{key}: the code that prepares {dataset.name!r} cannot run here: {reason};"
    " prepare it on another machine, as ArrayRecord, and set"
    f" {dataset.section}.data_dir to its folder"
  ) from None


def _here(dataset: Dataset) -> str | None:
  """The local `data_dir`, with a download of this data set if necessary."""
  if dataset.data_dir is None or not paths_lib.is_remote(dataset.data_dir):
    return dataset.data_dir
  name = re.split("[/:]", dataset.name)[0]
  try:
    return str(paths_lib.local(f"{dataset.data_dir}/{name}").parent)
  except settings.UserError as error:
    raise settings.UserError(f"{dataset.section}.data_dir: {error}") from error


def _prepared(dataset: Dataset) -> Any:
  """Opens the prepared data set, after preparing it if `download` is set."""
  import tensorflow_datasets as tfds  # Slow to import.

  name, split, data_dir = dataset.name, dataset.split, dataset.data_dir
  key = f"{dataset.section}.dataset"
  where = f"under {data_dir!r}" if data_dir else "in the default folder"
  where = f"{where} ({dataset.section}.data_dir)"
  try:
    return tfds.data_source(
      name, split=split, data_dir=data_dir, download=False
    )
  except tfds.core.DatasetNotFoundError:
    reason = (
      f"{key}: TensorFlow Datasets does not know {name!r}, and no data set of"
      f" this name and version is prepared {where}"
    )
  except (NotImplementedError, AssertionError, FileNotFoundError):
    reason = (
      f"{key}: {name!r} is not prepared as ArrayRecord {where}; prepare it with"
      f" `tfds build {name} --file_format=array_record`"
    )
  except ValueError as error:
    wrong = dataset.split_key if "split" in str(error) else key
    reason = str(error).partition("\n")[0]
    raise settings.UserError(f"{wrong}: {reason}") from None
  if dataset.download is None:
    raise settings.UserError(reason)
  if not dataset.download:
    raise settings.UserError(
      f"{reason}; or download it with {dataset.section}.download=True"
    )
  # Without TensorFlow, TFDS does not register its text data sets, such as
  # GLUE.
  import tensorflow_datasets.text

  try:
    builder = tfds.builder(name, data_dir=data_dir, file_format="array_record")
  except tfds.core.DatasetNotFoundError:
    raise settings.UserError(reason) from None
  builder.download_and_prepare()
  return _prepared(dataset._replace(download=None))


@dataclasses.dataclass(frozen=True)
class TfdsTexts:
  """The text feature of a prepared data set, by random access.

  Pickled as the arguments of `open_source`.
  """

  dataset: Dataset
  field: str
  records: Any = dataclasses.field(repr=False)

  def __reduce__(self) -> tuple[Any, ...]:
    return open_source, (self.dataset, self.field)

  def __len__(self) -> int:
    """The number of documents."""
    return len(self.records)

  def __getitem__(self, index: int) -> Mapping[str, Any]:
    """The features of an example, and {"text", "replaced_bytes"}."""
    if not 0 <= index < len(self):
      raise IndexError(f"document {index} of {len(self)}")
    features = self.records[index]
    text = features[self.field]
    if isinstance(text, bytes):
      text = text.decode("utf-8", "surrogateescape")
    text, replaced = files_lib.replace_surrogates(text)
    return features | {"text": text, "replaced_bytes": replaced}


def open_source(dataset: Dataset, field: str) -> TfdsTexts:
  """Opens the texts in a feature of a data set.

  Raises:
    UserError: there is no such data set, split or feature, or the data set is
      not prepared.
  """
  records = open_records(dataset)
  known = records.dataset_info.features
  if field not in known:
    raise settings.UserError(
      f"config.corpus.field: {dataset.name!r} has no feature {field!r}; its"
      f" features: {', '.join(known)}"
    )
  if len(records) and not isinstance(records[0][field], bytes | str):
    raise settings.UserError(
      f"config.corpus.field: feature {field!r} of {dataset.name!r} is not text"
    )
  return TfdsTexts(dataset, field, records)


def describe(dataset: Dataset) -> list[dict[str, Any]]:
  """The data set and the files of its split, for JSON."""
  info = open_records(dataset).dataset_info
  used = info.splits[dataset.split].file_instructions
  paths = sorted({os.fspath(part.filename) for part in used})
  return [
    {"dataset": info.full_name, "split": dataset.split},
    *files_lib.describe(paths),
  ]


def read(dataset: Dataset, layout: Layout) -> Iterator[Row | BadRow]:
  """Yields one record per example, with label names instead of numbers.

  Columns are features: `a.b` for nested ones, and `hypothesis.en` for a
  language of a translation.

  Raises:
    UserError: there is no such data set, split or feature, or the data set is
      not prepared.
  """
  records = open_records(dataset)
  features = records.dataset_info.features
  paths = {}
  for field in layout.fields:
    column = layout.column(field)
    path = str(field if column is None else column).split(".")
    if _has(features, path):
      paths[field] = path
    elif column is not None or field not in layout.optional:
      raise layout.unknown(field, repr(dataset.name), "feature", list(features))
  for index in range(len(records)):
    where = f"{dataset.name}[{dataset.split}]:{index}"
    yield labelled.row(where, _record, records[index], features, paths)


def _record(
  example: Any, features: Any, paths: Mapping[str, Sequence[str]]
) -> Record:
  return {
    field: _nested(example, features, path) for field, path in paths.items()
  }


def _has(features: Any, path: Sequence[str]) -> bool:
  """Whether a feature exists at a path."""
  for name in path:
    if name in (getattr(features, "languages", None) or ()):
      return True
    if not hasattr(features, "keys") or name not in features:
      return False
    features = features[name]
  return True


def _nested(value: Any, feature: Any, path: Sequence[str]) -> Any:
  """The value at a path, as plain Python."""
  for name in path:
    if "language" in value and name not in value:
      languages = [language.decode() for language in value["language"]]
      if name not in languages:
        raise labelled.RefusedError(f"has no text in {name!r}")
      value = value["translation"][languages.index(name)]
      return _plain(value, None)
    value, feature = value[name], feature[name]
  return _plain(value, feature)


def _plain(value: Any, feature: Any) -> Any:
  """Converts bytes to str, label numbers to names, arrays to lists."""
  if isinstance(value, np.ndarray | np.generic):
    value = value.tolist()
  if isinstance(value, bytes):
    value = value.decode("utf-8", "surrogateescape")
    labelled.check_text(value)
    return value
  # The feature of the items of a sequence.
  inner = getattr(feature, "feature", None)
  if isinstance(value, list):
    return [_plain(item, inner) for item in value]
  if isinstance(value, Mapping):
    # A sequence of dictionaries is stored as a dictionary of lists.
    group = feature if inner is None else inner
    return {
      name: [_plain(item, group[name]) for item in part]
      if inner is not None
      else _plain(part, group[name])
      for name, part in value.items()
    }
  if hasattr(feature, "int2str"):
    if value < 0:
      raise labelled.RefusedError(
        f"the label is {value}: this example has none"
      )
    return feature.int2str(value)
  return value
