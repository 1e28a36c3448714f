"""A corpus to pretrain on, and text with masks to fill in."""

import dataclasses

import numpy as np

from bert_jax.data.sources.labelled import Record
from bert_jax.models.config import EncoderConfig
from bert_jax.settings import UserError
from bert_jax.tasks.inputs import fields, rows
from bert_jax.tasks.inputs.inputs import Inputs
from bert_jax.tasks.inputs.rows import Row
from bert_jax.text.tokenizer import Tokenizer, mask_name


@dataclasses.dataclass(frozen=True)
class Corpus(Inputs):
  """Sentences of a corpus in training, a text with masks in prediction.

  Training examples are made by `data.pretraining`. In prediction the field is
  `text`, in which the mask token's name (`[MASK]`) is the mask token, and all
  else is text. Besides `pairs`, the attributes of `Inputs`.

  Attributes:
    pairs: whether training examples are pairs of segments.
  """

  pairs: bool = False

  TRAINING_ONLY = ("pairs",)

  def rows(
    self, record: Record, tokenizer: Tokenizer, config: EncoderConfig
  ) -> list[Row]:
    """One row of the text's own length, with its masked positions.

    Raises:
      UserError: there is no mask, or the text is too long.
    """
    mask = mask_name(tokenizer)
    text = fields.text(record, "text")
    encoding = tokenizer.encode_masked(text)
    ids = np.array(encoding.ids, np.int32)
    positions = np.flatnonzero(ids == tokenizer.special.mask)
    if not len(positions):
      raise UserError(f"no {mask} in the text {fields.shorten(text)!r}")
    if len(ids) > self.limit(config):
      raise UserError(
        f"the text {fields.shorten(text)!r} has {len(ids)} tokens; the model"
        f" takes at most {self.limit(config)}"
      )
    example = rows.example(
      encoding._replace(segments=[0] * len(ids)),
      {
        "masked_lm/positions": positions.astype(np.int32),
        "masked_lm/weights": np.ones(len(positions), np.float32),
      },
    )
    return [Row(example)]
