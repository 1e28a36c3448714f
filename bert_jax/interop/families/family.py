"""What is to know of a family to read and write its checkpoints."""

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
  """What is to know of a family.

  Attributes:
    class_name: what the names of its classes begin with.
    prefix: what the encoder's tensors begin with in a model with a head.
    keys: how config.json says what varies.
    mechanics: the other fields of `EncoderConfig`, the same in all of them.
    fixed: keys of config.json, and the only value that is supported.
    encoder: rows, to which the prefix is to be added.
    heads: rows by the end of the class's name, such as `ForMaskedLM`, complete
      with prefixes; `Model` is the base model, with the pooler where it has
      one.
    copies: see `name_table.Table`.
    read: puts right, where the keys alone do not tell, the fields made from
      the config.json that it is given too.
    write: the other way: keys, and the `EncoderConfig` as a mapping.
  """

  class_name: str
  prefix: str
  keys: Sequence[Key]
  mechanics: Mapping[str, Any]
  fixed: Mapping[str, Any]
  encoder: Rows
  heads: Mapping[str, Rows]
  copies: Mapping[str, str]
  read: Callable[[dict[str, Any], Mapping[str, Any]], dict[str, Any]] = _same
  write: Callable[[dict[str, Any], Mapping[str, Any]], dict[str, Any]] = _same


def layer(**modules: str) -> dict[str, str]:
  """The rows of a layer, from the names of its modules."""
  return {
    "encoder/layer_{n}/" + ours.replace("__", "/"): theirs
    for ours, theirs in modules.items()
  }


# Rows of heads that several families have.
TOKENS = {"classifier": "classifier"}
ANSWERS = {"classifier": "qa_outputs"}
