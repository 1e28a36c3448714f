"""The loss of a student."""

from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from bert_jax.tasks import exits
from bert_jax.tasks.targets import losses
from bert_jax.tasks.task import Task, arrays_of
from bert_jax.training.distillation import features
from bert_jax.training.distillation.config import TeacherConfig
from bert_jax.types import Batch, Mean

PREFIX = "teacher/"
"""What the names of a teacher's outputs in `Batch.targets` begin with.

After it comes `outputs/TARGET`, `hidden_states` or `relations`. Where there is
an axis of tokens or slots, it is the last one.
"""


def outputs_name(target: str) -> str:
  """The name in `Batch.targets` of what a target learns."""
  return f"{PREFIX}outputs/{target}"


def part(task: Task, batch: Batch) -> Task:
  """The task that a batch is of."""
  return task.parts.get(batch.task, task)


def taught(
  task: Task, outputs: Mapping[str, Any], batch: Batch, has_soft: bool
) -> dict[str, Array]:
  """A teacher's outputs as further targets of its batch, in float32.

  Args:
    task: the teacher's.
    outputs: of its module, which may have features.
    batch: the input.
    has_soft: whether the outputs of heads are among them.
  """
  found, own = {}, part(task, batch)
  for name, target in own.targets.items() if has_soft else ():
    if arrays_of(name, batch.targets):
      array = target.taught(outputs[own.head_names[name]], batch)
      found[outputs_name(name)] = array
  for name, array in outputs.get(features.NAME, {}).items():
    found[f"{PREFIX}{name}"] = array.swapaxes(-1, -2)
  return {name: array.astype(jnp.float32) for name, array in found.items()}


def hidden_loss(
  student: Float[Array, "*rows states length width"],
  teacher: Float[Array, "*rows states length width"],
  sequence_ids: Int[Array, "*rows length"],
) -> Mean:
  """The squared difference of hidden states, the mean over their entries."""
  errors = (student.astype(jnp.float32) - teacher) ** 2
  used = (sequence_ids > 0).astype(jnp.float32)
  return losses.mean(errors.mean((-3, -1)), used)


def relations_loss(
  student: Float[Array, "*rows kinds length width"],
  teacher: Float[Array, "*rows kinds length other_width"],
  sequence_ids: Int[Array, "*rows length"],
  heads: int,
) -> Mean:
  """The divergence of the relations of tokens, in nats.

  For each token and head, the probabilities are a softmax over the tokens of
  its sequence; the mean over tokens and heads, the sum over queries, keys and
  values (Wang et al. 2021, arXiv:2012.15828, equations 3 to 6).
  """
  used = sequence_ids > 0
  same = sequence_ids[..., :, None] == sequence_ids[..., None, :]
  same = (same & used[..., None, :])[..., None, None, :, :]
  logits, taught = (
    losses.only(same, features.relation_logits(x, heads))
    for x in (student, teacher)
  )
  values = losses.divergence(logits, taught, 1.0).mean(-2).sum(-2)
  return losses.mean(values, used.astype(jnp.float32))


def _soft_losses(
  task: Task, outputs: Mapping[str, Any], batch: Batch, temperature: float
) -> dict[str, Mean]:
  """How far the outputs of one exit are from the teacher's."""
  found = {}
  for name, target in task.targets.items():
    if (taught := batch.targets.get(outputs_name(name))) is None:
      continue
    several = len(task.targets) > 1
    found[f"{name}_soft_loss" if several else "soft_loss"] = target.soft_loss(
      outputs[task.head_names[name]],
      taught,
      arrays_of(name, batch.targets),
      batch,
      temperature,
    )
  return found


def make_loss(
  task: Task, config: TeacherConfig, heads: int
) -> Callable[[Mapping[str, Any], Batch], dict[str, Mean]]:
  """The loss of a student, for `train`.

  Its terms are `gold_NAME` for each of the task's losses, `soft_loss`,
  `hidden_loss` and `relations_loss`, times their weights; with the name of the
  target before `soft_loss` if there are several, and in multi-task training
  that of the task before all. Early exits learn from the teacher's last one.

  Args:
    task: the student's.
    config: the weights and the temperature.
    heads: the number of relation heads.
  """

  def loss(outputs: Mapping[str, Any], batch: Batch) -> dict[str, Mean]:
    own, found = part(task, batch), {}

    def add(name: str, weight: float, mean: Mean) -> None:
      name = f"{batch.task}/{name}" if batch.task else name
      found[name] = mean._replace(total=weight * mean.total)

    if config.gold:
      for name, mean in own.loss(outputs, batch).items():
        add(f"gold_{name}", config.gold, mean)
    if config.soft:
      each = {
        layers: _soft_losses(own, x, batch, config.temperature)
        for layers, x in exits.split(own, outputs).items()
      }
      for name, mean in exits.mean_loss(each).items():
        add(name, config.soft, mean)
    seen = outputs.get(features.NAME, {})
    if config.hidden:
      teacher = batch.targets[f"{PREFIX}hidden_states"].swapaxes(-1, -2)
      mean = hidden_loss(seen["hidden_states"], teacher, batch.sequence_ids)
      add("hidden_loss", config.hidden, mean)
    if config.relations:
      teacher = batch.targets[f"{PREFIX}relations"].swapaxes(-1, -2)
      mean = relations_loss(
        seen["relations"], teacher, batch.sequence_ids, heads
      )
      add("relations_loss", config.relations, mean)
    return found

  return loss
