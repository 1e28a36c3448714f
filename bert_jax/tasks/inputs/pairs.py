"""Texts that are compared by their vectors."""

import dataclasses
from collections.abc import Sequence
from typing import Self

from bert_jax.data.sources.labelled import Record
from bert_jax.models.config import EncoderConfig
from bert_jax.tasks.inputs import fields, rows
from bert_jax.tasks.inputs.inputs import Inputs
from bert_jax.tasks.inputs.rows import Row
from bert_jax.text.tokenizer import Tokenizer
from bert_jax.types import Batch


@dataclasses.dataclass(frozen=True)
class Pairs(Inputs):
  """A text alone, or with a pair and maybe a negative to compare it with.

  A `text` alone makes a row of tokens. With `pair`, and maybe `negative`, the
  id arrays of an example are [texts, length]. Besides these, the attributes of
  `Inputs`.

  Attributes:
    prompt: the prefix of every text, such as `query: `.
    texts: empty texts are added up to this number, which `fit` takes from the
      records: 2, or 3 where some record has a negative; 0 adds none.
  """

  prompt: str = ""
  texts: int = 0

  FIELDS = ("text", "pair")
  GROUP = "text"
  PREDICTION = ("pair", "negative")
  TRAINING_ONLY = ("texts",)

  def rows(
    self, record: Record, tokenizer: Tokenizer, config: EncoderConfig
  ) -> list[Row]:
    limit = self.limit(config)
    if record.get("pair") is None and record.get("negative") is None:
      text = self.prompt + fields.text(record, "text")
      return [Row(rows.example(rows.encode(tokenizer, limit, text)))]
    names = ["text", "pair"]
    if record.get("negative") is not None:
      names.append("negative")
    encodings = [
      rows.encode(tokenizer, limit, self.prompt + fields.content(record, name))
      for name in names
    ]
    return [Row(rows.stacked_example(encodings, texts=self.texts))]

  def dummy_example(self) -> Batch:
    return rows.dummy_example(shape=(self.texts or 2, 4))

  def fit(self, records: Sequence[Record], pretrained: Self | None) -> Self:
    """Takes the number of texts of a record, and a pretrained prompt."""
    has_negative = any(r.get("negative") is not None for r in records)
    prompt = self.prompt or (pretrained.prompt if pretrained else "")
    return dataclasses.replace(self, texts=2 + has_negative, prompt=prompt)
