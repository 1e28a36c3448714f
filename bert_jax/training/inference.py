"""The forward pass in JAX, and a model that proposes words."""

import contextlib
import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from bert_jax import settings
from bert_jax.data import grouping
from bert_jax.data.augmentation import MaskedLanguageModel
from bert_jax.models import decoding, heads, low_rank
from bert_jax.models.encoder import Encoder
from bert_jax.models.flops import flops_per_layer
from bert_jax.models.generation import GenerationConfig
from bert_jax.predictor import SPARSE_EMBEDDING, TOKEN_EMBEDDINGS, predict
from bert_jax.settings import UserError
from bert_jax.tasks import MASKED_LM
from bert_jax.tasks.targets.masked_tokens import MaskedTokens
from bert_jax.tasks.task import Task
from bert_jax.text.tokenizer import mask_name
from bert_jax.training import workdir
from bert_jax.training.mesh import meshes
from bert_jax.training.programs import CachedFunction
from bert_jax.types import Batch, Parameters

_Function = Callable[[Parameters, Batch], Any]

# Of the masked language model that proposes words.
_CANDIDATES = 10
_BATCH_SIZE = 64
# FLOPs of a layer that take about as long as compiling it, on a CPU. Measured
# with MiniLM: 0.05 s if its program is kept and 0.15 s if not, at 60 GFLOP/s.
_COMPILING = 5e9


class Forward:
  """The model's forward pass in JAX, compiled once for each shape of batches.

  It is a `predictor.Forward`. Maps a padded batch of NumPy arrays to arrays of
  JAX's.

  Attributes:
    outputs: the heads of the task, and unless the model is an ensemble
      `token_embeddings`; with a masked-LM head `sparse_embedding` too. Others
      than heads have programs of their own, compiled when they are asked for.
    shapes: chooses the shapes of batches.
    multiple: numbers of rows are multiples of this.
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

    self._apply = _compiled(apply, params)
    self._mesh = mesh
    self.shapes = grouping.Shapes(_COMPILING / flops_per_layer(task.config))
    self.multiple = meshes.batch_devices(mesh) if mesh else 1
    parts = task.parts.values() or [task]
    self._heads = tuple(
      dict.fromkeys(head for part in parts for head in part.head_names.values())
    )
    further = _further_outputs(task) if "encoder" in params else {}
    self._further = {
      name: _compiled(function, params) for name, function in further.items()
    }
    self.outputs = (*self._heads, *self._further)

  def prepare(self, batch: Batch) -> Callable[[], Any]:
    """Starts to compile for batches of this shape, unless it did before.

    Returns:
      A function that computes the outputs of the heads for this batch.
    """
    return self._prepare(self._apply, batch)

  def _prepare(
    self, function: CachedFunction, batch: Batch, *others: Any
  ) -> Callable[[], Any]:
    if self._mesh is None:
      return function.prepare(batch, *others)
    with jax.set_mesh(self._mesh):
      return function.prepare(meshes.put_batch(batch, self._mesh), *others)

  def __call__(self, batch: Batch, names: Sequence[str] | None = None) -> Any:
    """The outputs for a batch.

    Args:
      batch: the input.
      names: of `outputs`; None for the heads.

    Raises:
      UserError: there is no such output.
    """
    if names is None:
      return self.prepare(batch)()
    for name in names:
      settings.choice("output", name, dict.fromkeys(self.outputs))
    further = [name for name in names if name in self._further]
    computing = {
      name: self._prepare(self._further[name], batch) for name in further
    }
    of_heads = self.prepare(batch)() if len(further) < len(names) else {}
    return {
      name: computing[name]() if name in computing else of_heads[name]
      for name in names
    }


class Writer(Forward):
  """Writes text in JAX: the `predictor.Forward` of a task that writes.

  Its output is a mapping of the arrays of `decoding.Generated`.
  """

  def __init__(
    self,
    task: Task,
    params: Parameters,
    generation: GenerationConfig,
    mesh: jax.sharding.Mesh | None = None,
  ):
    """Compiles nothing yet.

    Args:
      task: bound to its encoder and vocabulary; its target is `NextTokens`.
      params: the parameters of its module.
      generation: how to write.
      mesh: see `Forward`.

    Raises:
      UserError: the vocabulary is too small for the beams.
    """
    super().__init__(task, params, mesh)
    ((name, target),) = task.targets.items()
    head, config = task.head_names[name], task.config
    self._length = generation.max_new_tokens or target.room(
      task.inputs.limit(config)
    )
    self._positions = config.max_positions
    self._restarts = target.positions == "restarted"
    self._seed = np.uint32(generation.seed)
    decoder = decoding.Decoder(
      config,
      task.tokenizer.special,
      generation,
      self._length,
      target.objective,
      target.positions,
      head=head,
      vocabulary=len(task.tokenizer),
    )

    def apply(params: Parameters, batch: Batch, seed: Array) -> Any:
      return {head: decoder(params, batch, seed)._asdict()}

    self._apply = _compiled(apply, params)
    self._start = _compiled(decoder.start, params)
    self._step = _compiled(decoder.step, params)
    self.outputs, self._further = (head,), {}

  def prepare(self, batch: Batch) -> Callable[[], Any]:
    """As in `Forward`.

    Raises:
      UserError: the longest text would not fit after a source.
    """
    self._check(batch)
    return super().prepare(batch)

  def with_seed(self, seed: int) -> Self:
    """One with the same programs, which draws with another seed."""
    made = copy.copy(self)
    made._seed = np.uint32(seed)
    return made

  def _prepare(
    self, function: CachedFunction, batch: Batch, *others: Any
  ) -> Callable[[], Any]:
    return super()._prepare(function, batch, *others, self._seed)

  def stream(self, batch: Batch) -> Iterator[Int[np.ndarray, "rows"]]:
    """The next token of each row, as soon as it is written.

    Args:
      batch: sources; the options are neither of beam search nor for several
        texts.

    Yields:
      The ids of tokens; of a row that has ended, first that of the end, and
      then padding.

    Raises:
      UserError: the longest text would not fit after a source.
    """
    self._check(batch)
    source, state = self._prepare(self._start, batch)()
    for index in range(self._length):
      yield np.asarray(state.ids[:, index])
      if index + 1 == self._length or np.all(state.is_done):
        return
      state = self._step(source, state)

  def _check(self, batch: Batch) -> None:
    source = int((batch.sequence_ids > 0).sum(-1).max())
    first = 1 if self._restarts else source
    if first + self._length > self._positions:
      raise UserError(
        f"max_new_tokens: {self._length} tokens after position {first - 1} are"
        f" more than the model's {self._positions} positions"
      )


def _compiled(
  function: Callable[..., Any], params: Parameters
) -> CachedFunction:
  """A function of a model's parameters, in any form, and arrays."""

  def apply(params: Parameters, *args: Any) -> Any:
    return function(low_rank.merged(params), *args)

  return CachedFunction(apply, params)


