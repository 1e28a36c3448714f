"""Writes the batches of a case to files, which all implementations read.

Rows for pretraining come from the task `pretraining` on a corpus, before the
measurement. `benchmarks.input` measures how fast they are made.
"""

import dataclasses
import itertools
import json
import pathlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from benchmarks import peers
from benchmarks.cases import Case, Text
from bert_jax import text
from bert_jax.data import grouping, sources, stream
from bert_jax.models import flops
from bert_jax.models.config import EncoderConfig
from bert_jax.settings import UserError
from bert_jax.tasks import EMBEDDING
from bert_jax.tasks.inputs.pairs import Pairs
from bert_jax.training.recipe import Recipe
from bert_jax.types import Batch

# Texts with fewer tokens are headings.
_MIN_TOKENS = 16


class BatchFile(NamedTuple):
  """A file of batches, and the work of those that are timed.

  Attributes:
    path: the path of the file.
    tokens: the number of non-padding tokens.
    positions: the number of positions with padding; None if the implementation
      determines the padding.
    sequences: the number of sequences, or of texts.
    flops: the FLOPs that the mathematics requires: without padding, and with
      masked tokens alone in the output layer.
  """

  path: str
  tokens: int
  positions: int | None
  sequences: int
  flops: float


def write_rows(
  case: Case,
  made: Mapping[str, Any],
  count: int,
  warmup: int,
  path: pathlib.Path,
) -> BatchFile:
  """Writes batches of pretraining; those after the first `warmup` are timed."""
  recipe = Recipe.from_dict(made)
  task, data = recipe.make_task()
  rows = _rows(data.training(case.rows, recipe.seed, None), case)
  batches = [
    stream.concatenate(list(itertools.islice(rows, case.rows)))
    for _ in range(count)
  ]
  peers.save(path, [by_name(batch) for batch in batches])
  timed = batches[warmup:]
  sizes = _sizes(timed)
  return BatchFile(
    str(path),
    int(sizes.sum()),
    sum(batch.token_ids.size for batch in timed),
    len(sizes),
    training_flops(task.config, timed),
  )


def _rows(batches: stream.BatchStream, case: Case) -> Iterator[Batch]:
  """Batches of one row; only full rows, unless the case has real lengths."""
  for tried in itertools.count():
    row = batches.batch(tried // case.rows, [tried % case.rows])
    if case.real or row.sequence_ids.all():
      yield row
    elif tried > 10_000 * case.rows:
      raise UserError(f"--text: hardly any row of {case.length} is full")


def by_name(batch: Batch) -> dict[str, np.ndarray]:
  """The arrays of a batch by name, as all peers take them."""
  names = ("token_ids", "segment_ids", "position_ids", "sequence_ids")
  return {name: getattr(batch, name) for name in names} | dict(batch.targets)


def _sizes(batches: Sequence[Batch]) -> np.ndarray:
  """The length of each sequence."""
  found = [
    np.bincount(row)[1:] for batch in batches for row in batch.sequence_ids
  ]
  return np.concatenate(found)


def training_flops(config: EncoderConfig, batches: Sequence[Batch]) -> float:
  """The FLOPs that updates on these sequences require, without padding."""
  one = flops.training_flops_per_token
  sizes, times = np.unique(_sizes(batches), return_counts=True)
  encoder = sum(
    n * size * one(config, size, 0)
    for size, n in zip(sizes.tolist(), times.tolist())
  )
  masked = sum(batch.targets["masked_lm/weights"].sum() for batch in batches)
  return encoder + float(masked) * (one(config, 1, 1) - one(config, 1, 0))


def write_texts(
  case: Case, corpus: Text, count: int, folder: pathlib.Path
) -> tuple[BatchFile, BatchFile]:
  """Writes batches of texts, and the same texts as padded rows."""
  task = dataclasses.replace(EMBEDDING, inputs=Pairs(case.length)).bind(
    case.encoder, text.load(corpus.folder)
  )
  texts, examples = [], []
  with tempfile.TemporaryDirectory() as scratch:
    source = sources.open_source(corpus.config, pathlib.Path(scratch))
    for index in np.random.default_rng(0).permutation(len(source)).tolist():
      found = source[index]["text"]
      (example,) = task.preprocess({"text": found})
      size = example.token_ids.size
      if size >= (_MIN_TOKENS if case.real else case.length):
        texts.append(found)
        examples.append(example)
      if len(texts) == count * case.rows:
        break
    else:
      raise UserError(f"--text: only {len(texts)} texts are long enough")
  chunks = [
    slice(n, n + case.rows) for n in range(0, count * case.rows, case.rows)
  ]
  batches = [
    grouping.pad(examples[chunk], rows=case.rows, grow=lambda _: case.length)
    for chunk in chunks
  ]
  peers.save(folder / "rows.npz", [by_name(batch) for batch in batches])
  path = folder / "texts.json"
  path.write_text(json.dumps([texts[chunk] for chunk in chunks]))
  sizes = [example.token_ids.size for example in examples]
  # The forward pass is a third of training.
  work = sum(
    n * flops.training_flops_per_token(case.encoder, n, 0) / 3 for n in sizes
  )
  padded = BatchFile(
    str(folder / "rows.npz"),
    sum(sizes),
    len(sizes) * case.length,
    len(sizes),
    work,
  )
  return padded._replace(path=str(path), positions=None), padded
