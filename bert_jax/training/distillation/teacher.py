"""The teacher: models whose outputs become targets of a batch."""

import dataclasses
import functools
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Self

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array

from bert_jax.interop.pretrained import Pretrained
from bert_jax.models.exits import Exits
from bert_jax.settings import UserError
from bert_jax.tasks import EMBEDDING
from bert_jax.tasks.data import TrainingData
from bert_jax.tasks.ensembles import Ensemble, member_name
from bert_jax.tasks.multi_task import MultiTask
from bert_jax.tasks.task import Task
from bert_jax.text.tokenizer import Tokenizer, fingerprint
from bert_jax.training import workdir
from bert_jax.training.distillation import features, objective
from bert_jax.training.distillation.config import TeacherConfig
from bert_jax.training.mesh import meshes, partitioning
from bert_jax.types import Batch, Parameters

_WHERE = "config.teacher.models"


def open_models(config: TeacherConfig, task: str) -> list[Pretrained]:
  """Opens the teachers; their weights are not read yet.

  Args:
    config: names them.
    task: the name of the student's task.

  Raises:
    UserError: there is no such model.
  """
  found = []
  for where in config.models:
    try:
      found.append(workdir.open_model(where).for_task(task))
    except UserError as error:
      raise UserError(f"{_WHERE}: {error}") from error
  return found


def known_task(student: Task | None, teacher: Pretrained) -> Task:
  """The task whose labels a student takes over where they cover its records.

  Args:
    student: the task of its initial model, if there is one.
    teacher: has outputs for them.
  """
  task = teacher.task
  if student is None or student.name != task.name or task.parts:
    return task
  # What has no labels, such as pooling, is as in the initial model.
  own = {
    name: target if target.OUTPUTS else student.targets[name]
    for name, target in task.targets.items()
  }
  return student.with_targets(own)


def check_vocabulary(
  models: Sequence[Pretrained], tokenizer: Tokenizer | None, vocab_size: int
) -> None:
  """Refuses teachers that read other ids than their student.

  Args:
    models: the teachers.
    tokenizer: the student's.
    vocab_size: the student's.

  Raises:
    UserError: the vocabulary of a teacher is another.
  """
  for model in models:
    if tokenizer is None or model.tokenizer is None:
      differs = model.config.vocab_size != vocab_size
    else:
      differs = fingerprint(model.tokenizer) != fingerprint(tokenizer)
    if differs:
      raise UserError(
        f"{_WHERE}: the vocabulary of {model.where} is not the student's"
      )


def observed(task: Task, config: TeacherConfig, teacher: Pretrained) -> Task:
  """The student's task, whose module also gives the features that it learns.

  Raises:
    UserError: the layers or heads of the two do not fit.
  """
  plan = features.plan(config, task.config, teacher.config)
  if plan.student == features.Wanted():
    return task
  inner = task.wrap or (lambda module: module)

  def wrap(module: Any) -> features.Observed:
    return features.Observed(
      inner(module), task.config, plan.student, plan.width
    )

  return dataclasses.replace(task, wrap=wrap)


class _Member(NamedTuple):
  task: Task
  params: Parameters
  checksum: str


