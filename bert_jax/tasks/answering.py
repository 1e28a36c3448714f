"""Records to answers: the one path of prediction and of evaluation."""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from bert_jax.data import grouping
from bert_jax.data.sources.labelled import Record
from bert_jax.tasks.task import Task
from bert_jax.types import Batch


def answers(
  task: Task,
  records: Sequence[Record],
  prepared: Sequence[list[Batch]],
  forward: Callable[[Batch], Any],
  batch_size: int,
  lengths: Sequence[int] | None = None,
  **options: Any,
) -> list[Any]:
  """A task's answers to records.

  Args:
    task: what is asked.
    records: the questions.
    prepared: what `task.prepare` made of each.
    forward: from a batch to the model's outputs.
    batch_size: examples that go through the model at once, at most.
    lengths: those that batches may have, rising, all of `batch_size` rows;
      None for `grouping.LENGTH_BUCKETS`, and rows by powers of two.
    **options: what the task's `answer` takes.

  Returns:
    An answer for each record.
  """
  parts = [(n, example) for n, made in enumerate(prepared) for example in made]
  found: list[Any] = [None] * len(parts)
  shape: dict[str, Any] = {}
  if lengths is not None:
    grow = functools.partial(grouping.bucket, lengths)
    shape = {"rows": batch_size, "grow": grow, "exact": True}

  def begun() -> Iterator[tuple[list[int], Batch, Any]]:
    for chunk in _chunks([example for _, example in parts], batch_size):
      batch = grouping.pad([parts[i][1] for i in chunk], task.axes, **shape)
      yield chunk, batch, forward(batch)

  # The device is at the next batch while the answers of one are worded.
  for chunk, batch, outputs in _one_ahead(begun()):
    given = [records[parts[i][0]] for i in chunk]
    answered = task.answer(outputs, batch, given, **options)
    for i, answer in zip(chunk, answered):
      found[i] = answer
  rest = iter(found)
  return [
    task.join(list(itertools.islice(rest, len(made)))) for made in prepared
  ]


def _one_ahead(items: Iterator[Any]) -> Iterator[Any]:
  """The same, each only when the one after it has been made."""
  waiting = list(itertools.islice(items, 1))
  for item in items:
    yield waiting.pop()
    waiting.append(item)
  yield from waiting


def plain(value: Any) -> Any:
  """A part of an answer for JSON, which knows no dataclasses and no arrays."""
  if isinstance(value, np.ndarray | np.generic):
    return value.tolist()
  return dataclasses.asdict(value)


def _chunks(examples: Sequence[Batch], size: int) -> Iterator[list[int]]:
  """Which examples go together: of one kind, and of about one length.

  Kinds differ in their targets: some records have gold fields and others
  none, or they are for different tasks.
  """
  kinds: dict[Any, list[int]] = {}
  for i, example in enumerate(examples):
    kinds.setdefault(jax.tree.structure(example), []).append(i)
  for places in kinds.values():
    places.sort(key=lambda i: -examples[i].token_ids.size)
    for start in range(0, len(places), size):
      yield places[start : start + size]
