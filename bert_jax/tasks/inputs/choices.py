"""A text and several choices, one of which goes with it."""

import dataclasses
import re
from collections.abc import Sequence
from typing import Self

import numpy as np

from bert_jax.batch import Batch
from bert_jax.data.sources.labelled import Record
from bert_jax.models.config import EncoderConfig
from bert_jax.tasks.inputs import fields, rows
from bert_jax.tasks.inputs.inputs import Inputs
from bert_jax.tasks.inputs.rows import PREFIX, Row
from bert_jax.text.tokenizer import Tokenizer


@dataclasses.dataclass(frozen=True)
class Choices(Inputs):
  """A text paired with each of several choices, as in SWAG and RACE.

  The fields are `text`, `choices` (a list of texts) and maybe `question`,
  which comes after the text and before each choice (SWAG's `sent2`), or
  around it where it has a gap `_` (RACE). The id arrays of an example are
  [choices, length]. Its arrays:

    inputs/choice_weights: float32 [choices], 0 for padding choices.

  Besides `choices`, the attributes of `Inputs`.

  Attributes:
    choices: empty choices are added up to this number, which `fit` takes from
      the records.
  """

  choices: int = 0

  FIELDS = ("text", "question", "choices")
  OPTIONAL = ("question",)
  LISTS = ("choices",)
  NOT_BLANK = ("text",)
  GROUP = "text"
  TRAINING_ONLY = ("choices",)

  def rows(
    self, record: Record, tokenizer: Tokenizer, config: EncoderConfig
  ) -> list[Row]:
    text = fields.text(record, "text")
    choices = fields.texts(record, "choices")
    weights = np.zeros(max(self.choices, len(choices)), np.float32)
    weights[: len(choices)] = 1
    if record.get("question") is not None:
      question = fields.text(record, "question")
      choices = [_fill_in(question, choice) for choice in choices]
    encodings = [
      rows.encode(tokenizer, self.limit(config), text, choice)
      for choice in choices
    ]
    arrays = {f"{PREFIX}choice_weights": weights}
    return [Row(rows.stacked_example(encodings, arrays, self.choices))]

  def dummy_example(self) -> Batch:
    count = self.choices or 2
    weights = np.zeros(count, np.float32)
    return rows.dummy_example(
      {f"{PREFIX}choice_weights": weights}, shape=(count, 4)
    )

  def fit(self, records: Sequence[Record], pretrained: Self | None) -> Self:
    """Takes the largest number of choices."""
    counts = (len(record.get("choices") or ()) for record in records)
    return dataclasses.replace(self, choices=max(counts, default=0))


def _fill_in(question: str, choice: str) -> str:
  """The question with the choice in its gap, or else after it."""
  filled, gaps = re.subn("_+", lambda _: choice, question)
  return filled if gaps else f"{question} {choice}"
