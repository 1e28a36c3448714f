"""The one driver that runs a model over many records."""

import collections
import contextlib
import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax

from bert_jax.data import grouping
from bert_jax.data.augmentation import MaskedLanguageModel
from bert_jax.data.sources.labelled import Record
from bert_jax.models.flops import flops_per_layer
from bert_jax.settings import UserError
from bert_jax.tasks import MASKED_LM
from bert_jax.tasks.task import Prediction, Task
from bert_jax.text.tokenizer import mask_name
from bert_jax.training import workdir
from bert_jax.training.mesh import meshes
from bert_jax.training.programs import CachedFunction
from bert_jax.types import Batch, Parameters

# Of the masked language model that proposes words.
_CANDIDATES = 10
_BATCH_SIZE = 64

# Batches for which programs are compiled, in threads, while one is computed.
_PREPARED = 4
# FLOPs of a layer that take about as long as compiling it, on a CPU. Measured
# with MiniLM: 0.05 s if its program is kept and 0.15 s if not, at 60 GFLOP/s.
_COMPILING = 5e9


class Forward:
  """The model's forward pass, compiled once for each shape of batches.

  Maps a padded batch of NumPy arrays to the outputs of the model.
  """

  def __init__(
    self,
    task: Task,
    params: Parameters,
    mesh: jax.sharding.Mesh | None = None,
  ):
    """Compiles nothing yet.

    Args:
      task: bound to its encoder.
      params: the parameters of its module.
      mesh: the devices that the parameters lie on; rows are split over them.
        None computes on the device of the parameters.
    """

    def apply(params: Parameters, batch: Batch) -> Any:
      return task.module.apply({"params": params}, batch)

    self._apply = CachedFunction(apply, params)
    self._mesh = mesh
    self.shapes = grouping.Shapes(_COMPILING / flops_per_layer(task.config))

  def prepare(self, batch: Batch) -> Callable[[], Any]:
    """Starts to compile for batches of this shape, unless it did before.

    Returns:
      A function that computes the outputs for this batch.
    """
    if self._mesh is None:
      return self._apply.prepare(batch)
    with jax.set_mesh(self._mesh):
      return self._apply.prepare(meshes.put_batch(batch, self._mesh))

  def __call__(self, batch: Batch) -> Any:
    """The outputs for a batch."""
    return self.prepare(batch)()


