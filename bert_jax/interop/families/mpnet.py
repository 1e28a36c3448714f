"""MPNet."""

from collections.abc import Mapping
from typing import Any

from bert_jax.interop.families import family, roberta
from bert_jax.interop.families.bert import KEYS, with_defaults
from bert_jax.interop.families.family import Family, layer

# Padding has the id 1, and the position embedding starts after its row.
_OFFSET = 2


def _read(fields: dict[str, Any], _: Mapping[str, Any]) -> dict[str, Any]:
  rows = fields["max_positions"]
  return family.with_exact_gelu(fields) | {"max_positions": rows - _OFFSET}


def _write(keys: dict[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
  rows = config["max_positions"] + _OFFSET
  return keys | {"max_position_embeddings": rows}


MPNET = Family(
  class_name="MPNet",
  prefix="mpnet.",
  keys=tuple(
    key
    for key in with_defaults(KEYS, vocab_size=30527)
    if key.field != "num_segments"
  ),
  mechanics={
    "num_segments": 0,
    "position_offset": _OFFSET,
    "relative_buckets": 32,
  },
  # The number of buckets in use is a constant of the class.
  fixed={"relative_attention_num_buckets": 32},
  encoder={
    "encoder/embeddings/word": "embeddings.word_embeddings",
    "encoder/embeddings/position": "embeddings.position_embeddings",
    "encoder/embeddings/relative": "encoder.relative_attention_bias",
    "encoder/embeddings/norm": "embeddings.LayerNorm",
  }
  | layer(
    "encoder.layer.{n}.",
    attention__query="attention.attn.q",
    attention__key="attention.attn.k",
    attention__value="attention.attn.v",
    attention__output="attention.attn.o",
    attention_norm="attention.LayerNorm",
    feed_forward__intermediate="intermediate.dense",
    feed_forward__output="output.dense",
    feed_forward_norm="output.LayerNorm",
  ),
  heads=roberta.heads("mpnet."),
  copies=roberta.copies("mpnet."),
  read=_read,
  write=_write,
)
