"""The way in for research code: load, predict, embed, encode, save."""

import dataclasses
import functools
import json
import pathlib
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, overload

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from bert_jax import settings
from bert_jax.data import grouping
from bert_jax.data.sources.labelled import Record
from bert_jax.interop import huggingface
from bert_jax.models import encoder as encoders
from bert_jax.models.config import EncoderConfig
from bert_jax.settings import UserError
from bert_jax.storage import folders, paths
from bert_jax.tasks import EMBEDDING
from bert_jax.tasks.ensembles import Ensemble
from bert_jax.tasks.inputs.pairs import Pairs
from bert_jax.tasks.targets.similarity import Similarity
from bert_jax.tasks.task import Task
from bert_jax.text.tokenizer import Tokenizer
from bert_jax.training import inference, workdir
from bert_jax.training.mesh import meshes, partitioning
from bert_jax.types import Batch, Parameters

_Write = Callable[[Task, Parameters, pathlib.Path], None]
# What writes a model to an empty folder, and the file that makes it a model's,
# by the name of the format.
_FORMATS: Mapping[str, tuple[_Write, str]] = {
  "huggingface": (huggingface.save, huggingface.CONFIG_FILE),
  "bert_jax": (workdir.save, workdir.MODEL_FILE),
}


class InputError(UserError):
  """One of several inputs does not fit the task.

  Attributes:
    number: its number, from 1.
    reason: what is wrong with it.
  """

  def __init__(self, number: int, reason: str):
    super().__init__(f"input {number}: {reason}")
    self.number, self.reason = number, reason


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
class Model:
  """A model with all that it takes to use it on text.

  >>> model = bert_jax.load("runs/sentiment")
  >>> model("A gripping film.")[0]
  Label(label='positive', probability=0.98)

  Attributes:
    task: its inputs and targets, bound to the encoder.
    params: the parameters of `module`, a nested dict of arrays.
    batch_size: rows that go through the module at once, at most.
    mesh: the devices that rows are split over; None for one device.
  """

  task: Task
  params: Parameters
  batch_size: int = 32
  mesh: jax.sharding.Mesh | None = None

  @property
  def config(self) -> EncoderConfig:
    """The encoder's configuration."""
    return self.task.config

  @property
  def tokenizer(self) -> Tokenizer | None:
    """Text to ids; None where the model came without a vocabulary."""
    return self.task.tokenizer

  @property
  def module(self) -> Any:
    """The Linen module: `module.apply({"params": params}, batch)`."""
    return self.task.module

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
    records, examples = _preprocess(self.task, texts)
    return records, self.predict_examples(records, examples, **options)

  def predict_examples(
    self,
    records: Sequence[Record],
    examples: Sequence[list[Batch]],
    **options: Any,
  ) -> list[Any]:
    """As `predict`, for records and what `task.preprocess` made of each."""
    self.task.check_options(options)
    return inference.predict(
      self.task,
      self._forward,
      records,
      examples,
      self.batch_size,
      multiple=meshes.batch_devices(self.mesh) if self.mesh else 1,
      **options,
    )

  @functools.cached_property
  def _forward(self) -> inference.Forward:
    return inference.Forward(self.task, self.params, self.mesh)

  def embed(
    self, texts: str | Sequence[str], **changes: Any
  ) -> Float[np.ndarray, "*texts width"]:
    """Vectors of texts, whatever the model's head is for.

    >>> model.embed(["The cat sits.", "A feline is seated."]).shape
    (2, 384)

    Args:
      texts: one text, or a list of them.
      **changes: to the settings that the model came with: `pooling`,
        `normalize`, `truncate_dim`, `max_length`, and `prompt` or
        `prompt_name`, the name of one of its prompts.

    Returns:
      float32 [width] for a single text, [texts, width] for a list.

    Raises:
      InputError: a text is no text.
      UserError: a setting is unknown, or the model is an ensemble.
    """
    if isinstance(texts, str):
      return self.embed([texts], **changes)[0]
    embedder = self._embedder(**changes)
    ((name, target),) = embedder.task.targets.items()
    _, found = embedder.predict(texts)
    if not found:
      return np.zeros((0, target.width(self.config)), np.float32)
    vectors = np.stack([vector[name] for vector in found])
    if changes.get("normalize") and target.truncate_dim:
      # Asked for in addition to the normalization of whole vectors.
      vectors /= np.maximum(np.linalg.norm(vectors, axis=-1)[:, None], 1e-12)
    return vectors

  def _embedder(self, **changes: Any) -> "Model":
    """A model for embeddings on the same encoder."""
    self._check_single("embed")
    own = [x for x in self.task.targets.values() if isinstance(x, Similarity)]
    target = own[0] if own else Similarity()
    inputs = self.task.inputs if own else Pairs()
    of_target = ("pooling", "normalize", "truncate_dim")
    known = dict.fromkeys((*of_target, "max_length", "prompt", "prompt_name"))
    for name in changes:
      settings.choice("embed: setting", name, known)
    if "prompt_name" in changes:
      name = changes.pop("prompt_name")
      # These two names sentence-transformers knows in every model.
      prompts = {"query": "", "document": "", **inputs.prompts}
      prompt = settings.choice("embed: prompt_name", str(name), prompts)
      changes.setdefault("prompt", prompt)
    given = {name: x for name, x in changes.items() if name in of_target}
    others = {name: x for name, x in changes.items() if name not in of_target}
    changed = settings.replace(target, given, "embed")
    if target.modules and len(changed.modes) != len(target.modes):
      raise UserError(
        f"embed.pooling: the model has layers after {len(target.modes)} pooling"
        f" modes, got {len(changed.modes)}"
      )
    inputs = settings.replace(inputs, others, "embed")
    task = dataclasses.replace(
      EMBEDDING,
      inputs=inputs,
      targets=dict.fromkeys(EMBEDDING.targets, changed),
    )
    key = json.dumps(task.state())
    if key not in self._embedders:
      names = {"encoder", *task.head_names.values()} & self.params.keys()
      self._embedders[key] = Model(
        task.bind(self.config, self.tokenizer),
        {name: self.params[name] for name in names},
        self.batch_size,
        self.mesh,
      )
    return self._embedders[key]

  @functools.cached_property
  def _embedders(self) -> dict[str, "Model"]:
    """Models for embeddings by their settings, so that each compiles once."""
    return {}

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
    task = self._embedder(prompt="").task
    _, made = _preprocess(task, texts)
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
      arrays = (batch.token_ids, batch.sequence_ids, *outputs)
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
    return Model(task, {**params, **known}, self.batch_size, self.mesh)

  def _check_single(self, what: str) -> None:
    if isinstance(self.module, Ensemble):
      raise UserError(
        f"{what}: the vectors of an ensemble's models cannot be averaged; use"
        " one of them, or a soup"
      )


