"""What an evaluation shows besides its metrics."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

import numpy as np
from jaxtyping import Int

from bert_jax.data.sources.labelled import Record

MISTAKES = 40
"""The number of mistakes that are shown, at most."""


@dataclasses.dataclass(frozen=True, eq=False)
class Confusion:
  """Which labels are predicted for which.

  Attributes:
    labels: their names.
    counts: by row the gold label, by column the predicted one.
  """

  labels: Sequence[str]
  counts: Int[np.ndarray, "labels labels"]

  def pairs(self) -> list[tuple[str, str, int]]:
    """Gold label, wrong prediction and count, the most frequent first."""
    found = [
      (self.labels[i], self.labels[j], int(self.counts[i, j]))
      for i, j in np.argwhere(self.counts > 0).tolist()
      if i != j
    ]
    return sorted(found, key=lambda pair: -pair[2])


@dataclasses.dataclass(frozen=True, eq=False)
class View:
  """What an evaluation shows besides its metrics.

  Attributes:
    tables: by their titles, numbers by row and column.
    confusion: of the first target that has one label a text, or a word.
    mistakes: the worst first, each with its texts and numbers by name.
    best: the best answers, of targets that have better and worse ones.
    facts: about the metrics, by name, such as the version of a tokenization.
  """

  tables: Mapping[str, Mapping[str, Mapping[str, float]]] = dataclasses.field(
    default_factory=dict
  )
  confusion: Confusion | None = None
  mistakes: Sequence[Mapping[str, Any]] = ()
  best: Sequence[Mapping[str, Any]] = ()
  facts: Mapping[str, str] = dataclasses.field(default_factory=dict)

  @classmethod
  def joined(cls, views: Mapping[str, Self]) -> Self:
    """One view of several targets, by their names."""
    if len(views) == 1:
      return next(iter(views.values()))
    tables, mistakes, best, confusions, facts = {}, [], [], [], {}
    for name, view in views.items():
      tables |= {f"{name}: {title}": x for title, x in view.tables.items()}
      mistakes += [{"target": name, **row} for row in view.mistakes]
      best += [{"target": name, **row} for row in view.best]
      facts |= {f"{name}: {key}": fact for key, fact in view.facts.items()}
      confusions += [view.confusion] if view.confusion else []
    confusion = next(iter(confusions), None)
    return cls(tables, confusion, mistakes, best, facts)


def texts(record: Record, *names: str) -> dict[str, str]:
  """Those texts that a record has; by default `text`, `pair` and `words`."""
  found = {
    name: record[name]
    for name in names or ("text", "pair")
    if record.get(name) is not None
  }
  if not found and record.get("words") is not None:
    return {"text": " ".join(record["words"])}
  return found


def worst(
  mistakes: Iterable[tuple[float, Mapping[str, Any]]],
) -> list[Mapping[str, Any]]:
  """The rows of the greatest mistakes, the greatest first."""
  ordered = sorted(mistakes, key=lambda mistake: -mistake[0])
  return [row for _, row in ordered[:MISTAKES]]
