"""What is predicted from an encoder's outputs: the base of all targets."""

import dataclasses
import inspect
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
from jaxtyping import Bool, Float

from bert_jax.batch import Array, Batch, Mean
from bert_jax.data.records import Splits
from bert_jax.data.sources.labelled import Record
from bert_jax.models.config import EncoderConfig
from bert_jax.tasks.inputs.rows import Row
from bert_jax.tasks.targets import losses
from bert_jax.tasks.targets.view import View
from bert_jax.text.tokenizer import Tokenizer

Arrays = Mapping[str, Any]
"""The arrays of one target in a batch, by their names."""
Means = dict[str, Mean]
"""Undivided means by name."""
Metrics = dict[str, float]
"""Metrics by name."""
Records = Sequence[Record]
Vocabulary = Tokenizer | None


def to_json(value: Any) -> Any:
  """The `default` of `json.dumps` for answers: dataclasses and arrays."""
  if isinstance(value, np.ndarray | np.generic):
    return value.tolist()
  return dataclasses.asdict(value)


def json_line(value: Any) -> str:
  """Answers and records as JSON; lone surrogates are escapes, as they came."""
  line = json.dumps(value, default=to_json, ensure_ascii=False)
  return line.encode("utf-8", "backslashreplace").decode()


class Target:
  """One thing that is predicted from the encoder's outputs.

  Subclasses are frozen dataclasses. Their fields are the options of
  `config.data.targets.NAME`, and what `fit` and `tune` learn from records; a
  checkpoint keeps them. `head`, `loss`, `predict` and `decode` must be
  defined; `arrays` (or `encode`) and `evaluate` to train on labelled records.

  From the model's outputs to the metrics everything is arrays: `predict` gives
  the arrays of each row, `merge` those of each record, and only `decode` makes
  answers with names.
  """

  REQUIRED: ClassVar[tuple[str, ...]] = ("head", "loss", "predict", "decode")
  """Methods that every target must define."""
  HEAD: ClassVar[str] = "classifier"
  """The name of the head's parameters where it is the only one of a task."""
  FIELDS: ClassVar[tuple[str, ...]] = ()
  """The gold fields of a record."""
  OPTIONAL: ClassVar[Collection[str]] = ()
  """Gold fields that a record may lack."""
  LISTS: ClassVar[Collection[str]] = ()
  """Gold fields that hold a list."""
  EVALUATED: ClassVar[tuple[str, ...]] = ()
  """Fields that evaluations use of models that were not trained on them."""
  ARRAYS: ClassVar[Mapping[str, tuple[Any, str]]] = {}
  """The arrays of an example, besides `weights`: their dtypes and axes.

  The axis is "token", "label", "slot" (of a number that varies), or "" for a
  scalar.
  """
  WEIGHTS: ClassVar[str] = ""
  """The axis of `weights`, float32."""
  EVALUATION_OPTIONS: ClassVar[Mapping[str, Any]] = {}
  """The options of `predict` and `decode` in evaluations."""
  TUNED: ClassVar[tuple[str, ...]] = ()
  """Fields that `tune` fits to evaluation records."""
  OUTPUTS: ClassVar[tuple[str, ...]] = ()
  """Fields that give each output its meaning, such as `labels`."""

  UNIVERSAL: ClassVar[bool] = False
  """Whether the head means the same in every model, as a masked-LM head."""

  WRITES: ClassVar[bool] = False
  """Whether predictions are texts that are written token by token.

  The model then reads rows without their gold fields.
  """

  AVERAGES: ClassVar[bool] = True
  """Whether the outputs of different models can be averaged."""

  EXITS: ClassVar[Collection[str]] = ()
  """How rows may leave a model early: `patience`, `entropy`.

  Of `same_answers` and `entropies` the target then has what this needs.
  """

  # Published checkpoints.
  ARCHITECTURE: ClassVar[str] = ""
  """The end of the class's name in Transformers; empty where it has none."""
  PROBLEM_TYPE: ClassVar[str] = ""
  """`problem_type` in config.json, where an architecture serves several."""

  # Training.

  def head(self, config: EncoderConfig) -> Any:
    """The head: a Linen module that maps `models.heads.Encoded` to outputs."""
    raise NotImplementedError

  def has_gold(self, record: Record) -> bool:
    """Whether the record has one of the gold fields."""
    return any(record.get(name) is not None for name in self.FIELDS)

  def gold(self, record: Record) -> Any:
    """The record's gold fields as arrays: ids of labels, numbers.

    Raises:
      UserError: a field is missing, of a wrong type, or an unknown label.
    """
    raise NotImplementedError

  def arrays(self, record: Record, training: bool) -> Arrays:
    """The arrays that a record's gold fields make, without weights.

    Args:
      record: has gold fields.
      training: whether the record is for training.

    Raises:
      UserError: as `gold`.
    """
    raise NotImplementedError

  def room(self, length: int) -> int:
    """The tokens at the end of a row that the inputs leave to the target.

    Args:
      length: the longest row.

    Raises:
      UserError: no room is left for inputs.
    """
    del length
    return 0

  def extend(
    self,
    record: Record,
    row: Row,
    room: int,
    tokenizer: Tokenizer,
    config: EncoderConfig,
  ) -> Row:
    """The row with further tokens, of the target itself; by default none.

    Args:
      record: has gold fields.
      row: of the record's inputs.
      room: the number of tokens that may be added, without masked copies.
      tokenizer: the tokenizer that the model was trained with.
      config: the encoder's configuration.

    Raises:
      UserError: as `gold`.
    """
    del record, room, tokenizer, config
    return row

  def encode(
    self, record: Record, rows: Sequence[Row], training: bool = False
  ) -> list[Arrays]:
    """The arrays that each of a record's rows learns from, with `weights`.

    By default these are `arrays` of the record, and only the first row of
    several chunks has weight 1.

    Args:
      record: has gold fields.
      rows: of the record.
      training: whether the rows are for training; evaluations weight all
        records alike.

    Raises:
      UserError: as `gold`.
    """
    one, none = np.ones((), np.float32), np.zeros((), np.float32)
    arrays = {"weights": one, **self.arrays(record, training)}
    return [arrays] + [{**arrays, "weights": none}] * (len(rows) - 1)

  @property
  def array_specs(self) -> Mapping[str, tuple[Any, str]]:
    """The dtypes and axes of all arrays."""
    return {**self.ARRAYS, "weights": (np.float32, self.WEIGHTS)}

  @property
  def num_outputs(self) -> int:
    """The size of the axis "label"."""
    return 1

  def dummy_arrays(self) -> Arrays:
    """Zeros of the shapes that `encode` gives for a row of 4 tokens."""
    shapes = {"": (), "slot": (1,), "token": (4,), "label": (self.num_outputs,)}
    return {
      name: np.zeros(shapes[axis], dtype)
      for name, (dtype, axis) in self.array_specs.items()
    }

  def loss(self, outputs: Any, arrays: Arrays, batch: Batch) -> Means:
    """Undivided means to be minimised; their values are added.

    A mean's weight depends on the batch alone and never on the outputs.
    """
    raise NotImplementedError

  def metrics(self, outputs: Any, arrays: Arrays, batch: Batch) -> Means:
    """Further undivided means, such as the accuracy of a batch."""
    del outputs, arrays, batch
    return {}

  def measured(self, outputs: Any, arrays: Arrays, batch: Batch) -> Any:
    """What evaluations while training move from the device; by default all.

    It goes to `predict` in place of the outputs.
    """
    del arrays, batch
    return outputs

  def fit(self, records: Splits, pretrained: Self | None) -> Self:
    """The target with labels or scales from the training records.

    Args:
      records: the labelled records.
      pretrained: the same kind of target of the initial model, if it has one;
        its labels stay where they cover the records, so that the weights keep
        their meaning.
    """
    del records, pretrained
    return self

  # A student that learns from a teacher.

  @property
  def taught_axis(self) -> str:
    """What the last axis of `taught` has entries for: "token", "slot" or ""."""
    return self.WEIGHTS

  def taught(self, outputs: Any, batch: Batch) -> Array:
    """What a student learns from the outputs of this target's model.

    By default these are logits of classes.
    """
    del batch
    return outputs.swapaxes(-1, -2) if self.taught_axis else outputs

  def soft_loss(
    self,
    outputs: Any,
    taught: Array,
    arrays: Arrays,
    batch: Batch,
    temperature: float,
  ) -> Mean:
    """How far a student's outputs are from its teacher's; 0 if they are equal.

    By default the divergence of the probabilities of classes, in nats.

    Args:
      outputs: the student's.
      taught: the teacher's `taught`.
      arrays: as of `loss`.
      batch: the input.
      temperature: that logits are divided by; of no meaning for numbers.
    """
    del batch
    taught = taught.swapaxes(-1, -2) if self.taught_axis else taught
    values = losses.divergence(outputs, taught, temperature)
    return losses.mean(values, arrays["weights"])

  def teaches(self, student: "Target") -> bool:
    """Whether each output of this target means the same in a student's."""
    return self.same_outputs(student)

  # Prediction and evaluation.

  @property
  def options(self) -> frozenset[str]:
    """The options of predictions: by default those of `predict` and `decode`.

    Those of a target that `WRITES` are the fields of a `GenerationConfig`.
    """
    return options_of(self.predict) | options_of(self.decode)

  def predict(
    self, outputs: Any, batch: Batch, records: Records, tokenizer: Vocabulary
  ) -> list[Any]:
    """NumPy arrays for each of the batch's first `len(records)` rows."""
    raise NotImplementedError

  def merge(self, record: Record, predictions: Sequence[Any]) -> Any:
    """The prediction for a record, from those of its rows."""
    del record
    return predictions[0]

  def decode(
    self, record: Record, prediction: Any, tokenizer: Vocabulary
  ) -> Any:
    """The answer for people, with names."""
    raise NotImplementedError

  def correct(
    self, records: Records, predictions: Sequence[Any]
  ) -> Bool[np.ndarray, " records"]:
    """Which records are predicted without any error."""
    raise NotImplementedError

  def evaluate(self, records: Records, predictions: Sequence[Any]) -> Metrics:
    """Corpus-level metrics; the first one is what the target is known by."""
    raise NotImplementedError

  def unseen(self, records: Records) -> tuple[str, ...]:
    """The gold labels of evaluation records that the model does not know."""
    del records
    return ()

  def baselines(self, records: Records) -> Metrics:
    """The metrics of the best constant answer, `METRIC_KIND_baseline`."""
    del records
    return {}

  def corpus_baselines(self, arrays: Arrays) -> Metrics:
    """The same from flat arrays of all batches, where there are no records."""
    del arrays
    return {}

  def tune(self, records: Records, predictions: Sequence[Any]) -> Self:
    """The target with thresholds fitted to evaluation records."""
    del records, predictions
    return self

  def average(self, batch: Batch, members: Array) -> Array:
    """The outputs of an ensemble, from those of its members, stacked first.

    By default the log of the mean probabilities, of classes on the last axis.
    """
    del batch
    return losses.log_mean(losses.log_softmax(members))

  # Early exits; see `models.exits.Exits`.

  def same_answers(
    self, outputs: Any, others: Any, batch: Batch, tolerance: float
  ) -> Bool[Array, " rows"]:
    """Whether the outputs of two exits mean the same answer, for each row.

    Args:
      outputs: of one exit, arrays of NumPy or JAX.
      others: of another.
      batch: the input.
      tolerance: of numbers, see `Exits`.
    """
    raise NotImplementedError

  def entropies(self, outputs: Any, batch: Batch) -> Float[Array, " rows"]:
    """The entropy of each row's answer in nats, of several the greatest."""
    raise NotImplementedError

  def lines(self, answer: Any) -> list[str]:
    """An answer as lines of text, for a terminal."""
    parts = answer if isinstance(answer, list) else [answer]
    return list(map(json_line, parts))

  # The evaluation's files and page.

  def view(self, records: Records, predictions: Sequence[Any]) -> View:
    """What the evaluation page shows besides the metrics."""
    del records, predictions
    return View()

  def summary(
    self, record: Record, prediction: Any, tokenizer: Vocabulary
  ) -> Any:
    """What `predictions.jsonl` of an evaluation holds of an answer."""
    options = accepted(self.decode, self.EVALUATION_OPTIONS)
    return self.decode(record, prediction, tokenizer, **options)

  def files(
    self, records: Records, predictions: Sequence[Any]
  ) -> dict[str, str]:
    """Further files of an evaluation, by their names."""
    del records, predictions
    return {}

  # Published checkpoints.

  def same_outputs(self, other: "Target") -> bool:
    """Whether each output means the same in another target."""
    return type(self) is type(other) and all(
      getattr(self, name) == getattr(other, name) for name in self.OUTPUTS
    )

  @classmethod
  def reads_huggingface(cls, config: Mapping[str, Any], where: str) -> bool:
    """Whether a config.json with this architecture is of this target."""
    del config, where
    return True

  @classmethod
  def from_huggingface(cls, config: Mapping[str, Any], where: str) -> Self:
    """The target that a config.json describes.

    Raises:
      UserError: it is damaged.
    """
    del config, where
    return cls()

  def to_huggingface(self) -> dict[str, Any]:
    """The keys of config.json that describe the target."""
    return {}

  def huggingface_params(self, head: Any) -> Any:
    """The output layer's parameters as Transformers' outputs need them."""
    return head


def options_of(method: Callable[..., Any]) -> frozenset[str]:
  """The names of a method's arguments that have a default."""
  parameters = inspect.signature(method).parameters.values()
  return frozenset(
    p.name for p in parameters if p.default is not inspect.Parameter.empty
  )


def accepted(
  method: Callable[..., Any], options: Mapping[str, Any]
) -> dict[str, Any]:
  """Those of the options that a method takes."""
  known = options_of(method)
  return {name: value for name, value in options.items() if name in known}


def check_target(name: str, target: Any) -> None:
  """Refuses a target that lacks a method.

  Raises:
    TypeError: the message names what is missing.
  """
  missing = [
    method
    for method in Target.REQUIRED
    if getattr(type(target), method, None) in (None, getattr(Target, method))
  ]
  if not isinstance(target, Target) or missing:
    raise TypeError(
      f"target {name!r}: {type(target).__name__} lacks"
      f" {', '.join(missing) or 'the base class Target'}; see"
      " bert_jax.tasks.targets.target.Target"
    )
  if not dataclasses.is_dataclass(target):
    raise TypeError(
      f"target {name!r}: {type(target).__name__} is not a dataclass; decorate"
      " it with @dataclasses.dataclass(frozen=True)"
    )
