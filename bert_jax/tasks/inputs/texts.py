"""A text or a pair of texts."""

import dataclasses
from collections.abc import Sequence
from typing import Self

from bert_jax.data.sources.labelled import Record
from bert_jax.models.config import EncoderConfig
from bert_jax.tasks.inputs import fields, rows
from bert_jax.tasks.inputs.inputs import Inputs
from bert_jax.tasks.inputs.rows import Row
from bert_jax.text.tokenizer import Tokenizer


@dataclasses.dataclass(frozen=True)
class Texts(Inputs):
  """A text, or a pair of texts, truncated to the longest row.

  The fields are `text` and maybe `pair`. Besides these, the attributes of
  `Inputs`.

  Attributes:
    prompt: the prefix of `text`, such as `query: `.
    pair_required: whether every record has a pair.
  """

  prompt: str = ""
  pair_required: bool = False

  FIELDS = ("text", "pair")
  OPTIONAL = ("pair",)
  NOT_BLANK = ("text",)
  GROUP = "text"
  TRAINING_ONLY = ("pair_required",)

  def fit(self, records: Sequence[Record], pretrained: Self | None) -> Self:
    """Takes a pretrained prompt."""
    known = pretrained or self
    return dataclasses.replace(self, prompt=self.prompt or known.prompt)

  def rows(
    self, record: Record, tokenizer: Tokenizer, config: EncoderConfig
  ) -> list[Row]:
    text = self.prompt + fields.text(record, "text")
    wanted = self.pair_required or record.get("pair") is not None
    pair = fields.text(record, "pair") if wanted else None
    encoding = rows.encode(tokenizer, self.limit(config), text, pair)
    return [Row(rows.example(encoding))]
