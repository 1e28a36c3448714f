"""A text or a pair of texts."""

import dataclasses

from bert_jax.data.sources.labelled import Record
from bert_jax.models.config import EncoderConfig
from bert_jax.tasks.inputs import fields, rows
from bert_jax.tasks.inputs.inputs import Inputs
from bert_jax.tasks.inputs.rows import Row
from bert_jax.text.tokenizer import Tokenizer


@dataclasses.dataclass(frozen=True)
class Texts(Inputs):
  """A text, or a pair of texts, truncated to the longest row.

  The fields are `text` and maybe `pair`. Besides `pair_required`, the
  attributes of `Inputs`.

  Attributes:
    pair_required: whether every record has a pair.
  """

  pair_required: bool = False

  FIELDS = ("text", "pair")
  OPTIONAL = ("pair",)
  TRAINING_ONLY = ("pair_required",)

  def rows(
    self,
    record: Record,
    tokenizer: Tokenizer,
    config: EncoderConfig,
    labelled: bool = False,
  ) -> list[Row]:
    text = (fields.content if labelled else fields.text)(record, "text")
    pair = fields.optional_text(record, "pair")
    if self.pair_required:
      pair = fields.text(record, "pair")
    encoding = rows.encode(tokenizer, self.limit(config), text, pair)
    return [Row(rows.example(encoding))]
