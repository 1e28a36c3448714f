"""Several models of one task that answer together."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from bert_jax import settings
from bert_jax.models.config import EncoderConfig
from bert_jax.tasks.common import losses
from bert_jax.tasks.task import Model
from bert_jax.types import Batch, Parameters


def name(index: int) -> str:
  """Under which a member's parameters are."""
  return f"member_{index}"


@dataclasses.dataclass(frozen=True)
class Ensemble:
  """A `Model` that gives the mean of what its members hold.

  What is averaged are the probabilities (Lakshminarayanan et al. 2017,
  arXiv:1612.01474), or the numbers of a regression; the outputs are the
  logits of these means. The parameters are those of the members, under
  `member_0`, `member_1` and so on.

  Attributes:
    members: models with the same outputs; their encoders may differ.
    task: their task, a name in `bert_jax.tasks.TASKS`.
  """

  members: tuple[Model, ...]
  task: str

  def __post_init__(self):
    settings.choice("ensemble: task", self.task, _MEANS)

  def init(self, key: Any, batch: Batch) -> Mapping[str, Parameters]:
    """`{"params": ...}` with initial values of each member."""
    keys = jax.random.split(key, len(self.members))
    return {
      "params": {
        name(i): member.init(keys[i], batch)["params"]
        for i, member in enumerate(self.members)
      }
    }

  def clone(self, *, config: EncoderConfig) -> "Ensemble":
    """The same members, all on another encoder."""
    members = tuple(member.clone(config=config) for member in self.members)
    return dataclasses.replace(self, members=members)

  def apply(
    self, variables: Mapping[str, Parameters], batch: Batch, **kwargs: Any
  ) -> Any:
    """The task's outputs."""
    params = variables["params"]
    outputs = [
      member.apply({"params": params[name(i)]}, batch, **kwargs)
      for i, member in enumerate(self.members)
    ]
    mean = functools.partial(_MEANS[self.task], batch)
    return jax.tree.map(lambda *members: mean(jnp.stack(members)), *outputs)


Members = Float[Array, "members *output"]


def _log_mean(log_probabilities: Members) -> Array:
  """The log of the mean, from logs."""
  count = len(log_probabilities)
  return jax.nn.logsumexp(log_probabilities, axis=0) - jnp.log(count)


def _of_classes(batch: Batch, logits: Members) -> Array:
  """One of the classes is right."""
  del batch
  return _log_mean(jax.nn.log_softmax(logits, axis=-1))


def _of_choices(batch: Batch, logits: Members) -> Array:
  """One of a row's choices is right; some only pad."""
  possible = batch.targets["choice_weights"] > 0
  return _log_mean(jax.nn.log_softmax(losses.only(possible, logits), axis=-1))


def _of_tokens(batch: Batch, logits: Members) -> Array:
  """One of a row's tokens is right, for each of the last axis."""
  used = (batch.sequence_ids > 0)[..., None]
  return _log_mean(jax.nn.log_softmax(losses.only(used, logits), axis=-2))


def _of_each(batch: Batch, logits: Members) -> Array:
  """Each is right or not."""
  del batch
  yes, no = jax.nn.log_sigmoid(logits), jax.nn.log_sigmoid(-logits)
  return _log_mean(yes) - _log_mean(no)


def _of_numbers(batch: Batch, values: Members) -> Array:
  del batch
  return values.mean(0)


_MEANS: Mapping[str, Callable[[Batch, Members], Array]] = {
  "classification": _of_classes,
  "dialogue": _of_classes,
  "masked_lm": _of_classes,
  "multi_label": _of_each,
  "multiple_choice": _of_choices,
  "next_sentence": _of_classes,
  "pretraining": _of_classes,
  "question_answering": _of_tokens,
  "regression": _of_numbers,
  "replaced_tokens": _of_each,
  "tagging": _of_classes,
}
"""For each task what its outputs say. (Vectors of texts, the outputs of
`embedding`, mean something only beside others of the same model.)"""
