"""The description of a family, for reading and writing its checkpoints."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from bert_jax.interop.name_table import Rows


class Key(NamedTuple):
  """A field of `EncoderConfig`, its key in config.json, and the default."""

  field: str
  name: str
  default: Any


def _same(values: dict[str, Any], _: Mapping[str, Any]) -> dict[str, Any]:
  return values


@dataclasses.dataclass(frozen=True)
class Family:
  """A family of checkpoints.

  Attributes:
    class_name: the start of the names of its classes in Transformers.
    prefix: the prefix of the encoder's tensors in a model with a head.
    keys: the fields of `EncoderConfig` that are in config.json.
    mechanics: the fields that have one value in the whole family.
    fixed: keys of config.json, and the only value that is supported, which is
      also the default.
    encoder: rows without the prefix.
    heads: rows with their prefixes, by the end of the class name, such as
      `ForMaskedLM`; `Model` is the base model, with its pooler if it has one.
    copies: see `name_table.Table`.
    required: keys of config.json with another default, and the only values
      that are supported.
    ignored: patterns of tensors that are not parameters of its models.
    read: corrects the fields made from the keys, given the config.json.
    write: the inverse: corrects the keys, given the `EncoderConfig` as a
      mapping.
  """

  class_name: str
  prefix: str
  keys: Sequence[Key]
  mechanics: Mapping[str, Any]
  fixed: Mapping[str, Any]
  encoder: Rows
  heads: Mapping[str, Rows]
  copies: Mapping[str, str]
  required: Mapping[str, Sequence[Any]] = dataclasses.field(
    default_factory=dict
  )
  ignored: Sequence[str] = ()
  read: Callable[[dict[str, Any], Mapping[str, Any]], dict[str, Any]] = _same
  write: Callable[[dict[str, Any], Mapping[str, Any]], dict[str, Any]] = _same


ACTIVATIONS: Mapping[str, str] = {
  "gelu_python": "gelu",
  "gelu": "gelu",
  "gelu_fast": "gelu_tanh",
  "gelu_accurate": "gelu_tanh",
  "gelu_python_tanh": "gelu_tanh",
  "gelu_new": "gelu_tanh",
  "gelu_pytorch_tanh": "gelu_tanh",
  "leaky_relu": "leaky_relu",
  "linear": "identity",
  "mish": "mish",
  "quick_gelu": "quick_gelu",
  "relu": "relu",
  "relu2": "relu2",
  "relu6": "relu6",
  "sigmoid": "sigmoid",
  "swish": "silu",
  "silu": "silu",
  "tanh": "tanh",
}
"""Activations of Transformers, and our names of the same functions."""


def with_exact_gelu(fields: dict[str, Any]) -> dict[str, Any]:
  """Fields of a family whose masked-LM head always has the exact GELU."""
  return fields | {
    "head_activation": "" if fields["activation"] == "gelu" else "gelu"
  }


def layer(prefix: str, **modules: str) -> dict[str, str]:
  """The rows of a layer, from the names of its modules below `prefix`."""
  return {
    "encoder/layer_{n}/" + ours.replace("__", "/"): prefix + theirs
    for ours, theirs in modules.items()
  }


def masked_lm(dense: str, norm: str, decoder: str) -> dict[str, str]:
  """The rows of a masked-LM head."""
  return {
    "masked_lm/transform/dense": dense,
    "masked_lm/transform/norm": norm,
    "masked_lm": decoder,
  }


# Rows of heads that several families have.
TOKENS = {"classifier": "classifier"}
ANSWERS = {"classifier": "qa_outputs"}
CLASSIFIER = {
  "pooler/dense": "classifier.dense",
  "classifier": "classifier.out_proj",
}