class Teacher:
  """Adds what a teacher makes of batches to their targets.

  Attributes:
    task: its task, or that of the first of several.
    plan: the features that a student learns.
    checksum: of its parameters, and of what it gives.
    mesh: the devices that its parameters lie on.
  """

  def __init__(
    self,
    task: Task,
    module: Any,
    params: Parameters,
    plan: features.Plan,
    mesh: jax.sharding.Mesh,
    checksum: str,
    has_soft: bool,
  ):
    """Compiles nothing yet; see `load`."""
    self.task, self.plan, self.mesh = task, plan, mesh
    self.checksum = checksum
    self._params = params

    def apply(params: Parameters, batch: Batch) -> dict[str, Array]:
      length, most = batch.token_ids.shape[-1], task.config.max_positions
      if length > most:
        raise UserError(
          f"{_WHERE}: rows have {length} tokens, but the teacher takes at most"
          f" {most}"
        )
      outputs = module.apply({"params": params}, batch)
      return objective.taught(task, outputs, batch, has_soft)

    rows = NamedSharding(mesh, meshes.ROWS)
    self._split = jax.jit(apply, out_shardings=rows)
    everywhere = NamedSharding(mesh, PartitionSpec())
    self._whole = jax.jit(apply, out_shardings=everywhere)

  @classmethod
  def load(
    cls,
    config: TeacherConfig,
    models: Sequence[Pretrained],
    student: Task,
    layout: partitioning.Layout,
  ) -> Self:
    """Reads the parameters of the teachers.

    Args:
      config: the weights of what is learned.
      models: the opened teachers, one or more.
      student: its task, fitted to the records.
      layout: where the parameters lie.

    Raises:
      UserError: a teacher has no outputs for the student's targets, or they
        mean something else; several cannot be averaged.
    """
    has_soft = config.soft > 0
    plan = features.plan(config, student.config, models[0].config)
    members = [_read(model, student, layout, has_soft) for model in models]
    first = members[0]
    module, params = first.task.module, first.params
    if len(members) > 1:
      _check_average(student)
      modules = tuple(member.task.module for member in members)
      module = Ensemble(modules, first.task)
      params = {member_name(i): x.params for i, x in enumerate(members)}
    if plan.teacher != features.Wanted():
      module = features.Observed(module, first.task.config, plan.teacher)
    identity = ([x.checksum for x in members], plan.teacher, has_soft)
    checksum = hashlib.sha256(repr(identity).encode()).hexdigest()
    shortest = min((x.task for x in members), key=_max_positions)
    task = first.task.bind(shortest.config, first.task.tokenizer)
    return cls(task, module, params, plan, layout.mesh, checksum, has_soft)

  def __call__(self, batch: Batch) -> Batch:
    """A batch on the mesh with the outputs, split as its rows are."""
    with jax.set_mesh(self.mesh):
      found = self._split(self._params, batch)
    return dataclasses.replace(batch, targets={**batch.targets, **found})

  def identified(self, data: TrainingData) -> TrainingData:
    """The training data, whose fingerprint is that of the teacher too."""
    return dataclasses.replace(
      data, fingerprint=lambda: f"{data.fingerprint()} {self.checksum}"
    )

  def outputs(self, batch: Batch) -> Mapping[str, np.ndarray]:
    """The outputs for a batch of NumPy arrays, by their names in `targets`.

    Every process has the whole batch, and gets all outputs.
    """
    with jax.set_mesh(self.mesh):
      found = self._whole(self._params, meshes.put_batch(batch, self.mesh))
    return jax.device_get(found)


def _max_positions(task: Task) -> int:
  return task.config.max_positions


def _read(
  model: Pretrained,
  student: Task,
  layout: partitioning.Layout,
  has_soft: bool,
) -> _Member:
  """Reads one teacher, with the heads that the student's targets need."""
  config = partitioning.with_padded_vocabulary(layout, model.config)
  task = EMBEDDING
  if has_soft:
    task = _teaching(student, model.task, model.where)
  task = task.bind(config, model.tokenizer)
  digests = {}

  def place(path: str, array: np.ndarray) -> Any:
    digests[path] = hashlib.sha256(np.ascontiguousarray(array)).hexdigest()
    return partitioning.put_parameter(layout, path, array)

  params, new = model.params(task, place)
  if new:
    raise UserError(
      f"{_WHERE}: {model.where} has no {', '.join(new)} for the task"
      f" {student.name}"
    )
  names = jax.eval_shape(functools.partial(task.init_params, jax.random.key(0)))
  params = {name: params[name] for name in names}
  checksum = hashlib.sha256(repr(sorted(digests.items())).encode())
  return _Member(task, params, checksum.hexdigest())


def _teaching(student: Task, teacher: Task, where: str) -> Task:
  """The student's task with the targets of its teacher.

  Raises:
    UserError: outputs of a target mean something else.
  """
  if isinstance(student, MultiTask):
    tasks = {
      name: _teaching(part, teacher.parts.get(name, part), where)
      for name, part in student.parts.items()
    }
    return dataclasses.replace(student, tasks=tasks, wrap=None)
  targets = dict(student.targets)
  if teacher.name == student.name:
    targets = dict(teacher.targets)
  for name, target in targets.items():
    own = student.targets[name]
    if not target.teaches(own):
      raise UserError(
        f"{_WHERE}: {name} of {where} is {_outputs(target)}, but of the student"
        f" {_outputs(own)}"
      )
  return dataclasses.replace(student, targets=targets, wrap=None, exits=Exits())


def _outputs(target: Any) -> str:
  """What the outputs of a target are, for messages."""
  if names := [*getattr(target, "names", ())]:
    return f"{', '.join(names):.100}"
  return f"{target!r:.100}"


def _check_average(task: Task) -> None:
  for own in task.parts.values() or [task]:
    for name, target in own.targets.items():
      if not target.AVERAGES:
        raise UserError(
          f"{_WHERE}: {name} of several models cannot be averaged; name one"
        )