def _further_outputs(task: Task) -> Mapping[str, _Function]:
  """The outputs besides those of heads, of parameters and a batch."""
  found = {TOKEN_EMBEDDINGS: _token_embeddings(task)}
  for name, target in task.targets.items():
    if isinstance(target, MaskedTokens):
      head = task.head_names[name]
      found[SPARSE_EMBEDDING] = _sparse_embedding(task, head)
  return found


def _token_embeddings(task: Task) -> _Function:
  module = Encoder(task.config)

  def apply(params: Parameters, batch: Batch) -> Array:
    hidden = module.apply({"params": params["encoder"]}, batch)
    return hidden.astype(jnp.float32)

  return apply


def _sparse_embedding(task: Task, head: str) -> _Function:
  """Of each row in turn, since the logits of all tokens are many."""
  config = task.config
  encoder, masked_lm = Encoder(config), heads.MaskedLanguageHead(config)

  def apply(params: Parameters, batch: Batch) -> Array:
    hidden = encoder.apply({"params": params["encoder"]}, batch)
    decoder = params["encoder"]["embeddings"]["word"]["embedding"]
    decoder = params[head].get("decoder", decoder)

    def of_row(row: tuple[Array, Array]) -> Array:
      hidden, used = row
      logits = masked_lm.apply(
        {"params": params[head]}, hidden, decoder, method="logits"
      )
      weights = jnp.log1p(jax.nn.relu(logits[:, : config.vocab_size]))
      return jnp.where(used[:, None], weights, 0).max(0)

    return jax.lax.map(of_row, (hidden, batch.sequence_ids > 0))

  return apply


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
