"""From texts to answers, whatever engine computes the model; without JAX."""

import collections
import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, overload

import numpy as np
from jaxtyping import Shaped

from bert_jax import settings
from bert_jax.batch import Batch
from bert_jax.data import grouping
from bert_jax.data.sources.labelled import Record
from bert_jax.models.config import EncoderConfig
from bert_jax.settings import UserError
from bert_jax.tasks import EMBEDDING, PSEUDO_LOG_LIKELIHOOD
from bert_jax.tasks.inputs.pairs import Pairs
from bert_jax.tasks.targets.similarity import Similarity
from bert_jax.tasks.targets.token_likelihood import Score
from bert_jax.tasks.task import Prediction, Task
from bert_jax.text.tokenizer import Tokenizer, mask_name
from bert_jax.vectors import quantize

Outputs = Mapping[str, Any]
"""Arrays by the names of outputs; their first axis is the rows of the batch."""

TOKEN_EMBEDDINGS = "token_embeddings"
"""The output that is the last hidden state, float32 [rows, length, hidden]."""
SPARSE_EMBEDDING = "sparse_embedding"
"""An output of models with a masked-LM head, float32 [rows, vocabulary].

The maximum over the tokens of log(1 + relu(logit)): SPLADE (Formal et al. 2021,
arXiv:2107.05720).
"""

# Batches for which programs are compiled, in threads, while one is computed.
_PREPARED = 4
# Texts whose masked copies are in memory at a time, and rows of a batch.
_SCORED = 128
_SCORED_ROWS = 64
_OF_TARGET = ("pooling", "normalize", "truncate_dim")
_OF_INPUTS = ("max_length", "prompt", "prompt_name")


class InputError(UserError):
  """One of several inputs does not fit the task.

  Attributes:
    number: its number, from 1.
    reason: what is wrong with it.
  """

  def __init__(self, number: int, reason: str):
    super().__init__(f"input {number}: {reason}")
    self.number, self.reason = number, reason


class Forward(Protocol):
  """A model's forward pass on some engine.

  One that compiles a program for each shape of batches in threads, such as
  `training.inference.Forward`, has these too:

    shapes: a `grouping.Shapes`, which chooses the shapes of batches.
    multiple: numbers of rows are multiples of this.
    prepare(batch): starts to compile for batches of this shape, unless it did
      before, and returns a function that computes the outputs for this batch.

  One that takes every shape at once, such as `engines.onnx.OnnxForward`, has
  `dynamic_shapes = True`: rows are then padded to the longest alone.

  Attributes:
    outputs: the names of what it can compute: the heads of the task, as
      `task.head_names` has them, and maybe others such as `TOKEN_EMBEDDINGS`.
  """

  outputs: tuple[str, ...]

  def __call__(
    self, batch: Batch, names: Sequence[str] | None = None
  ) -> Outputs:
    """The outputs for a padded batch of NumPy arrays.

    Args:
      batch: the input.
      names: of `outputs`; None for the heads of the task.

    Raises:
      UserError: there is no such output.
    """


