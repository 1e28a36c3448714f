"""ELECTRA: its discriminator, and its generator."""

from collections.abc import Mapping
from typing import Any

from bert_jax.interop.families import bert, family
from bert_jax.interop.families.family import Family, Key, masked_lm


def _read(fields: dict[str, Any], _: Mapping[str, Any]) -> dict[str, Any]:
  """Embeddings of the encoder's width are not projected."""
  if fields["embedding_size"] == fields["hidden_size"]:
    return fields | {"embedding_size": 0}
  return fields


def _write(keys: dict[str, Any], _: Mapping[str, Any]) -> dict[str, Any]:
  width = keys["embedding_size"] or keys["hidden_size"]
  return keys | {"embedding_size": width}


ELECTRA = Family(
  class_name="Electra",
  prefix="electra.",
  keys=(
    *bert.with_defaults(
      bert.KEYS, hidden_size=256, num_attention_heads=4, intermediate_size=1024
    ),
    bert.HEAD_DROPOUT,
    Key("embedding_size", "embedding_size", 128),
  ),
  mechanics={"pooler_activation": "gelu"},
  # The heads have the exact GELU, whatever the encoder has.
  fixed=bert.FIXED
  | {
    "hidden_act": "gelu",
    "summary_type": "first",
    "summary_use_proj": True,
    "summary_activation": "gelu",
  },
  encoder=bert.ENCODER
  | {"encoder/embeddings/projection": "embeddings_project"},
  heads={
    "ForPreTraining": {
      "transform/dense": "discriminator_predictions.dense",
      "classifier": "discriminator_predictions.dense_prediction",
    },
    "ForMaskedLM": masked_lm(
      "generator_predictions.dense",
      "generator_predictions.LayerNorm",
      "generator_lm_head",
    ),
    "ForSequenceClassification": family.CLASSIFIER,
    "ForMultipleChoice": {
      "pooler/dense": "sequence_summary.summary",
      "classifier": "classifier",
    },
    "ForTokenClassification": family.TOKENS,
    "ForQuestionAnswering": family.ANSWERS,
    "Model": {},
  },
  copies={
    "generator_lm_head.weight": "electra.embeddings.word_embeddings.weight"
  },
  read=_read,
  write=_write,
)