def predict(
  task: Task,
  forward: Callable[[Batch], Any],
  records: Sequence[Record],
  examples: Sequence[list[Batch]],
  batch_size: int,
  length_buckets: Sequence[int] | None = None,
  multiple: int = 1,
  **options: Any,
) -> list[Prediction]:
  """The predictions for records.

  Examples of about one length are batched together. While the device computes
  a batch, the host evaluates the outputs of the one before.

  Args:
    task: bound to its encoder.
    forward: the model: a `Forward`, which then compiles for the next batches
      while it computes, or any function of a padded batch of NumPy arrays.
    records: what to predict for.
    examples: the rows that `task.preprocess` made of each record.
    batch_size: rows that go through the model at once, at most.
    length_buckets: the row lengths of batches, rising, which then all have
      `batch_size` rows; None for `grouping.LENGTH_BUCKETS`, and numbers of
      rows by powers of two.
    multiple: numbers of rows are multiples of this.
    **options: of the targets' `predict`, such as `top_k`.

  Returns:
    A prediction for each record: arrays by the name of the target.
  """
  rows = [(n, example) for n, made in enumerate(examples) for example in made]
  found: list[Any] = [None] * len(rows)

  def padded(given: Sequence[Batch]) -> Batch:
    axes = task.axes_of(given[0])
    if length_buckets is None:
      count = grouping.power_of_two(len(given))
      count = -(-count // multiple) * multiple
      longest = max(example.token_ids.shape[-1] for example in given)
      length = grouping.bucket(grouping.LENGTH_BUCKETS, longest)
      if isinstance(forward, Forward):
        kind = jax.tree.structure(given[0])
        count, length = forward.shapes.choose(count, length, kind)
      return grouping.pad(given, axes, rows=count, grow=lambda _: length)
    grow = functools.partial(grouping.bucket, length_buckets)
    return grouping.pad(given, axes, rows=batch_size, grow=grow, exact=True)

  def split(lengths: Sequence[int]) -> Sequence[int]:
    if isinstance(forward, Forward) and length_buckets is None:
      return forward.shapes.split(lengths, batch_size)
    return [batch_size] * -(-len(lengths) // batch_size)

  def prepared() -> Iterator[tuple[list[int], Batch, Callable[[], Any]]]:
    for chosen in _batches([example for _, example in rows], split):
      batch = padded([rows[i][1] for i in chosen])
      if isinstance(forward, Forward):
        yield chosen, batch, forward.prepare(batch)
      else:
        yield chosen, batch, functools.partial(forward, batch)

  started = (
    (chosen, batch, compute())
    for chosen, batch, compute in _made_ahead(prepared(), _PREPARED)
  )
  for chosen, batch, outputs in _made_ahead(started, 1):
    own = [records[rows[i][0]] for i in chosen]
    for i, row in zip(chosen, task.predict(outputs, batch, own, **options)):
      found[i] = row
  rest = iter(found)
  return [
    task.merge(record, list(itertools.islice(rest, len(made))))
    for record, made in zip(records, examples)
  ]


def _made_ahead(items: Iterator[Any], count: int) -> Iterator[Any]:
  """The same items, each only once the `count` after it have been made."""
  waiting = collections.deque(itertools.islice(items, count))
  for item in items:
    waiting.append(item)
    yield waiting.popleft()
  yield from waiting


def _batches(
  examples: Sequence[Batch], split: Callable[[Sequence[int]], Sequence[int]]
) -> Iterator[list[int]]:
  """Which examples go together: of one structure, and of about one length.

  Structures differ where some records have gold fields and others none, or
  where records are of different tasks. `split` maps lengths, the longest first,
  to the number of examples in each batch.
  """
  kinds: dict[Any, list[int]] = {}
  for i, example in enumerate(examples):
    kinds.setdefault(jax.tree.structure(example), []).append(i)
  for places in kinds.values():
    places.sort(key=lambda i: -examples[i].token_ids.size)
    rest = iter(places)
    for count in split([examples[i].token_ids.shape[-1] for i in places]):
      yield list(itertools.islice(rest, count))


def masked_language_model(where: str) -> MaskedLanguageModel:
  """Opens a model that proposes words, for augmentation.

  Args:
    where: what `bert_jax.load` takes, with a masked-LM head.

  Raises:
    UserError: there is no such model, or it has no masked-LM head.
  """
  try:
    pretrained = workdir.open_model(where)
  except UserError as error:
    raise UserError(f"config.data.augmentation.model: {error}") from error
  task = MASKED_LM.bind(pretrained.config, pretrained.tokenizer)
  params, newly_initialized = pretrained.params(task)
  if newly_initialized:
    raise UserError(
      f"config.data.augmentation.model: {where} has no masked-LM head"
    )
  forward = Forward(task, params)

  def words(texts: Sequence[str]) -> list[list[list[str]]]:
    found: list[list[list[str]]] = [[] for _ in texts]
    records, examples, kept = [], [], []
    for number, text in enumerate(texts):
      # A text that is longer than the model takes stays as it is.
      with contextlib.suppress(UserError):
        examples.append(task.preprocess({"text": text}))
        records.append({"text": text})
        kept.append(number)
    predictions = predict(
      task, forward, records, examples, _BATCH_SIZE, top_k=_CANDIDATES
    )
    for number, record, prediction in zip(kept, records, predictions):
      found[number] = [
        [c.token for c in candidates if c.token.strip().isalpha()]
        for candidates in task.decode(record, prediction)
      ]
    return found

  return MaskedLanguageModel(mask_name(task.tokenizer), words)