class Predictor:
  """A task and a forward pass: from texts to answers.

  >>> predictor = Predictor(task, OnnxForward("model.onnx", task))
  >>> predictor("A gripping film.")[0]
  Label(label='positive', probability=0.98)

  Attributes:
    task: its inputs and targets, bound to the encoder.
    forward: the model's forward pass.
    batch_size: rows that go through the model at once, at most.
  """

  task: Task
  forward: Forward
  batch_size: int

  def __init__(self, task: Task, forward: Forward, batch_size: int = 32):
    """Computes nothing yet; see the attributes for the arguments."""
    self.task, self.forward, self.batch_size = task, forward, batch_size

  @property
  def config(self) -> EncoderConfig:
    """The encoder's configuration."""
    return self.task.config

  @property
  def tokenizer(self) -> Tokenizer | None:
    """Text to ids; None where the model came without a vocabulary."""
    return self.task.tokenizer

  @overload
  def __call__(self, texts: str | Record, **options: Any) -> Any: ...

  @overload
  def __call__(
    self, texts: Sequence[str | Record], **options: Any
  ) -> list[Any]: ...

  def __call__(
    self, texts: str | Record | Sequence[str | Record], **options: Any
  ) -> Any:
    """The task's answers.

    Args:
      texts: one text or record, or a list of them. A record is a mapping with
        the fields of the task; a text is one with the field `text`.
      **options: of the task's targets, such as `top_k`.

    Returns:
      The answer for a single text; a list of them for a list. The classes of
      answers are those of `tasks.targets`: a list of `Label` for a
      classification, of `Word` for a tagging, and so on.

    Raises:
      InputError: a text or record does not fit the task.
      UserError: the task has no such option.
    """
    if isinstance(texts, str | Mapping):
      return self([texts], **options)[0]
    records, predictions = self.predict(texts, **options)
    decode = self.task.decode
    return [
      decode(record, prediction, **options)
      for record, prediction in zip(records, predictions)
    ]

  def predict(
    self, texts: Sequence[str | Record], **options: Any
  ) -> tuple[list[Record], list[Any]]:
    """The records, and the task's predictions for them as arrays.

    Arguments and errors are those of a call.
    """
    records, examples = preprocess(self.task, texts)
    return records, self.predict_examples(records, examples, **options)

  def predict_examples(
    self,
    records: Sequence[Record],
    examples: Sequence[list[Batch]],
    **options: Any,
  ) -> list[Any]:
    """As `predict`, for records and what `task.preprocess` made of each."""
    self.task.check_options(options)
    forward = self.writer(**options) if self.task.writes else self.forward
    return predict(
      self.task, forward, records, examples, self.batch_size, **options
    )

  def writer(self, **options: Any) -> Forward:
    """The forward pass that writes text with these options.

    Args:
      **options: fields of `models.generation.GenerationConfig`.

    Raises:
      UserError: an option is wrong, or this engine has none.
    """
    if options:
      raise UserError(f"{next(iter(options))}: this engine has no such option")
    return self.forward

  def embed(
    self,
    texts: str | Sequence[str],
    precision: str = "float32",
    **changes: Any,
  ) -> Shaped[np.ndarray, "*texts width"]:
    """Vectors of texts, whatever the model's head is for.

    >>> model.embed(["The cat sits.", "A feline is seated."]).shape
    (2, 384)

    Args:
      texts: one text, or a list of them.
      precision: see `vectors.quantize`; with `int8` and `uint8`, quantize the
        vectors of single texts there, by the ranges of many.
      **changes: to the settings that the model came with: `pooling`,
        `normalize`, `truncate_dim`, `max_length`, and `prompt` or
        `prompt_name`, the name of one of its prompts.

    Returns:
      float32, or what the precision is, [width] for a single text, [texts,
      width] for a list.

    Raises:
      InputError: a text is no text.
      UserError: a setting is unknown, or the model is an ensemble.
    """
    if isinstance(texts, str):
      return self.embed([texts], precision, **changes)[0]
    task = self.embedding_task(**changes)
    ((name, target),) = task.targets.items()
    embedder = Predictor(task, self._embedding_forward(task), self.batch_size)
    _, found = embedder.predict(texts)
    if not found:
      return np.zeros((0, target.width(self.config)), np.float32)
    vectors = np.stack([vector[name] for vector in found])
    if changes.get("normalize") and target.truncate_dim:
      # Asked for in addition to the normalization of whole vectors.
      vectors /= np.maximum(np.linalg.norm(vectors, axis=-1)[:, None], 1e-12)
    return quantize(vectors, precision)

  def embedder(self) -> "Predictor":
    """A predictor of the vectors that `embed` gives; the same in all calls.

    Its forward pass serves every `embedding_task` with the same pooling.

    Raises:
      UserError: the model has no vectors.
    """
    return self._embedder

  @functools.cached_property
  def _embedder(self) -> "Predictor":
    task = self.embedding_task()
    return Predictor(task, self._embedding_forward(task), self.batch_size)

  def embedding_task(self, **changes: Any) -> Task:
    """The task whose predictions are the vectors of texts.

    Args:
      **changes: as for `embed`.

    Raises:
      UserError: a setting is unknown.
    """
    own = [x for x in self.task.targets.values() if isinstance(x, Similarity)]
    target = own[0] if own else Similarity()
    inputs = self.task.inputs if own else Pairs()
    for name in changes:
      known = dict.fromkeys((*_OF_TARGET, *_OF_INPUTS))
      settings.choice("embed: setting", name, known)
    if "prompt_name" in changes:
      name = changes.pop("prompt_name")
      # These two names sentence-transformers knows in every model.
      prompts = {"query": "", "document": "", **inputs.prompts}
      prompt = settings.choice("embed: prompt_name", str(name), prompts)
      changes.setdefault("prompt", prompt)
    given = {name: x for name, x in changes.items() if name in _OF_TARGET}
    others = {name: x for name, x in changes.items() if name in _OF_INPUTS}
    changed = settings.replace(target, given, "embed")
    if target.modules and len(changed.modes) != len(target.modes):
      raise UserError(
        f"embed.pooling: the model has layers after {len(target.modes)} pooling"
        f" modes, got {len(changed.modes)}"
      )
    task = dataclasses.replace(
      EMBEDDING,
      inputs=settings.replace(inputs, others, "embed"),
      targets=dict.fromkeys(EMBEDDING.targets, changed),
    )
    return task.bind(self.config, self.tokenizer)

  def _embedding_forward(self, task: Task) -> Forward:
    """The forward pass that gives the head of a task of `embedding_task`.

    Raises:
      UserError: the model computes other vectors, or none.
    """
    (target,) = task.targets.values()
    (head,) = task.head_names.values()
    if target.modules:
      # Which are after the pooling, so the model has that too.
      own = self.embedding_task()
      if target.modes != next(iter(own.targets.values())).modes:
        raise UserError(
          "embed.pooling: this exported model has layers after its pooling;"
          " export it with another"
        )
    if head in self.forward.outputs:
      return self.forward
    if TOKEN_EMBEDDINGS not in self.forward.outputs:
      raise UserError(
        f"embed: this model has no {TOKEN_EMBEDDINGS} to pool; it has"
        f" {', '.join(self.forward.outputs)}"
      )
    return _Renamed(self.forward, {head: TOKEN_EMBEDDINGS})

  @overload
  def score(self, texts: str | Record, **changes: Any) -> Score: ...

  @overload
  def score(
    self, texts: Sequence[str | Record], **changes: Any
  ) -> list[Score]: ...

  def score(
    self, texts: str | Record | Sequence[str | Record], **changes: Any
  ) -> Score | list[Score]:
    """The pseudo-log-likelihoods of texts, by the model's masked-LM head.

    >>> model.score("The cat sits.").score
    -9.31

    Args:
      texts: one text, or a list of them.
      **changes: `pll_metric`, `stride` or `max_length`; see
        `tasks.inputs.masked_copies.MaskedCopies`.

    Returns:
      The score of a single text; a list of them for a list.

    Raises:
      InputError: a text is no text, is blank, or is longer than the model
        takes.
      UserError: an option is unknown, or the model has no masked-LM head or no
        mask token.
    """
    if isinstance(texts, str | Mapping):
      return self.score([texts], **changes)[0]
    scorer = self.scorer(**changes)
    found: list[Score] = []
    for start in range(0, len(texts), _SCORED):
      try:
        found += scorer(texts[start : start + _SCORED])
      except InputError as error:
        raise InputError(start + error.number, error.reason) from error
    return found

  def scorer(self, **changes: Any) -> "Predictor":
    """A predictor of the scores that `score` gives; arguments are the same.

    Raises:
      UserError: as `score`.
    """
    inputs = settings.replace(PSEUDO_LOG_LIKELIHOOD.inputs, changes, "score")
    task = dataclasses.replace(PSEUDO_LOG_LIKELIHOOD, inputs=inputs)
    task = task.bind(self.config, self.tokenizer)
    if task.tokenizer is not None:
      mask_name(task.tokenizer)  # Raises.
    return Predictor(task, self._scoring_forward, _SCORED_ROWS)

  @functools.cached_property
  def _scoring_forward(self) -> Forward:
    """The forward pass that gives the logits of masked tokens.

    Raises:
      UserError: the model has no masked-LM head.
    """
    (head,) = PSEUDO_LOG_LIKELIHOOD.head_names.values()
    if head not in self.forward.outputs:
      raise UserError(
        "score: this model has no masked-LM head; it has"
        f" {', '.join(self.forward.outputs)}"
      )
    return _Renamed(self.forward, {head: head})


