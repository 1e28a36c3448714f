"""How a record becomes rows of ids: what all inputs have in common."""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np

from bert_jax.batch import Batch
from bert_jax.data.sources.labelled import Record
from bert_jax.models.config import EncoderConfig
from bert_jax.tasks.inputs import rows
from bert_jax.tasks.inputs.rows import PREFIX, Row
from bert_jax.text.tokenizer import Tokenizer


@dataclasses.dataclass(frozen=True)
class Inputs:
  """How a record becomes rows of ids; the base of all kinds of inputs.

  Attributes:
    max_length: the longest row in tokens, special tokens included; 0 is the
      longest that the encoder takes.
  """

  max_length: int = 0

  FIELDS: ClassVar[tuple[str, ...]] = ("text",)
  """The fields of a record, in the order of a table without a header."""
  OPTIONAL: ClassVar[Collection[str]] = ()
  """Fields that a record may lack."""
  PREDICTION: ClassVar[tuple[str, ...]] = ()
  """Fields that records to predict for may have or, unlike others, lack."""
  LISTS: ClassVar[Collection[str]] = ()
  """Fields that hold a list."""
  ARRAYS: ClassVar[Mapping[str, Any]] = {}
  """The dtypes of the arrays of the inputs, which have an entry a token."""
  NOT_BLANK: ClassVar[Collection[str]] = ()
  """Texts that must not be blank in a record with gold fields."""
  GROUP: ClassVar[str] = ""
  """The field whose records stay together when some are held out, if any."""
  TRAINING_ONLY: ClassVar[Collection[str]] = ()
  """Fields of the class that a checkpoint does not keep."""

  too_long: ClassVar[str] = "cut"
  """"fail" if a row whose `cuts` are not empty is an error."""

  def __post_init__(self):
    if self.max_length < 0:
      raise ValueError(
        f"max_length: expected at least 0, got {self.max_length}"
      )

  def rows(
    self, record: Record, tokenizer: Tokenizer, config: EncoderConfig
  ) -> list[Row]:
    """The rows of a record: one, or one for each chunk of a long text.

    Args:
      record: a mapping with the fields `FIELDS`.
      tokenizer: the tokenizer that the model was trained with.
      config: the encoder's configuration.

    Raises:
      UserError: a field is missing or has the wrong type.
    """
    raise NotImplementedError

  def dummy_example(self) -> Batch:
    """An example of zeros with the arrays of these inputs."""
    return rows.dummy_example(
      {PREFIX + name: np.zeros(4, x) for name, x in self.ARRAYS.items()}
    )

  def fit(self, records: Sequence[Record], pretrained: Self | None) -> Self:
    """The inputs with what they learn from the training records.

    Args:
      records: those to train on.
      pretrained: the inputs of the initial model.
    """
    del records, pretrained
    return self

  def limit(self, config: EncoderConfig) -> int:
    """The longest row, in tokens."""
    longest = config.max_positions
    return min(self.max_length or longest, longest)

  def state(self) -> dict[str, Any]:
    """The fields that a checkpoint keeps, for JSON."""
    return {
      name: value
      for name, value in dataclasses.asdict(self).items()
      if name not in self.TRAINING_ONLY
    }

  def from_huggingface(self, config: Mapping[str, Any], where: str) -> Self:
    """The inputs as a config.json says.

    Args:
      config: the content of config.json.
      where: its place, for messages.

    Raises:
      UserError: it says something impossible.
    """
    del config, where
    return self

  def to_huggingface(self) -> dict[str, Any]:
    """The entries of `task_specific_params` in config.json."""
    return {}
