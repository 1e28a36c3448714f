"""The forms in which evaluations of all tasks are shown."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int

from bert_jax.data.sources.labelled import Record

MISTAKES = 40
"""How many mistakes there are to see, at most."""


@dataclasses.dataclass(frozen=True)
class Confusion:
  """Which labels are taken for which.

  Attributes:
    labels: their names.
    counts: by row the gold label, by column the predicted one.
  """

  labels: Sequence[str]
  counts: Int[np.ndarray, "labels labels"]

  def pairs(self) -> list[tuple[str, str, int]]:
    """Gold label, the one it is taken for and how often, most often first."""
    found = [
      (self.labels[i], self.labels[j], int(self.counts[i, j]))
      for i, j in np.argwhere(self.counts > 0).tolist()
      if i != j
    ]
    return sorted(found, key=lambda pair: -pair[2])


@dataclasses.dataclass(frozen=True)
class View:
  """What there is to see besides the scores.

  Attributes:
    tables: by what they are about, numbers by row and column.
    confusion: which labels are taken for which, where there is one a text,
      or a word.
    mistakes: the worst first, each with its texts and numbers by name.
  """

  tables: Mapping[str, Mapping[str, Mapping[str, float]]] = dataclasses.field(
    default_factory=dict
  )
  confusion: Confusion | None = None
  mistakes: Sequence[Mapping[str, Any]] = ()


def texts(record: Record, *names: str) -> dict[str, str]:
  """Those of a record's texts that it has; by default `text` and `pair`."""
  return {
    name: record[name]
    for name in names or ("text", "pair")
    if record.get(name) is not None
  }


def worst(
  mistakes: Iterable[tuple[float, Mapping[str, Any]]],
) -> list[Mapping[str, Any]]:
  """The mistakes that are the greatest, the greatest first."""
  ordered = sorted(mistakes, key=lambda mistake: -mistake[0])
  return [row for _, row in ordered[:MISTAKES]]
