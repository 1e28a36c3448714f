"""A text with each of its tokens hidden in turn, for its likelihood."""

import dataclasses

import numpy as np

from bert_jax import settings
from bert_jax.batch import Batch
from bert_jax.data.sources.labelled import Record
from bert_jax.models.config import EncoderConfig
from bert_jax.settings import UserError
from bert_jax.tasks.inputs import fields, rows
from bert_jax.tasks.inputs.inputs import Inputs
from bert_jax.tasks.inputs.rows import Row
from bert_jax.text.tokenizer import Tokenizer, mask_name

WITHIN_WORD_L2R = "within_word_l2r"
PLL_METRICS = (WITHIN_WORD_L2R, "original")
"""Which tokens are hidden with the one that is predicted."""


@dataclasses.dataclass(frozen=True)
class MaskedCopies(Inputs):
  """A row for each token of a text, in which it is the mask token.

  The field is `text`, which must not be blank. The arrays of a row:

    masked_lm/positions: int32 [1], where the token is.
    masked_lm/ids: int32 [1], the token.

  Besides these, the attributes of `Inputs`.

  Attributes:
    pll_metric: which tokens are hidden, named as in minicons. `original`: the
      predicted one alone (Salazar et al. 2020, arXiv:1910.14659).
      `within_word_l2r`: the later tokens of its word too, so that a rare word
      is not made likely by its own end (Kauf and Ivanova 2023,
      arXiv:2305.10588).
    stride: the tokens that a chunk of a long text shares with the one before;
      each token is hidden in the chunk where it has the most context. 0 refuses
      texts that are longer than the longest row.
  """

  pll_metric: str = WITHIN_WORD_L2R
  stride: int = 0

  NOT_BLANK = ("text",)

  def __post_init__(self):
    super().__post_init__()
    settings.choice("pll_metric", self.pll_metric, dict.fromkeys(PLL_METRICS))
    if type(self.stride) is not int or self.stride < 0:
      raise UserError(f"stride: expected at least 0, got {self.stride!r}")

  def rows(
    self, record: Record, tokenizer: Tokenizer, config: EncoderConfig
  ) -> list[Row]:
    """The rows, in the order of the tokens.

    Raises:
      UserError: there is no mask token, the text is blank or has no tokens, or
        it is too long.
    """
    mask_name(tokenizer)  # Raises.
    text = fields.content(record, "text")
    encoding = tokenizer.encode(text)
    if not rows.pieces(encoding, tokenizer.special):
      raise UserError(f"the text {fields.shorten(text)!r} has no tokens")
    limit = self.limit(config)
    if len(encoding.ids) > limit and not self.stride:
      raise UserError(
        f"the text {fields.shorten(text)!r} has {len(encoding.ids)} tokens; the"
        f" model takes at most {limit}; with stride={limit // 4}, say, it is"
        " scored in chunks"
      )
    whole_words = self.pll_metric == WITHIN_WORD_L2R
    return [
      Row(example)
      for chunk in rows.chunks(encoding, tokenizer.special, limit, self.stride)
      for example in _copies(chunk, tokenizer.special.mask, whole_words)
    ]


def _copies(chunk: rows.Chunk, mask: int, whole_words: bool) -> list[Batch]:
  """An example for each token that the chunk predicts."""
  plain = rows.example(chunk.encoding)
  own = np.array(chunk.own, np.int32)
  hidden = own[:, None] == np.arange(len(plain.token_ids))
  if whole_words:
    words = np.array(chunk.encoding.words)
    hidden |= (words[own][:, None] == words) & (hidden.cumsum(1) > 0)
  ids = np.where(hidden, np.int32(mask), plain.token_ids)
  gold = plain.token_ids[own]
  return [
    dataclasses.replace(
      plain,
      token_ids=copy,
      targets={
        "masked_lm/positions": own[i : i + 1],
        "masked_lm/ids": gold[i : i + 1],
      },
    )
    for i, copy in enumerate(ids)
  ]
