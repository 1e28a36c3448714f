"""Hidden states and relations: what a student learns besides the outputs."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from bert_jax.models.config import EncoderConfig
from bert_jax.settings import UserError
from bert_jax.training.distillation.config import TeacherConfig
from bert_jax.types import Batch, Parameters

NAME = "distillation"
"""The name of the features among a module's outputs, and of their parameters.

Whoever loads a student does without these.
"""


class Wanted(NamedTuple):
  """The features of one encoder.

  Attributes:
    states: numbers of hidden states, 0 for those of the embeddings.
    layer: the number of the layer whose relations are wanted; None for none.
  """

  states: tuple[int, ...] = ()
  layer: int | None = None


class Plan(NamedTuple):
  """What a student learns from which part of its teacher.

  Attributes:
    student: its features.
    teacher: those that they learn from.
    width: of the teacher's hidden states, which the student's are projected
      to; None if they have that already.
    heads: the number of relation heads.
  """

  student: Wanted = Wanted()
  teacher: Wanted = Wanted()
  width: int | None = None
  heads: int = 0


def plan(
  config: TeacherConfig, student: EncoderConfig, teacher: EncoderConfig
) -> Plan:
  """What a student learns besides the outputs.

  Raises:
    UserError: the layer map or the relation heads do not fit the encoders.
  """
  of_student, of_teacher = Wanted(), Wanted()
  width, heads = None, 0
  if config.hidden:
    pairs = [(0, 0)] + [
      (own + 1, other + 1)
      for own, other in enumerate(_layer_map(config, student, teacher))
      if other >= 0
    ]
    own, other = zip(*pairs)
    of_student = of_student._replace(states=own)
    of_teacher = of_teacher._replace(states=other)
    if student.hidden_size != teacher.hidden_size:
      width = teacher.hidden_size
  if config.relations:
    layer, last = config.relation_layer, teacher.num_layers - 1
    if layer > last:
      raise UserError(
        f"config.teacher.relation_layer: expected at most {last}, the teacher's"
        f" last layer, got {layer}"
      )
    of_student = of_student._replace(layer=student.num_layers - 1)
    of_teacher = of_teacher._replace(layer=last if layer < 0 else layer)
    own = teacher.of_layer(of_teacher.layer)
    heads = config.relation_heads or own.num_heads
    last_of_student = student.of_layer(of_student.layer)
    for name, found in (("student", last_of_student), ("teacher", own)):
      inner = found.num_heads * found.head_width
      if inner % heads:
        raise UserError(
          f"config.teacher.relation_heads: {heads} do not divide the {name}'s"
          f" queries of width {inner}"
        )
  return Plan(of_student, of_teacher, width, heads)


def _layer_map(
  config: TeacherConfig, student: EncoderConfig, teacher: EncoderConfig
) -> tuple[int, ...]:
  """For each layer of the student that of the teacher, -1 for none."""
  count, most = student.num_layers, teacher.num_layers
  if not config.layers:
    return tuple((own + 1) * most // count - 1 for own in range(count))
  if len(config.layers) != count:
    raise UserError(
      f"config.teacher.layers: expected {count} numbers, one for each layer of"
      f" the student, got {len(config.layers)}"
    )
  for layer in config.layers:
    if not -1 <= layer < most:
      raise UserError(
        f"config.teacher.layers: the teacher has the layers 0 to {most - 1},"
        f" got {layer}"
      )
  return config.layers


class Observed:
  """A module that also gives features of its encoder, under `NAME`.

  These are, in the encoder's dtype and as far as they are wanted:

    hidden_states: [*rows, states, length, width].
    relations: queries, keys and values, [*rows, 3, length, width].

  Where hidden states are projected, the kernel is a parameter under `NAME`.
  """

  def __init__(
    self,
    module: Any,
    config: EncoderConfig,
    wanted: Wanted,
    width: int | None = None,
  ):
    """Wraps a module.

    Args:
      module: with an `encoder`, such as that of a task; or one that wraps it.
      config: of the encoder.
      wanted: the features.
      width: that hidden states are projected to; None does not project them.
    """
    self._module, self._config = module, config
    self._wanted, self._width = wanted, width

  def init(self, key: Any, batch: Batch) -> dict[str, Parameters]:
    """`{"params": ...}` with initial values."""
    own_key, key = jax.random.split(key)
    params = dict(self._module.init(key, batch)["params"])
    if self._width is not None:
      shape = (self._config.hidden_size, self._width)
      kernel = jax.nn.initializers.lecun_normal()(own_key, shape)
      params[NAME] = {"projection": {"kernel": kernel}}
    return {"params": params}

  def apply(
    self, variables: Mapping[str, Parameters], batch: Batch, **kwargs: Any
  ) -> dict[str, Any]:
    """The module's outputs and the features."""
    params = dict(variables["params"])
    own = params.pop(NAME, None)
    outputs, seen = self._module.apply(
      {"params": params}, batch, mutable=["intermediates"], **kwargs
    )
    encoder = seen["intermediates"]["encoder"]
    rows = batch.token_ids.shape[:-1]

    def stacked(arrays: Sequence[Array]) -> Array:
      found = [x.reshape(*rows, *x.shape[-2:]) for x in arrays]
      return jnp.stack(found, axis=-3)

    features = {}
    if self._wanted.states:
      states = stacked(
        [encoder["hidden_states"][index] for index in self._wanted.states]
      )
      if own is not None:
        states @= own["projection"]["kernel"].astype(states.dtype)
      features["hidden_states"] = states
    if self._wanted.layer is not None:
      layer, call = self._place(self._wanted.layer)
      found = encoder[f"layer_{layer}"]["attention"]["projected"]
      features["relations"] = stacked(found[call])
    return {**outputs, NAME: features}

  def _place(self, layer: int) -> tuple[int, int]:
    """The number of the distinct layer, and of its call."""
    places = [self._config.distinct_layer(index) for index in range(layer + 1)]
    return places[-1], places[:-1].count(places[-1])


def relation_logits(
  vectors: Float[Array, "*rows length width"], heads: int
) -> Float[Array, "*rows heads length length"]:
  """Scaled products of the vectors of all tokens, in float32."""
  vectors = vectors.astype(jnp.float32)
  split = vectors.reshape(*vectors.shape[:-1], heads, -1)
  products = jnp.einsum("...qhd,...khd->...hqk", split, split)
  return products * split.shape[-1] ** -0.5
