"""Data augmentation of labelled records: words dropped, swapped, replaced.

Words are separated by white space. Of tagged words, those of an entity stay
together: they are dropped or swapped as one, and no model replaces them.

Dropping and swapping are operations of EDA (Wei and Zou 2019,
arXiv:1901.11196). Replacing words by predictions of a masked language model is
contextual augmentation (Kobayashi 2018, arXiv:1805.06201; with BERT: Wu et al.
2019, arXiv:1812.06705).
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from bert_jax.data.sources.labelled import Record
from bert_jax.settings import UserError

_TEXTS = ("text", "pair")


class MaskedLanguageModel(NamedTuple):
  """The parts of a masked language model that augmentation needs.

  Attributes:
    mask_token: the mask token as text.
    predict: maps texts with mask tokens to the most likely words for each
      mask of each text, in descending order of probability.
  """

  mask_token: str
  predict: Callable[[Sequence[str]], list[list[list[str]]]]


@dataclasses.dataclass(frozen=True)
class AugmentationConfig:
  """The section `config.data.augmentation`.

  Attributes:
    copies: the number of augmented copies added for each training record.
    dropout: the fraction of words that are dropped.
    swap: the fraction of words that are swapped with the next word.
    masked_lm: the fraction of words that a masked language model replaces.
    alone: whether each of these words is masked alone, with all others in
      sight, as in TinyBERT (Jiao et al. 2020, arXiv:1909.10351), which replaces
      0.4 of the words in 20 copies. The model then reads a text for each word
      of a record in place of one for each copy.
    model: the masked language model, as for `bert_jax.load`.
    seed: the seed of all random choices.
    loaded_model: set by the program when it opens `model`, never by a config.
  """

  copies: int = 0
  dropout: float = 0.0
  swap: float = 0.0
  masked_lm: float = 0.0
  alone: bool = False
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
          f"{name}: expected at least 0 and less than 1, got"
          f" {getattr(self, name)}"
        )
    if bool(self.masked_lm) != bool(self.model):
      raise ValueError(
        "model: expected together with masked_lm; set both or neither"
      )
    if self.alone and not self.masked_lm:
      raise ValueError("alone: goes with masked_lm")
    if bool(self.copies) != bool(self.dropout or self.swap or self.masked_lm):
      raise ValueError(
        "copies: expected together with dropout, swap or masked_lm"
      )


Entities = Callable[[Sequence[str]], Sequence[tuple[int, int]]]
"""From the tags of words to the begin and the end of each entity, in order."""


def augment(
  records: Sequence[Record], config: AugmentationConfig, entities: Entities
) -> list[Record]:
  """Augmented copies of records, in the order of the records.

  Copies that equal their record are omitted.

  Args:
    records: with `text` and optionally `pair`, or `words` and optionally
      `tags`.
    config: what is changed.
    entities: finds the entities in tags.

  Raises:
    UserError: a record has other fields, or answers with character positions.
  """
  if not config.copies:
    return []
  made = []
  for number, record in enumerate(records):
    if "answers" in record or not {"text", "words"} & {*record}:
      raise UserError(
        "config.data.augmentation: expected records with text or words and"
        f" without answers, got {', '.join(record)}"
      )
    for copy in range(config.copies):
      rng = np.random.default_rng([config.seed, number, copy])
      made.append((record, _drop_and_swap(record, config, entities, rng)))
  if config.masked_lm:
    _replace_words([new for _, new in made], config, entities)
  return [new for old, new in made if new != dict(old)]


def _drop_and_swap(
  record: Record,
  config: AugmentationConfig,
  entities: Entities,
  rng: np.random.Generator,
) -> dict[str, Any]:
  """A copy with words swapped and dropped."""
  new = dict(record)
  if "words" in record:
    tags = record.get("tags")
    units = _units(len(record["words"]), tags, entities)
    kept = [units[i] for i in _order(len(units), config, rng)]
    if tags is not None:
      kept = _apart(kept, tags, entities)
    for name in ("words", "tags"):
      if name in record:
        new[name] = [record[name][i] for unit in kept for i in unit]
    return new
  for name in _TEXTS:
    if isinstance(record.get(name), str):
      words = record[name].split()
      order = _order(len(words), config, rng)
      new[name] = " ".join(words[i] for i in order)
  return new


def _units(
  count: int, tags: Sequence[str] | None, entities: Entities
) -> list[range]:
  """The words of each entity, and the other words one by one."""
  ends = {} if tags is None else dict(entities(tags))
  units: list[range] = []
  begin = 0
  while begin < count:
    units.append(range(begin, ends.get(begin, begin + 1)))
    begin = units[-1].stop
  return units


def _apart(
  units: Sequence[range], tags: Sequence[str], entities: Entities
) -> list[range]:
  """Drops units that would make one entity with the unit before, as in IOB1."""
  kept = [*units[:1]]
  for unit in units[1:]:
    both = [tags[i] for i in (*kept[-1], *unit)]
    is_new = kept[-1].stop != unit.start
    if not (is_new and entities(both) == [(0, len(both))]):
      kept.append(unit)
  return kept


def _order(
  count: int, config: AugmentationConfig, rng: np.random.Generator
) -> list[int]:
  """The indices of the words to keep, in order; at least one is kept."""
  order = [*range(count)]
  swapped = rng.random(count) < config.swap
  for i in range(count - 1):
    if swapped[i]:
      order[i], order[i + 1] = order[i + 1], order[i]
  kept = rng.random(count) >= config.dropout
  return [i for i, stays in zip(order, kept) if stays] or order[:1]


def _replace_words(
  records: Sequence[dict[str, Any]],
  config: AugmentationConfig,
  entities: Entities,
) -> None:
  """Replaces words of the records in place, with one call of the model."""
  assert isinstance(config.loaded_model, MaskedLanguageModel), (
    "the model is not loaded"
  )
  # By the text that the model reads, in the order of first use.
  masked: dict[str, int] = {}
  places = []
  for number, record in enumerate(records):
    rng = np.random.default_rng([config.seed, number, 1 << 20])
    names = ["words"] if "words" in record else _TEXTS
    for name in names:
      value = record.get(name)
      if value is None:
        continue
      words = list(value) if name == "words" else value.split()
      is_chosen = rng.random(len(words)) < config.masked_lm
      if name == "words" and record.get("tags") is not None:
        for begin, end in entities(record["tags"]):
          is_chosen[begin:end] = False
      chosen = np.flatnonzero(is_chosen).tolist()
      for group in [[i] for i in chosen] if config.alone else [chosen]:
        if not group:
          continue
        shown = list(words)
        for i in group:
          shown[i] = config.loaded_model.mask_token
        read = masked.setdefault(" ".join(shown), len(masked))
        places.append((record, name, group, read, rng))
  found = config.loaded_model.predict([*masked])
  for record, name, group, read, rng in places:
    # The text is too long, or contained a mask token already.
    if len(found[read]) != len(group):
      continue
    value = record[name]
    words = list(value) if name == "words" else value.split()
    for i, candidates in zip(group, found[read]):
      others = [w for w in candidates if w.lower() != words[i].lower()]
      if others:
        words[i] = others[rng.integers(len(others))]
    record[name] = words if name == "words" else " ".join(words)
