"""A task is data: inputs and named targets."""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Self

import numpy as np

from bert_jax import settings
from bert_jax.batch import Batch, Mean, Parameters, map_arrays
from bert_jax.data import grouping
from bert_jax.data.sources.labelled import Record
from bert_jax.models.config import EncoderConfig
from bert_jax.models.exits import Exits
from bert_jax.settings import UserError
from bert_jax.tasks import exits as early
from bert_jax.tasks.inputs import fields
from bert_jax.tasks.inputs.inputs import Inputs
from bert_jax.tasks.inputs.rows import PREFIX, Row
from bert_jax.tasks.metrics.labels import accuracy
from bert_jax.tasks.targets.labels import LabelledTarget
from bert_jax.tasks.targets.target import (
  Arrays,
  Records,
  Target,
  accepted,
  check_target,
)
from bert_jax.tasks.targets.view import View
from bert_jax.text.tokenizer import Tokenizer

Prediction = dict[str, Any]
"""The prediction of each target for one record, or one row."""
Predictions = Sequence[Prediction]
_NO_EXITS = Exits()


@dataclasses.dataclass(frozen=True, eq=False)
class Task:
  """What is learned and predicted: inputs and named targets.

  An entry of `TASKS` is not bound to an encoder; `bind` does that.

  Attributes:
    name: its key in `TASKS`.
    inputs: how a record becomes rows of ids.
    targets: what is predicted, by name.
    prefixed: whether losses and metrics begin with the target's name.
    fields: the fields of a record, in the order of a table without a header;
      by default those of the inputs, then those of the targets.
    architecture: the end of the class's name in Transformers, for targets
      that together are one of its classes.
    config: the encoder's configuration.
    tokenizer: text to ids; None where the data come as ids and no vocabulary
      was given.
    wrap: makes another module of the task's, as an ensemble does.
    exits: the early exits of the module.
  """

  name: str
  inputs: Inputs
  targets: Mapping[str, Target]
  prefixed: bool = False
  fields: tuple[str, ...] = ()
  architecture: str = ""
  config: EncoderConfig | None = None
  tokenizer: Tokenizer | None = None
  wrap: Callable[[Any], Any] | None = None
  exits: Exits = _NO_EXITS

  def __post_init__(self):
    for name, target in self.targets.items():
      check_target(name, target)
    if not self.architecture and len(self.targets) == 1:
      (target,) = self.targets.values()
      object.__setattr__(self, "architecture", target.ARCHITECTURE)

  @property
  def record_fields(self) -> tuple[str, ...]:
    """`fields`, or those of the inputs and targets: options change them."""
    given = [self.inputs, *self.targets.values()]
    names = dict.fromkeys(name for part in given for name in part.FIELDS)
    return self.fields or tuple(names)

  @property
  def parts(self) -> Mapping[str, "Task"]:
    """The tasks that share an encoder, in multi-task training."""
    return {}

  def bind(
    self, config: EncoderConfig | None, tokenizer: Tokenizer | None
  ) -> Self:
    """The task on an encoder, with the vocabulary that it was trained with."""
    return dataclasses.replace(self, config=config, tokenizer=tokenizer)

  def with_targets(self, targets: Mapping[str, Target]) -> Self:
    """The task with other targets of the same names."""
    return dataclasses.replace(self, targets=dict(targets))

  def with_labels(
    self, labels: Sequence[str] | Mapping[str, Sequence[str]]
  ) -> Self:
    """The task with other labels, whose head starts from initial values.

    Args:
      labels: their names; for several targets a list for each, by name.

    Raises:
      UserError: the task has no target with labels of that name.
    """
    known = {
      name: target
      for name, target in self.targets.items()
      if isinstance(target, LabelledTarget)
    }
    if not isinstance(labels, Mapping):
      if len(known) != 1:
        raise UserError(
          f"labels: the task {self.name} has {len(known)} targets with labels"
          f" ({', '.join(known) or 'none'}); give a list for each, by name"
        )
      labels = {next(iter(known)): labels}
    made = dict(self.targets)
    for name, names in labels.items():
      target = settings.choice(f"labels: {self.name}", name, known)
      if not names:
        raise UserError(f"labels: expected at least one for {name}, got none")
      made[name] = type(target)(labels=tuple(map(str, names)))
    return self.with_targets(made)

  @property
  def writes(self) -> bool:
    """Whether predictions are texts that are written token by token."""
    return any(target.WRITES for target in self.targets.values())

  @property
  def num_outputs(self) -> Mapping[str, int]:
    """The number of labels of each target."""
    return {name: target.num_outputs for name, target in self.targets.items()}

  # The module and its batches.

  @functools.cached_property
  def head_names(self) -> Mapping[str, str]:
    """For each target the name of its head's parameters.

    A single target has that of its class, as `classifier`; several have the
    names of the targets.
    """
    single = len(self.targets) == 1
    return {
      name: target.HEAD if single else name
      for name, target in self.targets.items()
    }

  @functools.cached_property
  def exit_names(self) -> Mapping[str, tuple[int, str]]:
    """The layer and the target of each early exit, by the head's name."""
    return early.names(self)

  def with_exits(self, exits: Exits) -> Self:
    """The task with early exits.

    Raises:
      UserError: see `exits.check`.
    """
    early.check(exits, self)
    return dataclasses.replace(self, exits=exits)

  @functools.cached_property
  def module(self) -> Any:
    """The Linen module: the encoder with a head for each target."""
    from bert_jax.models.heads import EncoderWithHeads  # Needs JAX.

    module = EncoderWithHeads(
      self.config,
      {self.head_names[name]: x.head for name, x in self.targets.items()},
      self.exits.layers(self.config),
    )
    return self.wrap(module) if self.wrap else module

  @functools.cached_property
  def dummy_batch(self) -> Batch:
    """An example of zeros, for the shapes of parameters and batches."""
    example = self.inputs.dummy_example()
    arrays = {
      f"{name}/{key}": array
      for name, target in self.targets.items()
      for key, array in target.dummy_arrays().items()
    }
    return dataclasses.replace(example, targets={**example.targets, **arrays})

  def init_params(self, key: Any, module: Any = None) -> Parameters:
    """The initial parameters; may be jitted or traced.

    Args:
      key: a JAX random key.
      module: another module for the same batches; by default the task's.
    """
    batch = map_arrays(lambda _, x: x[None], self.dummy_batch)
    module = self.module if module is None else module
    return module.init(key, batch)["params"]

  @functools.cached_property
  def axes(self) -> grouping.Axes:
    """How the arrays of examples are padded."""
    names = {"token": {PREFIX + name for name in self.inputs.ARRAYS}}
    for name, target in self.targets.items():
      for key, (_, axis) in target.array_specs.items():
        names.setdefault(axis, set()).add(f"{name}/{key}")
    return grouping.Axes(
      *(frozenset(names.get(x, ())) for x in ("token", "label", "slot"))
    )

  def axes_of(self, example: Batch) -> grouping.Axes:
    """How the arrays of an example like this are padded."""
    del example
    return self.axes

  def has_gold(self, record: Record) -> bool:
    """Whether the record has gold fields of some target."""
    return any(target.has_gold(record) for target in self.targets.values())

  def preprocess(
    self, record: Record, training: bool = False, labelled: bool | None = None
  ) -> list[Batch]:
    """The unbatched, unpadded examples of a record.

    Args:
      record: with the fields of the inputs, and gold fields if any.
      training: whether the examples are for training.
      labelled: whether gold fields must be there, or are ignored; None takes
        those that are, if the task does not write.

    Returns:
      One example, or one for each chunk of a long text.

    Raises:
      UserError: a field is missing, or has a wrong type or an unknown label;
        or there is no vocabulary.
    """
    return [row.example for row in self.rows(record, training, labelled)]

  @functools.cached_property
  def _room(self) -> int:
    """The tokens at the end of rows that are the targets'."""
    length = self.inputs.limit(self.config)
    return sum(target.room(length) for target in self.targets.values())

  @functools.cached_property
  def _own_inputs(self) -> Inputs:
    """The inputs, which leave room to the targets."""
    if not self._room:
      return self.inputs
    left = self.inputs.limit(self.config) - self._room
    return dataclasses.replace(self.inputs, max_length=left)

  def rows(
    self, record: Record, training: bool = False, labelled: bool | None = None
  ) -> list[Row]:
    """As `preprocess`, with where the tokens come from, and what was cut."""
    if self.tokenizer is None:
      raise UserError(
        "this model came without a vocabulary; for a run on ready-made"
        " records, name its folder as config.data.tokenizer"
      )
    gold = [
      name
      for name, target in self.targets.items()
      if (
        target.has_gold(record) and not target.WRITES
        if labelled is None
        else labelled
      )
    ]
    if gold:
      for name in self.inputs.NOT_BLANK:
        fields.content(record, name)
    rows = self._own_inputs.rows(record, self.tokenizer, self.config)
    for name in gold:
      extend = self.targets[name].extend
      rows = [
        extend(record, row, self._room, self.tokenizer, self.config)
        for row in rows
      ]
    for cut in rows[0].cuts if self.inputs.too_long == "fail" else ():
      raise UserError(
        f"the field {cut.field!r} has {cut.tokens} tokens, of which {cut.kept}"
        " fit"
      )
    arrays: list[dict[str, Any]] = [dict(row.example.targets) for row in rows]
    for name in gold:
      encoded = self.targets[name].encode(record, rows, training)
      for row, found in zip(arrays, encoded):
        row |= {f"{name}/{key}": array for key, array in found.items()}
    return [
      dataclasses.replace(
        row, example=dataclasses.replace(row.example, targets=found)
      )
      for row, found in zip(rows, arrays)
    ]

  def _joined(
    self, values: Iterable[tuple[str, Mapping[str, Any]]]
  ) -> dict[str, Any]:
    """The losses or metrics of all targets, each with its target's name."""
    return {
      f"{target}_{name}" if self.prefixed else name: value
      for target, own in values
      for name, value in own.items()
    }

  def _measured(
    self, method: str, outputs: Mapping[str, Any], batch: Batch
  ) -> dict[str, Mean]:
    """The means that a method of each target gives, of those with arrays."""
    return self._joined(
      (
        name,
        getattr(target, method)(outputs[self.head_names[name]], own, batch),
      )
      for name, target in self.targets.items()
      if (own := arrays_of(name, batch.targets))
    )

  def loss(self, outputs: Mapping[str, Any], batch: Batch) -> dict[str, Mean]:
    """Undivided means to be minimized, by name; their values are added.

    Where the outputs have those of early exits, see `exits.mean_loss`.
    """
    return early.mean_loss(
      {
        layers: self._measured("loss", own, batch)
        for layers, own in early.split(self, outputs).items()
      }
    )

  def metrics(
    self, outputs: Mapping[str, Any], batch: Batch
  ) -> dict[str, Mean]:
    """Further undivided means, by name; of early exits with their layers."""
    found = self._measured("metrics", outputs, batch)
    *others, _ = early.split(self, outputs).items()
    for layers, own in others:
      means = self._measured("metrics", own, batch)
      found |= {f"exit_{layers}_{name}": x for name, x in means.items()}
    return found

  def measured(self, outputs: Mapping[str, Any], batch: Batch) -> Any:
    """What evaluations while training move from the device, by head."""
    return {
      head: self.targets[name].measured(
        outputs[head], arrays_of(name, batch.targets), batch
      )
      for name, head in self.head_names.items()
    }

  # Prediction.

  @property
  def options(self) -> frozenset[str]:
    """The options of predictions, such as `top_k`."""
    return frozenset().union(*(x.options for x in self.targets.values()))

  def check_options(self, options: Mapping[str, Any]) -> None:
    """Refuses options that no target of the task has.

    Raises:
      UserError: one is unknown.
    """
    for name in options:
      settings.choice(
        f"the task {self.name}: option", name, dict.fromkeys(self.options)
      )

  def predict(
    self,
    outputs: Mapping[str, Any],
    batch: Batch,
    records: Records,
    **options: Any,
  ) -> list[Prediction]:
    """The arrays predicted for each row of a batch.

    Args:
      outputs: the module's.
      batch: the input; rows beyond the records are padding.
      records: of its rows.
      **options: of the targets' `predict`.
    """
    columns = {}
    for name, target in self.targets.items():
      own = accepted(target.predict, options)
      columns[name] = target.predict(
        outputs[self.head_names[name]], batch, records, self.tokenizer, **own
      )
    return [
      dict(zip(columns, row)) for row in zip(*columns.values(), strict=True)
    ]

  def merge(self, record: Record, predictions: Predictions) -> Prediction:
    """The prediction for a record, from those of its rows."""
    return {
      name: target.merge(record, [row[name] for row in predictions])
      for name, target in self.targets.items()
    }

  def decode(
    self, record: Record, prediction: Prediction, **options: Any
  ) -> Any:
    """The answer for people: of several targets one each, by name."""
    return self._answer(
      lambda name, target: target.decode(
        record,
        prediction[name],
        self.tokenizer,
        **accepted(target.decode, options),
      )
    )

  def _answer(self, decode: Callable[[str, Target], Any]) -> Any:
    answers = {name: decode(name, x) for name, x in self.targets.items()}
    return answers if self.prefixed else next(iter(answers.values()))

  def lines(self, answer: Any) -> list[str]:
    """An answer as lines of text, for a terminal."""
    if not self.prefixed:
      return next(iter(self.targets.values())).lines(answer)
    return [
      f"{name}: {line}"
      for name, target in self.targets.items()
      for line in target.lines(answer[name])
    ]

  # Evaluation on labelled records.

  @property
  def evaluation_options(self) -> dict[str, Any]:
    """The options of predictions that are to be evaluated."""
    options: dict[str, Any] = {}
    for target in self.targets.values():
      options |= target.EVALUATION_OPTIONS
    return options

  def evaluate(
    self, records: Records, predictions: Predictions
  ) -> dict[str, float]:
    """Corpus-level metrics; the first is what the task is known by.

    Of several targets each metric begins with the target's name, and
    `sentence_accuracy` is the share of records without any error, as Goo et
    al. (2018), "Slot-Gated Modeling for Joint Slot Filling and Intent
    Prediction", count it.
    """
    found = self._joined(self._each("evaluate", records, predictions).items())
    if len(self.targets) == 1:
      return found
    correct = [*self._each("correct", records, predictions).values()]
    return {"sentence_accuracy": accuracy(np.all(correct, axis=0)), **found}

  def _each(
    self, method: str, records: Records, predictions: Predictions
  ) -> dict[str, Any]:
    """The results of a method of each target, on its own predictions."""
    return {
      name: getattr(target, method)(records, [x[name] for x in predictions])
      for name, target in self.targets.items()
    }

  def unseen(self, records: Records) -> list[str]:
    """A line for each target about gold labels that the model cannot give."""
    return [
      f"{name}: the model has no label {', '.join(unseen):.80}; records with it"
      " count as errors"
      for name, target in self.targets.items()
      if (unseen := target.unseen(records))
    ]

  def baselines(self, records: Records) -> dict[str, float]:
    """The metrics of the best constant answers."""
    return self._joined(
      (k, x.baselines(records)) for k, x in self.targets.items()
    )

  def corpus_baselines(self, batches: Iterable[Batch]) -> dict[str, float]:
    """The same from the arrays of batches, or of unbatched examples."""
    flat: dict[str, np.ndarray] = {}
    made = [batch.targets for batch in batches]
    for key in made[0] if made else ():
      flat[key] = np.concatenate([np.ravel(arrays[key]) for arrays in made])
    return self._joined(
      (name, target.corpus_baselines(own))
      for name, target in self.targets.items()
      if (own := arrays_of(name, flat))
    )

  def tune(self, records: Records, predictions: Predictions) -> Self:
    """The task with thresholds fitted to evaluation records."""
    return self.with_targets(self._each("tune", records, predictions))

  def view(self, records: Records, predictions: Predictions) -> View:
    """What the evaluation page shows besides the metrics."""
    return View.joined(self._each("view", records, predictions))

  def summary(self, record: Record, prediction: Prediction) -> Any:
    """What an evaluation's `predictions.jsonl` holds of a record's answer."""
    return self._answer(
      lambda name, x: x.summary(record, prediction[name], self.tokenizer)
    )

  def files(self, records: Records, predictions: Predictions) -> dict[str, str]:
    """Further files of an evaluation, by their names."""
    found = self._each("files", records, predictions).values()
    return dict(itertools.chain.from_iterable(x.items() for x in found))

  # Checkpoints.

  def state(self) -> dict[str, Any]:
    """What a checkpoint keeps of the task, for JSON."""
    return {
      "name": self.name,
      "inputs": self.inputs.state(),
      "targets": {
        name: dataclasses.asdict(target)
        for name, target in self.targets.items()
      },
      **early.state(self.exits),
    }

  def with_state(self, state: Mapping[str, Any], where: str) -> Self:
    """The task as `state` kept it.

    Raises:
      UserError: the state is damaged, or of another task.
    """
    kept = state.get("targets")
    if not isinstance(kept, Mapping) or kept.keys() != self.targets.keys():
      raise UserError(
        f"{where}: expected the targets {', '.join(self.targets)}, got"
        f" {kept!r:.80}"
      )
    targets = {
      name: settings.from_dict(type(target), kept[name], f"{where}.{name}")
      for name, target in self.targets.items()
    }
    inputs = settings.from_dict(
      type(self.inputs), state.get("inputs", {}), f"{where}.inputs"
    )
    exits = settings.from_dict(Exits, state.get("exits", {}), f"{where}.exits")
    return dataclasses.replace(
      self, inputs=inputs, targets=targets, exits=exits
    )

  def for_published(self) -> Self:
    """The task of a published model, which says nothing of its inputs."""
    kept = {
      name: getattr(self.inputs, name) for name in self.inputs.TRAINING_ONLY
    }
    return dataclasses.replace(self, inputs=type(self.inputs)(**kept))

  def reuses(self, head: str, other: "Task") -> bool:
    """Whether a head of this task may take the parameters of another's.

    Args:
      head: the name of the parameters, such as `classifier` or `pooler`.
      other: the task that the parameters were trained for.
    """
    mine = early.targets(self)
    theirs = early.targets(other.bind(self.config, None))
    if head not in mine or mine[head].UNIVERSAL:
      return True
    return head in theirs and mine[head].same_outputs(theirs[head])

  def average(self, batch: Batch, members: Mapping[str, Any]) -> dict[str, Any]:
    """The outputs of an ensemble, from those of its members, stacked first."""
    return {
      head: self.targets[name].average(batch, members[head])
      for name, head in self.head_names.items()
    }


def arrays_of(target: str, arrays: Mapping[str, Any]) -> Arrays:
  """The arrays of one target in `Batch.targets`."""
  prefix = f"{target}/"
  return {
    key.removeprefix(prefix): array
    for key, array in arrays.items()
    if key.startswith(prefix)
  }