class _Renamed:
  """A forward pass with other names for some of its outputs."""

  def __init__(self, forward: Forward, names: Mapping[str, str]):
    """Takes the forward pass, and its own names of outputs by the new ones."""
    self._forward, self._names, self.outputs = forward, names, tuple(names)
    self.dynamic_shapes = getattr(forward, "dynamic_shapes", False)

  def __call__(
    self, batch: Batch, names: Sequence[str] | None = None
  ) -> Outputs:
    chosen = {
      name: settings.choice("output", name, self._names)
      for name in (self.outputs if names is None else names)
    }
    found = self._forward(batch, tuple(chosen.values()))
    return {name: found[own] for name, own in chosen.items()}


def preprocess(
  task: Task, texts: Sequence[str | Record]
) -> tuple[list[Record], list[list[Batch]]]:
  """The records of texts, and the examples of each.

  Raises:
    InputError: a text or record does not fit the task.
  """
  if isinstance(texts, bytes) or not isinstance(texts, Iterable):
    raise InputError(1, f"expected texts or records, got {texts!r:.80}")
  records, examples = [], []
  for number, item in enumerate(texts, 1):
    record = {"text": item} if isinstance(item, str) else item
    if not isinstance(record, Mapping):
      raise InputError(number, f"expected a text or a record, got {item!r:.80}")
    try:
      examples.append(task.preprocess(record))
    except UserError as error:
      raise InputError(number, str(error)) from error
    records.append(record)
  return records, examples


