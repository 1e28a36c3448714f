"""Texts that are compared by their vectors."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Self

import numpy as np

from bert_jax.batch import Batch
from bert_jax.data.sources.labelled import Record
from bert_jax.models.config import EncoderConfig
from bert_jax.tasks.inputs import fields, rows
from bert_jax.tasks.inputs.inputs import Inputs
from bert_jax.tasks.inputs.rows import Row
from bert_jax.text.tokenizer import Encoding, Tokenizer

_PROMPT_TOKENS = f"{rows.PREFIX}prompt_tokens"


@dataclasses.dataclass(frozen=True)
class Pairs(Inputs):
  """A text alone, or with a pair and maybe a negative to compare it with.

  A `text` alone makes a row of tokens. With `pair`, and maybe `negative`, the
  id arrays of an example are [texts, length]. Besides these, the attributes of
  `Inputs`.

  Attributes:
    prompt: the prefix of every text, such as `query: `.
    prompts: further prompts, by names that `Model.embed` takes.
    include_prompt: whether the tokens of the prompt are pooled, too.
    lower_case: whether texts are lower-cased, whatever the vocabulary does.
    texts: empty texts are added up to this number, which `fit` takes from the
      records: 2, or 3 where some record has a negative; 0 adds none.
  """

  prompt: str = ""
  prompts: Mapping[str, str] = dataclasses.field(default_factory=dict)
  include_prompt: bool = True
  lower_case: bool = False
  texts: int = 0

  FIELDS = ("text", "pair")
  GROUP = "text"
  PREDICTION = ("pair", "negative")
  TRAINING_ONLY = ("texts",)

  def rows(
    self, record: Record, tokenizer: Tokenizer, config: EncoderConfig
  ) -> list[Row]:
    limit = self.limit(config)

    def encode(text: str) -> Encoding:
      text = self.prompt + text
      if self.lower_case:
        # One character at a time, as the normalizer of `tokenizers`.
        text = "".join(character.lower() for character in text)
      return rows.encode(tokenizer, limit, text)

    arrays = {}
    if self._skips_prompt:
      # All but the special token at its end.
      count = len(encode("").ids) - 1
      arrays[_PROMPT_TOKENS] = np.array(count, np.int32)
    if record.get("pair") is None and record.get("negative") is None:
      encoding = encode(fields.text(record, "text"))
      return [Row(rows.example(encoding, arrays))]
    names = ["text", "pair"]
    if record.get("negative") is not None:
      names.append("negative")
    encodings = [encode(fields.content(record, name)) for name in names]
    return [Row(rows.stacked_example(encodings, arrays, texts=self.texts))]

  @property
  def _skips_prompt(self) -> bool:
    return bool(self.prompt) and not self.include_prompt

  def dummy_example(self) -> Batch:
    skipped = {_PROMPT_TOKENS: np.zeros((), np.int32)}
    arrays = skipped if self._skips_prompt else {}
    return rows.dummy_example(arrays, shape=(self.texts or 2, 4))

  def fit(self, records: Sequence[Record], pretrained: Self | None) -> Self:
    """Takes the number of texts of a record, and the pretrained prompts."""
    has_negative = any(r.get("negative") is not None for r in records)
    known = pretrained or self
    return dataclasses.replace(
      self,
      texts=2 + has_negative,
      prompt=self.prompt or known.prompt,
      prompts=self.prompts or known.prompts,
      include_prompt=self.include_prompt and known.include_prompt,
      lower_case=self.lower_case or known.lower_case,
    )
