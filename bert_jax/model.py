"""The way in for research code: predict, embed, encode, save."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from bert_jax import settings, trees
from bert_jax.data import grouping
from bert_jax.data.sources.labelled import Record
from bert_jax.interop import huggingface, peft
from bert_jax.interop.peft import Adapter
from bert_jax.interop.pretrained import shapes_of
from bert_jax.models import encoder as encoders
from bert_jax.models import low_rank, quantization, vocabulary
from bert_jax.models.generation import GenerationConfig
from bert_jax.models.low_rank import LowRank
from bert_jax.predictor import Forward, Predictor, preprocess
from bert_jax.settings import UserError
from bert_jax.storage import folders, paths
from bert_jax.tasks import PSEUDO_LOG_LIKELIHOOD
from bert_jax.tasks.ensembles import Ensemble
from bert_jax.tasks.task import Task
from bert_jax.text.pieces import Pieces
from bert_jax.training import inference, workdir
from bert_jax.training.early_exit import EarlyExitForward
from bert_jax.training.mesh import partitioning
from bert_jax.types import Batch, Parameters

# The options of writing text whose programs are kept.
_WRITERS = 8


class Encodings(NamedTuple):
  """Texts as an encoder sees them; arrays of one batch, padded at the end.

  Attributes:
    token_ids: int32 [texts, length], special tokens included.
    attention_mask: int32 [texts, length], 1 for tokens and 0 for padding.
    last_hidden_state: float32 [texts, length, hidden].
    hidden_states: the outputs of the embeddings and of each layer (before a
      final norm), L + 1 arrays float32 [texts, length, hidden]; None if not
      asked for.
    attentions: the attention weights of each layer, L arrays
      float32 [texts, heads, length, length], whose last axis is the token that
      is attended to; None if not asked for.
  """

  token_ids: Int[np.ndarray, "texts length"]
  attention_mask: Int[np.ndarray, "texts length"]
  last_hidden_state: Float[np.ndarray, "texts length hidden"]
  hidden_states: tuple[Float[np.ndarray, "texts length hidden"], ...] | None
  attentions: tuple[Float[np.ndarray, "texts heads length length"], ...] | None


@dataclasses.dataclass(frozen=True, eq=False)
class Model(Predictor):
  """A model with all that it takes to use it on text.

  >>> model = bert_jax.load("runs/sentiment")
  >>> model("A gripping film.")[0]
  Label(label='positive', probability=0.98)

  Attributes:
    task: its inputs and targets, bound to the encoder.
    params: the parameters of `module`, a nested dict of arrays; they may be
      quantized, see `models.quantization`, or have the products of an adapter
      beside them, see `models.low_rank`.
    batch_size: rows that go through the module at once, at most.
    mesh: the devices that rows are split over; None for one device.
    base: the model that `with_adapter` was called of; None without an adapter.
    adapter: which it was called with.
  """

  task: Task
  params: Parameters
  batch_size: int = 32
  mesh: jax.sharding.Mesh | None = None
  base: "Model | None" = None
  adapter: Adapter | None = None

  def in_float32(self) -> "Model":
    """The model with one float32 array for each parameter.

    It is not quantized, and an adapter is merged.
    """
    if low_rank.is_plain(self.params):
      return self
    params = jax.jit(low_rank.merged)(self.params)
    return dataclasses.replace(self, params=params, base=None, adapter=None)

  def in_bits(self, bits: int) -> "Model":
    """The model whose kernels and embeddings have 8 or 4 bits."""
    quantize = jax.jit(quantization.quantize, static_argnums=1)
    plain = self.in_float32()
    return dataclasses.replace(plain, params=quantize(plain.params, bits))

  @property
  def module(self) -> Any:
    """The Linen module: `module.apply({"params": params}, batch)`."""
    return self.task.module

  @functools.cached_property
  def forward(self) -> inference.Forward:
    """The forward pass; it compiles once for each shape of batches."""
    if self.task.writes:
      return self.writer()
    if self.task.exits.is_used and self.task.wrap is None:
      return EarlyExitForward(self.task, self.params, self.mesh)
    return inference.Forward(self.task, self.params, self.mesh)

  def writer(self, **options: Any) -> inference.Writer:
    """As in `Predictor`; the same options have the same programs."""
    wanted = settings.replace(GenerationConfig(), options, "options")
    # With any seed the programs are the same.
    key = dataclasses.replace(wanted, seed=0)
    found = self._writers.get(key) or inference.Writer(
      self.task, self.params, key, self.mesh
    )
    while len(self._writers) >= _WRITERS:
      self._writers.pop(next(iter(self._writers)), None)
    self._writers[key] = found
    return found.with_seed(wanted.seed)

  @functools.cached_property
  def _writers(self) -> dict[GenerationConfig, inference.Writer]:
    """Those of the last options."""
    return {}

  def stream(self, text: str | Record, **options: Any) -> Iterator[str]:
    """Writes one text, and yields its pieces as they come.

    >>> for piece in model.stream("Java is"):
    ...   print(piece, end="", flush=True)

    Args:
      text: a text or a record.
      **options: as of a call, neither of beam search nor for several texts.

    Yields:
      Pieces of text; joined, they are the text that a call returns.

    Raises:
      InputError: the text does not fit the task.
      UserError: the task does not write, or an option is wrong.
    """
    if not self.task.writes:
      raise UserError(f"stream: the task {self.task.name} does not write")
    self.task.check_options(options)
    for name in ("num_beams", "num_return_sequences"):
      if options.get(name, 1) != 1:
        raise UserError(f"{name}: what is streamed is one text, without beams")
    writer = self.writer(**options)
    _, ((example,),) = preprocess(self.task, [text])
    batch = grouping.pad([example], self.task.axes, rows=writer.multiple)
    pieces = Pieces(self.tokenizer)
    for ids in writer.stream(batch):
      if (id := int(ids[0])) == self.tokenizer.special.sep:
        break
      yield pieces.add(id)
    yield pieces.end()

  def embedding_task(self, **changes: Any) -> Task:
    """As in `Predictor`; an ensemble has no vectors."""
    self._check_single("embed")
    return super().embedding_task(**changes)

  def _embedding_forward(self, task: Task) -> inference.Forward:
    ((name, target),) = task.targets.items()
    # Without layers after it, pooling is no part of the program.
    key = target.modes if target.modules else ()
    if key not in self._embedding_forwards:
      names = {"encoder", task.head_names[name]} & self.params.keys()
      params = {name: self.params[name] for name in names}
      made = inference.Forward(task, params, self.mesh)
      self._embedding_forwards.setdefault(key, made)
    return self._embedding_forwards[key]

  @functools.cached_property
  def _embedding_forwards(self) -> dict[tuple[str, ...], inference.Forward]:
    """Those of `embed` by what they compute, so that each compiles once."""
    return {}

  @functools.cached_property
  def _scoring_forward(self) -> Forward:
    task = PSEUDO_LOG_LIKELIHOOD.bind(self.config, self.tokenizer)
    (head,) = task.head_names.values()
    if head not in self.params or isinstance(self.module, Ensemble):
      return super()._scoring_forward
    params = {name: self.params[name] for name in ("encoder", head)}
    return inference.Forward(task, params, self.mesh)

  def encode(
    self,
    texts: str | Sequence[str],
    hidden_states: bool = False,
    attentions: bool = False,
  ) -> Encodings:
    """The encoder's outputs for texts.

    >>> model.encode(["The cat sits."]).last_hidden_state.shape
    (1, 16, 384)

    Args:
      texts: one text, or a list of them; each is truncated to the longest
        sequence that the encoder takes.
      hidden_states: whether to return the output of every layer.
      attentions: whether to return attention weights. They exist in the
        attention backend `xla` only.

    Returns:
      Arrays for all texts, also of a single one.

    Raises:
      InputError: a text is no text.
      UserError: the attention backend has no weights, or the model is an
        ensemble.
    """
    self._check_single("encode")
    texts = [texts] if isinstance(texts, str) else texts
    _, made = preprocess(self.embedding_task(prompt=""), texts)
    examples = [example for rows in made for example in rows]
    if not examples:
      raise UserError("encode: expected at least one text, got none")
    longest = max(example.token_ids.size for example in examples)
    length = grouping.bucket(grouping.LENGTH_BUCKETS, longest)
    found = []
    for start in range(0, len(examples), self.batch_size):
      part = examples[start : start + self.batch_size]
      batch = grouping.pad(part, grow=lambda _: length)
      outputs = self._encode(
        self.params["encoder"], batch, hidden_states, attentions
      )
      arrays = (batch.token_ids, batch.sequence_ids, *outputs[:3])
      found.append(_first_rows(jax.device_get(arrays), len(part)))
    return Encodings(*jax.tree.map(lambda *x: np.concatenate(x), *found))

  @functools.cached_property
  def _encode(self) -> Callable[..., encoders.EncoderOutputs]:
    """The encoder alone, in float32."""
    module = encoders.Encoder(self.config)

    @functools.partial(jax.jit, static_argnums=(2, 3))
    def apply(
      params: Parameters, batch: Batch, hidden_states: bool, attentions: bool
    ) -> encoders.EncoderOutputs:
      params = low_rank.merged(params)
      outputs = module.apply(
        {"params": params}, batch, True, hidden_states, attentions
      )
      if not isinstance(outputs, encoders.EncoderOutputs):
        outputs = encoders.EncoderOutputs(outputs)
      return jax.tree.map(lambda x: x.astype(jnp.float32), outputs)

    return apply

  def with_task(self, task: Task, seed: int = 0) -> "Model":
    """The same encoder with the heads of another task.

    >>> model = bert_jax.load("runs/base").with_task(task)

    Args:
      task: any task, such as one that `bert_jax.tasks.make` fitted to records.
      seed: of the initial values of heads that the model lacks, or whose
        outputs would mean something else.
    """
    self._check_single("with_task")
    task = task.bind(self.config, self.tokenizer)
    params = jax.jit(task.init_params)(jax.random.key(seed))
    known = {
      name: tree
      for name, tree in self.params.items()
      if name in params and task.reuses(name, self.task)
    }
    params = {**params, **known}
    return Model(task, params, self.batch_size, self.mesh, self.base)

  def with_adapter(self, adapter: paths.Path | Adapter) -> "Model":
    """This model with low-rank adapters of its kernels, and their heads.

    The encoder's arrays are this model's, in place and unchanged: any number
    of adapters share them, and `base` of the result is the model as it was.

    >>> base = bert_jax.load("models/minilm")
    >>> sentiment = base.with_adapter("runs/sentiment")
    >>> topics = base.with_adapter("adapters/topics")

    Args:
      adapter: a run that trained adapters (`config.lora`), or a folder of
        peft. Of a model with an adapter, it takes the place of that.

    Raises:
      UserError: there is no adapter, or it is damaged, or for another model.
    """
    if self.base is not None:
      return self.base.with_adapter(adapter)
    self._check_single("with_adapter")
    if not isinstance(adapter, Adapter):
      adapter = workdir.open_adapter(adapter, self.task)
    where = adapter.where
    task = adapter.task.bind(self.config, self.tokenizer)
    shapes = trees.flatten(shapes_of(task))
    for path, product in adapter.products.items():
      if path not in shapes:
        raise UserError(f"{where}: an adapter for another model: no {path}")
      peft.check_shape(where, path, product, shapes[path])
    layout = partitioning.Layout(self.mesh) if self.mesh else None

    def put(path: str, x: Any) -> Any:
      if layout is None:
        return jax.device_put(x)
      return partitioning.put_parameter(layout, path, np.asarray(x))

    products = {
      path: LowRank(put(f"lora/{path}/a", a), put(f"lora/{path}/b", b), scale)
      for path, (a, b, scale) in adapter.products.items()
    }
    own = {}
    for path, x in trees.flatten(adapter.params).items():
      array = vocabulary.with_rows(path, x, self.config.vocab_rows)
      if path in shapes and array.shape != shapes[path].shape:
        raise UserError(
          f"{where}: an adapter for another model: {path} is"
          f" {list(array.shape)}, expected {list(shapes[path].shape)}"
        )
      own[path] = put(path, array)
    params = low_rank.attach(self.params, products, own)
    names = {path.split("/")[0] for path in shapes}
    there = {path.split("/")[0] for path in own} | {
      name for name in self.params if task.reuses(name, self.task)
    }
    if missing := sorted(names - there):
      raise UserError(
        f"{where}: neither the adapter nor the model has {', '.join(missing)}"
        f" for the task {task.name}"
      )
    params = {name: params[name] for name in names}
    return Model(task, params, self.batch_size, self.mesh, self, adapter)

  def _check_single(self, what: str) -> None:
    if isinstance(self.module, Ensemble):
      raise UserError(
        f"{what}: the vectors of an ensemble's models cannot be averaged; use"
        " one of them, or a soup"
      )


def save(model: Model, folder: paths.Path, format: str = "huggingface") -> None:
  """Saves a model for others to load; all of it or nothing is written.

  Args:
    model: the model.
    folder: a new or an empty one, here or in an object store.
    format: `huggingface`, which Transformers (and sentence-transformers, for
      embeddings) opens with the same outputs; `bert_jax`; or `peft`, which has
      only what `Model.with_adapter` added.

  Raises:
    UserError: the folder is not empty, the format has no such model, the
      folder cannot be written, or the model is an ensemble or an export.
  """
  if not isinstance(model, Model):
    raise UserError(
      "save: expected a model with parameters; an export is copied as a folder"
    )
  if isinstance(model.module, Ensemble):
    raise UserError(
      "an ensemble is several models, which no format holds in one folder;"
      " save each of them, or a soup"
    )
  write, marker = settings.choice("format", format, _FORMATS)
  folder = paths.as_path(folder)
  folders.check_new(folder)
  try:
    with folders.atomic_folder(folder, last=marker) as here:
      write(model, here)
  except OSError as error:
    raise UserError(f"cannot write {folder}: {error}") from error


def _save_huggingface(model: Model, folder: pathlib.Path) -> None:
  huggingface.save(model.task, model.in_float32().params, folder)


def _save_bert_jax(model: Model, folder: pathlib.Path) -> None:
  # Only our own format has quantized parameters.
  plain = model.in_float32() if model.base else model
  workdir.save(model.task, plain.params, folder)


def _save_peft(model: Model, folder: pathlib.Path) -> None:
  if model.adapter is None:
    raise UserError("peft: expected a model of `with_adapter`, got one without")
  peft.save(model.adapter, folder)


_Write = Callable[[Model, pathlib.Path], None]
# What writes a model to an empty folder, and the file that makes it a model's,
# by the name of the format.
_FORMATS: Mapping[str, tuple[_Write, str]] = {
  "huggingface": (_save_huggingface, huggingface.CONFIG_FILE),
  "bert_jax": (_save_bert_jax, workdir.MODEL_FILE),
  "peft": (_save_peft, peft.CONFIG_FILE),
}


def _first_rows(arrays: Any, count: int) -> Any:
  return jax.tree.map(lambda x: x[:count], arrays)
