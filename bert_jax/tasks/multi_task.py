"""Several tasks on one encoder, each with its own heads.

Liu et al. 2019 (MT-DNN, arXiv:1901.11504): each batch is of one task, drawn
in proportion to the task's size to the power of 1/temperature. The parameters
are those of the shared `encoder`, and under each task's name those of its
heads. A record says by its field `task` which one it is for, a batch by its
static attribute `task`. A head that a batch is not for gets gradients of zero,
and Adam's moments still move it a little.
"""

import dataclasses
import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Self

import numpy as np

from bert_jax import settings
from bert_jax.batch import Batch, Mean, Parameters, map_arrays
from bert_jax.data import grouping
from bert_jax.data.sources.labelled import Record
from bert_jax.models.config import EncoderConfig
from bert_jax.settings import UserError
from bert_jax.tasks.inputs.inputs import Inputs
from bert_jax.tasks.targets.target import Records
from bert_jax.tasks.targets.view import View
from bert_jax.tasks.task import Prediction, Predictions, Task
from bert_jax.text.tokenizer import Tokenizer

ENCODER = "encoder"
NAME = "multi_task"


@dataclasses.dataclass(frozen=True, eq=False)
class MultiTaskModule:
  """The modules of several tasks, which share their encoder's parameters.

  Attributes:
    modules: by the tasks' names.
    dummies: an example for each.
  """

  modules: Mapping[str, Any]
  dummies: Mapping[str, Batch]

  def init(self, key: Any, batch: Batch) -> Mapping[str, Parameters]:
    """`{"params": ...}` with initial values, whichever task the batch is of."""
    del batch
    import jax

    params: dict[str, Any] = {}
    for number, (name, module) in enumerate(self.modules.items()):
      dummy = map_arrays(lambda _, x: x[None], self.dummies[name])
      own_key = jax.random.fold_in(key, number)
      made = dict(module.init(own_key, dummy)["params"])
      params.setdefault(ENCODER, made.pop(ENCODER))
      params[name] = made
    return {"params": params}

  def clone(self, *, config: EncoderConfig) -> Self:
    """The same heads on another encoder."""
    modules = {name: x.clone(config=config) for name, x in self.modules.items()}
    return dataclasses.replace(self, modules=modules)

  def apply(
    self, variables: Mapping[str, Parameters], batch: Batch, **kwargs: Any
  ) -> Any:
    """The outputs of the task that the batch is of."""
    params = variables["params"]
    own = {ENCODER: params[ENCODER], **params[batch.task]}
    return self.modules[batch.task].apply({"params": own}, batch, **kwargs)


