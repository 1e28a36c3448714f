"""What a text is written from."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np

from bert_jax import settings
from bert_jax.batch import Batch
from bert_jax.data.sources.labelled import Record
from bert_jax.models.config import EncoderConfig
from bert_jax.settings import UserError
from bert_jax.tasks.inputs import fields
from bert_jax.tasks.inputs.inputs import Inputs
from bert_jax.tasks.inputs.rows import Cut, Row
from bert_jax.text.tokenizer import Tokenizer, mask_name

# The key of `task_specific_params` in config.json.
_MARK = "bert_jax_source"
_KEEP = ("", "start", "end")
_TOO_LONG = ("cut", "fail")


@dataclasses.dataclass(frozen=True)
class Source(Inputs):
  """A text, or the turns of a dialogue, that another text is written from.

  The field is `text`, or `turns`, a list of texts, the newest last, which the
  separator token joins. A source that is too long is cut: `max_length` is that
  of source and target together, and what the target may take is left free.
  (Masked copies of target tokens, which share the positions of those, come in
  addition.)

  Attributes:
    max_length: the longest row of a source and its target in tokens, special
      tokens included; 0 is the longest that the encoder takes.
    keep: the part of a long source that is kept, "start" or "end"; empty for
      the start of a text and the end of a dialogue.
    too_long: "cut" cuts sources and targets that are too long, and counts them;
      "fail" makes them errors.
    masks: whether the mask token's name (`[MASK]`) in a source is the mask
      token, as a gap to be filled in.
  """

  keep: str = ""
  too_long: str = "cut"
  masks: bool = False

  FIELDS = ("text", "turns")
  OPTIONAL = ("text", "turns")
  LISTS: ClassVar = ("turns",)
  GROUP = "text"

  def __post_init__(self):
    super().__post_init__()
    for name, known in (("keep", _KEEP), ("too_long", _TOO_LONG)):
      if getattr(self, name) not in known:
        raise ValueError(
          f"{name}: expected {' or '.join(filter(None, known))}, got"
          f" {getattr(self, name)!r}"
        )

  def rows(
    self, record: Record, tokenizer: Tokenizer, config: EncoderConfig
  ) -> list[Row]:
    """One row `[CLS] source [SEP]`.

    Raises:
      UserError: the source is missing, of a wrong type, blank, or made of
        special tokens only; or it is too long and must not be cut.
    """
    name = "turns" if record.get("turns") is not None else "text"
    pieces = self._pieces(record, name, tokenizer)
    special, limit = tokenizer.special, self.limit(config) - 2
    cuts = []
    if len(pieces) > limit:
      cuts.append(Cut(name, len(pieces), limit))
      keep = self.keep or ("end" if name == "turns" else "start")
      pieces = pieces[:limit] if keep == "start" else pieces[-limit:]
    example = Batch.from_ids([special.cls, *pieces, special.sep])
    return [Row(example, cuts=tuple(cuts))]

  def _pieces(
    self, record: Record, name: str, tokenizer: Tokenizer
  ) -> list[int]:
    """The token ids of the source, between the special tokens."""
    if name == "turns":
      texts = fields.texts(record, name)
    else:
      texts = [fields.content(record, name)]
    if self.masks:
      mask_name(tokenizer)  # Raises an error if there is none.
      each = [tokenizer.encode_masked(text).ids[1:-1] for text in texts]
    else:
      each = tokenizer.encode_pieces(texts)
    special = {*dataclasses.astuple(tokenizer.special)}
    special -= {tokenizer.special.unknown}
    if special.issuperset(id for pieces in each for id in pieces):
      found = fields.shorten(" ".join(texts))
      raise UserError(
        f"the field {name!r} is empty; expected a text, got {found!r}, which"
        " has no tokens but special ones"
        if found.strip()
        else f"the field {name!r} is empty; expected a text"
      )
    joined = each[0]
    for pieces in each[1:]:
      joined = [*joined, tokenizer.special.sep, *pieces]
    return joined

  def dummy_example(self) -> Batch:
    """As in training, where targets extend the rows by later stages."""
    example = super().dummy_example()
    return dataclasses.replace(
      example, stage_ids=np.zeros_like(example.token_ids)
    )

  def from_huggingface(self, config: Mapping[str, Any], where: str) -> Self:
    kept = (config.get("task_specific_params") or {}).get(_MARK, {})
    return settings.from_dict(type(self), kept, f"{where}: {_MARK}")

  def to_huggingface(self) -> dict[str, Any]:
    return {_MARK: self.state()}