def predict(
  task: Task,
  forward: Callable[[Batch], Any],
  records: Sequence[Record],
  examples: Sequence[list[Batch]],
  batch_size: int,
  length_buckets: Sequence[int] | None = None,
  **options: Any,
) -> list[Prediction]:
  """The predictions for records: the one driver that runs a model over many.

  Examples of about one length are batched together. While a device computes
  a batch, the host evaluates the outputs of the one before.

  Args:
    task: bound to its encoder.
    forward: the model: a `Forward`, which compiles for the next batches while
      it computes if it has `shapes`, or any function of a padded batch of NumPy
      arrays.
    records: what to predict for.
    examples: the rows that `task.preprocess` made of each record.
    batch_size: rows that go through the model at once, at most.
    length_buckets: the row lengths of batches, rising, which then all have
      `batch_size` rows; None for `grouping.LENGTH_BUCKETS`, and numbers of
      rows by powers of two.
    **options: of the targets' `predict`, such as `top_k`.

  Returns:
    A prediction for each record: arrays by the name of the target.
  """
  rows = [(n, example) for n, made in enumerate(examples) for example in made]
  found: list[Any] = [None] * len(rows)
  shapes: grouping.Shapes | None = getattr(forward, "shapes", None)
  multiple: int = getattr(forward, "multiple", 1)
  has_dynamic_shapes: bool = getattr(forward, "dynamic_shapes", False)

  def padded(given: Sequence[Batch]) -> Batch:
    axes = task.axes_of(given[0])
    if length_buckets is None and has_dynamic_shapes:
      return grouping.pad(given, axes, rows=len(given), grow=int, exact=True)
    if length_buckets is None:
      count = grouping.power_of_two(len(given))
      count = -(-count // multiple) * multiple
      longest = max(example.token_ids.shape[-1] for example in given)
      length = grouping.bucket(grouping.LENGTH_BUCKETS, longest)
      # Exported models take no longer rows, not even of padding.
      length = max(min(length, task.config.max_positions), longest)
      if shapes is not None:
        count, length = shapes.choose(count, length, given[0].structure)
      return grouping.pad(given, axes, rows=count, grow=lambda _: length)
    grow = functools.partial(grouping.bucket, length_buckets)
    return grouping.pad(
      given,
      axes,
      rows=batch_size,
      grow=grow,
      exact=True,
      slots=grouping.power_of_two,
    )

  def split(lengths: Sequence[int]) -> Sequence[int]:
    if shapes is not None and length_buckets is None:
      return shapes.split(lengths, batch_size)
    return [batch_size] * -(-len(lengths) // batch_size)

  def prepared() -> Iterator[tuple[list[int], Batch, Callable[[], Any]]]:
    for chosen in _batches([example for _, example in rows], split):
      batch = padded([rows[i][1] for i in chosen])
      if shapes is not None:
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
    kinds.setdefault(example.structure, []).append(i)
  for places in kinds.values():
    places.sort(key=lambda i: -examples[i].token_ids.size)
    rest = iter(places)
    for count in split([examples[i].token_ids.shape[-1] for i in places]):
      yield list(itertools.islice(rest, count))
