"""ALBERT."""

from collections.abc import Mapping
from typing import Any

from bert_jax.interop.families import bert, family
from bert_jax.interop.families.family import Family, Key, layer, masked_lm


def _read(fields: dict[str, Any], _: Mapping[str, Any]) -> dict[str, Any]:
  """Transformers counts how often a group's layers are applied."""
  count = fields["num_layers"] * fields["group_layers"]
  return fields | {"num_layers": count}


def _write(keys: dict[str, Any], _: Mapping[str, Any]) -> dict[str, Any]:
  count = keys["num_hidden_layers"] // keys["inner_group_num"]
  return keys | {"num_hidden_layers": count}


_POOLER = {"pooler/dense": "albert.pooler"}
_MASKED_LM = masked_lm(
  "predictions.dense", "predictions.LayerNorm", "predictions"
)
ALBERT = Family(
  class_name="Albert",
  prefix="albert.",
  keys=(
    *bert.with_defaults(
      bert.KEYS,
      vocab_size=30000,
      hidden_size=4096,
      num_attention_heads=64,
      intermediate_size=16384,
      hidden_act="gelu_new",
      hidden_dropout_prob=0.0,
      attention_probs_dropout_prob=0.0,
    ),
    Key("head_dropout", "classifier_dropout_prob", 0.1),
    Key("embedding_size", "embedding_size", 128),
    Key("layer_groups", "num_hidden_groups", 1),
    Key("group_layers", "inner_group_num", 1),
  ),
  mechanics={"shared_layers": True},
  fixed=bert.FIXED,
  encoder=bert.EMBEDDINGS
  | {"encoder/embeddings/projection": "encoder.embedding_hidden_mapping_in"}
  | layer(
    "encoder.albert_layer_groups.{n}.albert_layers.{m}.",
    attention__query="attention.query",
    attention__key="attention.key",
    attention__value="attention.value",
    attention__output="attention.dense",
    attention_norm="attention.LayerNorm",
    feed_forward__intermediate="ffn",
    feed_forward__output="ffn_output",
    feed_forward_norm="full_layer_layer_norm",
  ),
  heads={
    # Sentence order in place of the next sentence: the same head.
    "ForPreTraining": _POOLER
    | _MASKED_LM
    | {"next_sentence": "sop_classifier.classifier"},
    "ForMaskedLM": _MASKED_LM,
    "ForSequenceClassification": _POOLER | family.TOKENS,
    "ForMultipleChoice": _POOLER | family.TOKENS,
    "ForTokenClassification": family.TOKENS,
    "ForQuestionAnswering": family.ANSWERS,
    "Model": _POOLER,
  },
  copies={
    "predictions.decoder.weight": "albert.embeddings.word_embeddings.weight",
    "predictions.decoder.bias": "predictions.bias",
  },
  read=_read,
  write=_write,
)
