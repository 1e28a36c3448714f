"""Early exits: heads after lower layers, and when a row leaves by one."""

import dataclasses
import math
from typing import Any

from bert_jax import settings
from bert_jax.models.config import EncoderConfig


@dataclasses.dataclass(frozen=True)
class Exits:
  """The section `config.exits`; by default there are no early exits.

  With `every`, heads after lower layers are trained together with the last one:
  the loss is the mean of theirs, weighted by the number of layers (PABEE: Zhou
  et al. 2020, "BERT Loses Patience", arXiv:2006.04152). The other settings say
  when a row leaves early in predictions; they may be changed afterwards, see
  `bert_jax.load`. Evaluations in training are of the last exit.

  Attributes:
    every: the layers from one exit to the next; 0 for no early exits.
    patience: a row leaves after so many exits in a row whose answer is the same
      as that of the exit before; 0 never leaves by that.
    entropy: a row leaves where the entropy of the answer, in nats, is below
      this (DeeBERT: Xin et al. 2020, arXiv:2004.12993); of several labels or
      tokens the greatest counts; 0 never leaves by that.
    tolerance: numbers of a regression are the same answer if they differ by
      less than this many standard deviations of the training records.
  """

  every: int = 0
  patience: int = 0
  entropy: float = 0.0
  tolerance: float = 0.1

  def __post_init__(self):
    settings.check(self, "at least 0", lambda x: x >= 0, "every", "patience")
    for name in ("entropy", "tolerance"):
      if not 0 <= getattr(self, name) < math.inf:
        raise ValueError(
          f"{name}: expected at least 0, got {getattr(self, name)}"
        )
    if self.patience and self.entropy:
      raise ValueError("patience: give either patience or entropy")
    if self.is_used and not self.every:
      raise ValueError("every: there are no early exits to leave by")

  @property
  def is_used(self) -> bool:
    """Whether rows may leave early."""
    return bool(self.patience or self.entropy)

  def layers(self, config: EncoderConfig) -> tuple[int, ...]:
    """The layers with an early exit after them, from 0."""
    if not self.every:
      return ()
    return tuple(range(self.every - 1, config.num_layers - 1, self.every))


def parse(text: str) -> dict[str, Any]:
  """Settings of rows that leave, from a flag: `patience=2`; `never` is none.

  Raises:
    UserError: it is something else.
  """
  if text == "never":
    return {}
  name, _, value = text.partition("=")
  number = {"patience": int, "entropy": float}.get(name)
  try:
    if number is not None:
      return {name: number(value)}
  except ValueError:
    pass
  raise settings.UserError(
    "exits: expected patience=NUMBER, entropy=NUMBER or never, got"
    f" {text!r:.40}"
  )


def head_name(layer: int, head: str) -> str:
  """The name of the parameters of an early exit.

  Args:
    layer: which it is after, from 0.
    head: the name of the last exit.
  """
  return f"exit_{layer}_{head}"
