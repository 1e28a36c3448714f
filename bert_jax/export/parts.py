"""The tasks of a model to export, each with its parameters and heads."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from bert_jax import settings
from bert_jax.models.heads import EncoderWithHeads, HiddenStates
from bert_jax.predictor import TOKEN_EMBEDDINGS
from bert_jax.settings import UserError
from bert_jax.tasks import exits
from bert_jax.tasks.ensembles import Ensemble
from bert_jax.tasks.task import Task
from bert_jax.types import Parameters

WEIGHTS = ("inside", "beside")
"""Where weights are: in the model's file, or in one of their own."""
# Protobuf messages hold at most 2 GB.
_MOST_INSIDE = 1_500_000_000

Params = Mapping[str, Any]
"""The parameters of a module, NumPy arrays by name."""


@dataclasses.dataclass(frozen=True)
class Part:
  """One task of the model; a task with several parts has one for each.

  Attributes:
    prefix: begins the names of its outputs and weights, `PART/` or nothing.
    task: bound to its encoder.
    params: the parameters of its module.
    heads: its heads by name.
  """

  prefix: str
  task: Task
  params: Params
  heads: Mapping[str, Any]


def check_weights(weights: str, size: int) -> None:
  """Refuses weights of so many bytes that are to be inside of a file.

  Raises:
    UserError: they are too large, or `weights` is none of `WEIGHTS`.
  """
  settings.choice("weights", weights, dict.fromkeys(WEIGHTS))
  if weights == "inside" and size > _MOST_INSIDE:
    raise UserError(
      f"weights: {size / 1e9:.1f} GB do not fit inside of the model's file; use"
      " beside"
    )


def parts(task: Task, params: Parameters) -> list[Part]:
  """The parts of a task with their parameters, as float32 NumPy arrays.

  Raises:
    UserError: the model is an ensemble.
  """
  if isinstance(task.module, Ensemble):
    raise UserError(
      "an ensemble is several models, which no format holds in one file; export"
      " one of them, or a soup"
    )
  task, params = exits.only_last(task, params, "the export")
  params = _float32(params)
  if not task.parts:
    return [Part("", task, params, _heads(task))]
  return [
    Part(
      f"{name}/",
      part,
      {"encoder": params["encoder"], **params[name]},
      _heads(part),
    )
    for name, part in task.parts.items()
  ]


def module(task: Task) -> EncoderWithHeads:
  """The module of a part, in float32, with the last hidden states as a head.

  Those are its output `token_embeddings`.
  """
  config = dataclasses.replace(
    task.config,
    dtype="float32",
    dense_dtype="",
    attention="xla",
    remat="none",
  )
  named = {task.head_names[name]: x.head for name, x in task.targets.items()}
  return EncoderWithHeads(
    config, {**named, TOKEN_EMBEDDINGS: lambda _: HiddenStates()}
  )


def _heads(task: Task) -> dict[str, Any]:
  return {
    task.head_names[name]: target.head(task.config)
    for name, target in task.targets.items()
  }


def _float32(params: Any) -> Any:
  """A tree of parameters as float32 NumPy arrays."""
  if isinstance(params, Mapping):
    return {name: _float32(value) for name, value in params.items()}
  return np.asarray(params, np.float32)
