"""Changed copies of labelled records: words left out, swapped, substituted.

Words are what lies between white space. Leaving out and swapping are those of
EDA (Wei and Zou 2019, arXiv:1901.11196), substitution by the words that a
masked language model finds likely in their place is contextual augmentation
(Kobayashi 2018, arXiv:1805.06201; with BERT: Wu et al. 2019, arXiv:1812.06705).
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from bert_jax.data.sources.labelled import Record
from bert_jax.settings import UserError

_TEXTS = ("text", "pair")


class MaskedLanguageModel(NamedTuple):
  """A masked language model as this module needs it.

  Attributes:
    mask_token: what stands for a word to be filled in.
    predict: from texts with masks to the words that are likely in the place of
      each of their masks, the likeliest first.
  """

  mask_token: str
  predict: Callable[[Sequence[str]], list[list[list[str]]]]


@dataclasses.dataclass(frozen=True)
class AugmentationConfig:
  """The section `config.data.augmentation`.

  Attributes:
    copies: changed copies of each training record beside itself.
    dropout: the share of words left out.
    swap: the share of words that change places with the next one.
    masked_lm: the share of words that a masked language model replaces.
    model: that model, whatever `bert_jax.load` takes.
    seed: of all that is random.
    loaded_model: what `model` becomes when it is opened; not for configs.
  """

  copies: int = 0
  dropout: float = 0.0
  swap: float = 0.0
  masked_lm: float = 0.0
  model: str = ""
  seed: int = 0
  loaded_model: Callable[..., Any] | None = dataclasses.field(
    default=None, repr=False, compare=False
  )

  def __post_init__(self):
    if self.copies < 0:
      raise ValueError(f"copies: expected at least 0, got {self.copies}")
    for name in ("dropout", "swap", "masked_lm"):
      if not 0 <= getattr(self, name) < 1:
        raise ValueError(
          f"{name}: expected a share in [0, 1), got {getattr(self, name)}"
        )
    if bool(self.masked_lm) != bool(self.model):
      raise ValueError("model: goes with masked_lm; give both or neither")
    if bool(self.copies) != bool(self.dropout or self.swap or self.masked_lm):
      raise ValueError(
        "copies: goes with a share of dropout, swap or masked_lm"
      )


def augment(
  records: Sequence[Record], config: AugmentationConfig
) -> list[Record]:
  """The changed copies of records, those of a record one after the other.

  A copy that came out as its record is left out.

  Args:
    records: with `text` and maybe `pair`, or with `words` and maybe `tags`.
    config: how to change them; its model is opened.

  Raises:
    UserError: the records are of a kind that cannot be changed.
  """
  if not config.copies:
    return []
  made: list[tuple[Record, dict[str, Any]]] = []
  for number, record in enumerate(records):
    if "answers" in record or not {"text", "words"} & {*record}:
      raise UserError(
        "config.data.augmentation: only records with a text or words can be"
        f" changed, and these have {', '.join(record)}"
      )
    for copy in range(config.copies):
      rng = np.random.default_rng([config.seed, number, copy])
      made.append((record, _changed(record, config, rng)))
  if config.masked_lm:
    _substitute([new for _, new in made], config)
  return [new for old, new in made if new != dict(old)]


def _changed(
  record: Record, config: AugmentationConfig, rng: np.random.Generator
) -> dict[str, Any]:
  """A copy with words swapped and left out."""
  new = dict(record)
  if "words" in record:
    order = _order(len(record["words"]), config, rng)
    for name in ("words", "tags"):
      if name in record:
        new[name] = [record[name][i] for i in order]
    return new
  for name in _TEXTS:
    if isinstance(record.get(name), str):
      words = record[name].split()
      order = _order(len(words), config, rng)
      new[name] = " ".join(words[i] for i in order)
  return new


def _order(
  count: int, config: AugmentationConfig, rng: np.random.Generator
) -> list[int]:
  """Which words stay, and in which order; at least one does."""
  order = [*range(count)]
  swapped = rng.random(count) < config.swap
  for i in range(count - 1):
    if swapped[i]:
      order[i], order[i + 1] = order[i + 1], order[i]
  kept = rng.random(count) >= config.dropout
  return [i for i, stays in zip(order, kept) if stays] or order[:1]


def _substitute(
  records: Sequence[dict[str, Any]], config: AugmentationConfig
) -> None:
  """Replaces words in place, all records through the model together."""
  assert isinstance(config.loaded_model, MaskedLanguageModel), (
    "config.model is not opened"
  )
  masked, places = [], []
  for number, record in enumerate(records):
    rng = np.random.default_rng([config.seed, number, 1 << 20])
    names = ["words"] if "words" in record else _TEXTS
    for name in names:
      value = record.get(name)
      if value is None:
        continue
      words = list(value) if name == "words" else value.split()
      chosen = np.flatnonzero(rng.random(len(words)) < config.masked_lm)
      if not len(chosen):
        continue
      shown = list(words)
      for i in chosen:
        shown[i] = config.loaded_model.mask_token
      masked.append(" ".join(shown))
      places.append((record, name, words, chosen, rng))
  for (record, name, words, chosen, rng), found in zip(
    places, config.loaded_model.predict(masked)
  ):
    if len(found) != len(chosen):  # Too long, or a mask was there before.
      continue
    for i, candidates in zip(chosen, found):
      others = [w for w in candidates if w.lower() != words[i].lower()]
      if others:
        words[i] = others[rng.integers(len(others))]
    record[name] = words if name == "words" else " ".join(words)