@dataclasses.dataclass(frozen=True, eq=False)
class MultiTask(Task):
  """Several tasks on one encoder; its interface is that of a task.

  Attributes:
    tasks: by the user's names.
  """

  name: str = NAME
  inputs: Inputs = dataclasses.field(default_factory=Inputs)
  targets: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  tasks: Mapping[str, Task] = dataclasses.field(default_factory=dict)

  @property
  def parts(self) -> Mapping[str, Task]:
    """The tasks by name."""
    return self.tasks

  def _each(self, change: Any) -> Self:
    tasks = {name: change(name, task) for name, task in self.tasks.items()}
    return dataclasses.replace(self, tasks=tasks)

  def bind(
    self, config: EncoderConfig | None, tokenizer: Tokenizer | None
  ) -> Self:
    bound = self._each(lambda _, task: task.bind(config, tokenizer))
    return dataclasses.replace(bound, config=config, tokenizer=tokenizer)

  def with_labels(self, labels: Any) -> Self:
    """Refuses: the labels of one part are those of `part.with_labels`."""
    raise UserError(
      "labels: the model is for several tasks; load one of"
      f" {', '.join(self.tasks)} by task="
    )

  @functools.cached_property
  def module(self) -> MultiTaskModule:
    """The modules of the tasks, on one encoder."""
    module = MultiTaskModule(
      {name: task.module for name, task in self.tasks.items()},
      {name: task.dummy_batch for name, task in self.tasks.items()},
    )
    return self.wrap(module) if self.wrap else module

  @functools.cached_property
  def dummy_batch(self) -> Batch:
    """An example of the first task."""
    name, task = next(iter(self.tasks.items()))
    return dataclasses.replace(task.dummy_batch, task=name)

  def axes_of(self, example: Batch) -> grouping.Axes:
    """Those of the example's task."""
    return self.of(example).axes

  def of(self, batch: Batch) -> Task:
    """The task that a batch is of."""
    return self.tasks[batch.task]

  def _named_task(self, record: Record) -> str:
    name = str(record.get("task", ""))
    settings.choice("task", name, self.tasks)
    return name

  def has_gold(self, record: Record) -> bool:
    return self.tasks[self._named_task(record)].has_gold(record)

  def preprocess(
    self, record: Record, training: bool = False, labelled: bool | None = None
  ) -> list[Batch]:
    """As in `Task`, by the task that the record's field `task` names."""
    name = self._named_task(record)
    if labelled is None and self.tasks[name].writes:
      raise UserError(
        f"the task {name} writes, which a model for several tasks does not;"
        f" load it alone, with task={name!r}"
      )
    made = self.tasks[name].preprocess(record, training, labelled)
    return [dataclasses.replace(example, task=name) for example in made]

  def loss(self, outputs: Any, batch: Batch) -> dict[str, Mean]:
    """The losses of the batch's task, `NAME/LOSS`."""
    return _prefixed(batch.task, self.of(batch).loss(outputs, batch))

  def metrics(self, outputs: Any, batch: Batch) -> dict[str, Mean]:
    """The metrics of the batch's task, `NAME/METRIC`."""
    return _prefixed(batch.task, self.of(batch).metrics(outputs, batch))

  def measured(self, outputs: Any, batch: Batch) -> Any:
    return self.of(batch).measured(outputs, batch)

  @property
  def options(self) -> frozenset[str]:
    """The options of any of the tasks."""
    return frozenset().union(*(task.options for task in self.tasks.values()))

  @property
  def evaluation_options(self) -> dict[str, Any]:
    """Those of all tasks together."""
    options: dict[str, Any] = {}
    for task in self.tasks.values():
      options |= task.evaluation_options
    return options

  def predict(
    self, outputs: Any, batch: Batch, records: Records, **options: Any
  ) -> list[Prediction]:
    """As in `Task`, by the batch's task."""
    return self.of(batch).predict(outputs, batch, records, **options)

  def merge(self, record: Record, predictions: Predictions) -> Prediction:
    return self.tasks[record["task"]].merge(record, predictions)

  def decode(
    self, record: Record, prediction: Prediction, **options: Any
  ) -> Any:
    return self.tasks[record["task"]].decode(record, prediction, **options)

  def _shares(
    self, records: Records, *columns: Sequence[Any]
  ) -> Iterator[tuple[str, Task, list[list[Any]]]]:
    """The tasks that there are records for, with their share of columns."""
    for name, task in self.tasks.items():
      own = [i for i, record in enumerate(records) if record["task"] == name]
      if own:
        shares = ([column[i] for i in own] for column in (records, *columns))
        yield name, task, list(shares)

  def evaluate(
    self, records: Records, predictions: Predictions
  ) -> dict[str, float]:
    """The metrics of every task, `NAME/METRIC`, and their `mean`.

    The mean is that of the first metric of each task.
    """
    found, firsts = {}, []
    for name, task, share in self._shares(records, predictions):
      own = task.evaluate(*share)
      firsts.append(next(iter(own.values())))
      found |= _prefixed(name, own)
    return {"mean": float(np.mean(firsts)), **found}

  def baselines(self, records: Records) -> dict[str, float]:
    """As in `Task`, `NAME/METRIC`."""
    found = {}
    for name, task, (own,) in self._shares(records):
      found |= _prefixed(name, task.baselines(own))
    return found

  def corpus_baselines(self, batches: Iterable[Batch]) -> dict[str, float]:
    """As in `Task`, `NAME/METRIC`."""
    given: dict[str, list[Batch]] = {}
    for batch in batches:
      given.setdefault(batch.task, []).append(batch)
    found = {}
    for name, own in given.items():
      found |= _prefixed(name, self.tasks[name].corpus_baselines(own))
    return found

  def tune(self, records: Records, predictions: Predictions) -> Self:
    tuned = dict(self.tasks)
    for name, task, share in self._shares(records, predictions):
      tuned[name] = task.tune(*share)
    return dataclasses.replace(self, tasks=tuned)

  def view(self, records: Records, predictions: Predictions) -> View:
    return View.joined(
      {
        name: task.view(*share)
        for name, task, share in self._shares(records, predictions)
      }
    )

  def state(self) -> dict[str, Any]:
    tasks = {name: task.state() for name, task in self.tasks.items()}
    return {"name": self.name, "tasks": tasks}

  def average(self, batch: Batch, members: Any) -> Any:
    return self.of(batch).average(batch, members)


def _prefixed(name: str, values: Mapping[str, Any]) -> dict[str, Any]:
  return {f"{name}/{key}": value for key, value in values.items()}
