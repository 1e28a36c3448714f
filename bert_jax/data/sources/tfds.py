"""Documents from a TensorFlow Datasets data set, without TensorFlow."""

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

from bert_jax import settings
from bert_jax.data.sources import files as files_lib


def _data_source(name: str, split: str, data_dir: str | None) -> Any:
  """`tfds.data_source`, with a user's mistakes in one line."""
  import tensorflow_datasets as tfds  # Slow, and only this source needs it.

  where = f"under {data_dir!r}" if data_dir else "in the default folder"
  try:
    return tfds.data_source(
      name, split=split, data_dir=data_dir, download=False
    )
  except tfds.core.DatasetNotFoundError:
    raise settings.UserError(
      f"config.corpus.dataset: TensorFlow Datasets knows no {name!r}, and none"
      f" of that name and version is prepared {where} (config.corpus.data_dir)"
    ) from None
  except (NotImplementedError, AssertionError, FileNotFoundError):
    raise settings.UserError(
      f"config.corpus.dataset: {name!r} is not prepared as ArrayRecord"
      f" {where} (config.corpus.data_dir); prepare it with `tfds build {name}"
      " --file_format=array_record`"
    ) from None
  except ValueError as error:
    key = "split" if "split" in str(error) else "dataset"
    reason = str(error).partition("\n")[0]
    raise settings.UserError(f"config.corpus.{key}: {reason}") from None


@dataclasses.dataclass(frozen=True)
class TfdsTexts:
  """The text feature of a prepared data set, by random access.

  It pickles as the arguments of `open_source`.
  """

  dataset: str
  split: str
  data_dir: str | None
  field: str
  records: Any = dataclasses.field(repr=False)

  def __reduce__(self) -> tuple[Any, ...]:
    return open_source, (self.dataset, self.split, self.data_dir, self.field)

  def __len__(self) -> int:
    """The number of documents."""
    return len(self.records)

  def __getitem__(self, index: int) -> Mapping[str, Any]:
    """The features, with the text as {"text", "replaced_bytes"}."""
    if not 0 <= index < len(self):
      raise IndexError(f"document {index} of {len(self)}")
    features = self.records[index]
    text = features[self.field]
    if isinstance(text, bytes):
      text = text.decode("utf-8", "surrogateescape")
    text, replaced = files_lib.replace_bad_bytes(text)
    return features | {"text": text, "replaced_bytes": replaced}


def open_source(
  dataset: str, split: str, data_dir: str | None, field: str
) -> TfdsTexts:
  """Opens a data set that was prepared as ArrayRecord.

  Args:
    dataset: a name as TFDS takes it: `name[/config][:version]`.
    split: a split or slice as TFDS takes it, for instance `train[:10%]`.
    data_dir: where data sets are prepared; None for the default of TFDS.
    field: the feature that holds the text.

  Raises:
    UserError: no such data set, split or feature, or it is not prepared.
  """
  if not dataset:
    raise settings.UserError("config.corpus.dataset: name a TFDS data set")
  records = _data_source(dataset, split, data_dir)
  known = records.dataset_info.features
  if field not in known:
    raise settings.UserError(
      f"config.corpus.field: {dataset!r} has no feature {field!r}; its"
      f" features: {', '.join(known)}"
    )
  if len(records) and not isinstance(records[0][field], bytes | str):
    raise settings.UserError(
      f"config.corpus.field: feature {field!r} of {dataset!r} is not text"
    )
  return TfdsTexts(dataset, split, data_dir, field, records)


def describe(
  dataset: str, split: str, data_dir: str | None, field: str
) -> list[dict[str, Any]]:
  """What the source reads: the data set and the files of its split."""
  source = open_source(dataset, split, data_dir, field)
  info = source.records.dataset_info
  used = info.splits[split].file_instructions
  paths = sorted({os.fspath(part.filename) for part in used})
  return [
    {"dataset": info.full_name, "split": split},
    *files_lib.describe(paths),
  ]