def load(
  where: paths.Path,
  task: str | None = None,
  *,
  labels: Sequence[str] | Mapping[str, Sequence[str]] | None = None,
  num_labels: int | None = None,
  dtype: str | None = None,
  mesh: jax.sharding.Mesh | None = None,
  batch_size: int = 32,
  split_special_tokens: bool | None = None,
  ignore_unexpected: bool = False,
) -> Model:
  """Loads a model.

  >>> model = bert_jax.load("hf://sentence-transformers/all-MiniLM-L6-v2")
  >>> model = bert_jax.load("runs/base", "classification", num_labels=3)

  Warns where the task's head is not among the weights: it then has initial
  values.

  Args:
    where: the `--workdir` of a training run; a Hugging Face folder, or
      `hf://org/name[@revision]`; a BERT release of Google's, a folder or zip.
      All but `hf://` may be in an object store, `gs://...` or `s3://...`.
    task: a name in `bert_jax.tasks.TASKS`, or of a part of a multi-task model;
      by default the task that the model's head is for.
    labels: the names of the labels; for a task with several targets a list for
      each, by the target's name. A head with other numbers of labels is
      replaced by a new one.
    num_labels: the number of labels, of a new head `LABEL_0` and so on.
    dtype: what the encoder computes in, "float32" or "bfloat16"; by default
      that of the model. Parameters stay float32.
    mesh: a mesh with the axes `data`, `fsdp` and `model` to lay the
      parameters over and to split rows over; by default all local devices,
      each with a copy. A vocabulary that does not divide over it is padded;
      the outputs, and what is saved for Transformers, stay the same.
    batch_size: rows that go through the model at once, at most.
    split_special_tokens: whether a special token that is typed in a text, such
      as `[MASK]`, is text. By default as the folder's `tokenizer_config.json`
      says, and otherwise True for the model's own special tokens; False is the
      default of Transformers.
    ignore_unexpected: whether published weights that the model has no place for
      are left out, with a warning that lists them; else they are an error.

  Returns:
    The model; of a run, with the best checkpoint that verifies, or else the
    newest.

  Raises:
    UserError: there is no such model or task, or it is damaged or not
      supported.
  """
  pretrained = workdir.open_model(where, ignore_unexpected)
  if task in pretrained.task.parts:
    pretrained, task = pretrained.part(task), None
  if dtype is not None:
    config = settings.replace(pretrained.config, {"dtype": dtype}, "load")
    pretrained = dataclasses.replace(pretrained, config=config)
  if split_special_tokens is not None and pretrained.tokenizer is not None:
    changed = pretrained.tokenizer.with_split_special_tokens(
      split_special_tokens
    )
    pretrained = dataclasses.replace(pretrained, tokenizer=changed)
  pretrained = pretrained.for_task(task)
  made = pretrained.make_task(task)
  if num_labels is not None:
    if labels is not None or num_labels < 1:
      raise UserError(
        f"num_labels: expected at least 1 without labels, got {num_labels}"
      )
    labels = [f"LABEL_{id}" for id in range(num_labels)]
  if labels is not None:
    renamed = made.with_labels(labels)
    is_own = made.name == pretrained.task.name
    if is_own and renamed.num_outputs == made.num_outputs:
      renamed = made if num_labels is not None else renamed
      pretrained = dataclasses.replace(pretrained, task=renamed)
    made = renamed
  if mesh is None and jax.local_device_count() > 1:
    mesh = meshes.make_mesh(meshes.MeshConfig(), jax.local_devices())
  place = None
  if mesh is not None:
    layout = partitioning.Layout(mesh)
    config = partitioning.with_padded_vocabulary(layout, made.config)
    made = made.bind(config, made.tokenizer)
    place = functools.partial(partitioning.put_parameter, layout)
  params, newly_initialized = pretrained.params(made, place)
  if newly_initialized and labels is None:
    warnings.warn(
      f"{where} has no {', '.join(newly_initialized)} for the task"
      f" {made.name}: its values are random, and so are the answers, until it"
      " is trained",
      stacklevel=2,
    )
  return Model(made, params, batch_size, mesh)


def save(model: Model, folder: paths.Path, format: str = "huggingface") -> None:
  """Saves a model for others to load; all of it or nothing is written.

  Args:
    model: the model.
    folder: a new or an empty one, here or in an object store.
    format: `huggingface`, which Transformers (and sentence-transformers, for
      embeddings) opens with the same outputs; or `bert_jax`.

  Raises:
    UserError: the folder is not empty, the format has no such model, the
      folder cannot be written, or the model is an ensemble.
  """
  if isinstance(model.module, Ensemble):
    raise UserError(
      "an ensemble is several models, which no format holds in one folder;"
      " save each of them, or a soup"
    )
  write, marker = settings.choice("format", format, _FORMATS)
  folder = paths.as_path(folder)
  if paths.exists(folder) and (
    not paths.is_folder(folder) or paths.list_names(folder, None)
  ):
    raise UserError(f"{folder} is not empty; choose a new folder")
  try:
    with folders.atomic_folder(folder, last=marker) as here:
      write(model.task, model.params, here)
  except OSError as error:
    raise UserError(f"cannot write {folder}: {error}") from error


def _first_rows(arrays: Any, count: int) -> Any:
  return jax.tree.map(lambda x: x[:count], arrays)


def _preprocess(
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
