"""Models as StableHLO programs, by `jax.export`."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
from jax import export

from bert_jax import settings
from bert_jax.export import function
from bert_jax.export.parts import check_weights
from bert_jax.settings import UserError
from bert_jax.tasks.task import Task
from bert_jax.types import Parameters

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")
"""The platforms that a program may be lowered for."""


class Program(NamedTuple):
  """A program and what it takes.

  Attributes:
    data: the program, as `jax.export.deserialize` reads it.
    weights: the first argument of the program; None if it has none.
    inputs: name, dtype and shape of each input.
    outputs: the same of each output.
    version: of the calling convention of `jax.export`.
  """

  data: bytes
  weights: Mapping[str, Any] | None
  inputs: list[dict[str, Any]]
  outputs: list[dict[str, Any]]
  version: int


def build(
  task: Task,
  params: Parameters,
  weights: str = "beside",
  platforms: Sequence[str] = ("cpu", "cuda", "tpu"),
) -> Program:
  """The program of a model, with symbolic numbers of rows and tokens.

  >>> program = build(task, params)
  >>> exported = jax.export.deserialize(bytearray(program.data))
  >>> exported.call(program.weights, {"input_ids": ids, "attention_mask": mask})

  See `function.Function` for inputs and outputs. JAX checks shapes in a call:
  rows are at most as long as the encoder takes.

  Args:
    task: bound to its encoder.
    params: the parameters of its module.
    weights: `inside` as constants of the program, or `beside` it as its first
      argument.
    platforms: some of `PLATFORMS`; the program runs on all of these.

  Raises:
    UserError: an argument is unknown, the model is an ensemble, or the weights
      are too large to be inside.
  """
  for platform in platforms:
    settings.choice("platforms", platform, dict.fromkeys(PLATFORMS))
  if not platforms:
    raise UserError(f"platforms: expected some of {', '.join(PLATFORMS)}")
  made = function.make(task, params)
  check_weights(weights, sum(x.nbytes for x in made.weights.values()))

  def inside(inputs: Mapping[str, Any]) -> dict[str, Any]:
    return made.call(made.weights, inputs)

  is_inside = weights == "inside"
  call, arguments = inside, (made.shapes,)
  if not is_inside:
    call, arguments = made.call, (made.weights, made.shapes)
  exported = export.export(jax.jit(call), platforms=platforms)(*arguments)
  return Program(
    data=bytes(exported.serialize()),
    weights=None if is_inside else made.weights,
    version=exported.calling_convention_version,
    **made.describe(),
  )
