"""Records to answers: the one path of prediction and of evaluation."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

from bert_jax.data import grouping
from bert_jax.tasks.task import Task
from bert_jax.types import Batch, Record


def answers(
  task: Task,
  records: Sequence[Record],
  prepared: Sequence[list[Batch]],
  forward: Callable[[Batch], Any],
  batch_size: int,
  rows: int | None = None,
  grow: Callable[[int], int] = grouping.power_of_two,
  **options: Any,
) -> list[Any]:
  """A task's answers to records.

  Args:
    task: what is asked.
    records: the questions.
    prepared: what `task.prepare` made of each.
    forward: from a batch to the model's outputs.
    batch_size: examples that go through the model at once, at most.
    rows: of a batch; None for the next power of two.
    grow: from the longest example of a batch to the batch's length.
    **options: what the task's `answer` takes.

  Returns:
    An answer for each record.
  """
  parts = [(n, example) for n, made in enumerate(prepared) for example in made]
  # Rows of about one length together, so that little is padding.
  order = sorted(range(len(parts)), key=lambda i: -parts[i][1].token_ids.size)
  found: list[Any] = [None] * len(parts)
  for start in range(0, len(parts), batch_size):
    chunk = order[start : start + batch_size]
    batch = grouping.pad([parts[i][1] for i in chunk], task.axes, rows, grow)
    given = [records[parts[i][0]] for i in chunk]
    answered = task.answer(forward(batch), batch, given, **options)
    for i, answer in zip(chunk, answered):
      found[i] = answer
  rest = iter(found)
  return [
    task.join(list(itertools.islice(rest, len(made)))) for made in prepared
  ]
