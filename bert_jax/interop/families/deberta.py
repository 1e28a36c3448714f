"""DeBERTa-v3, and DeBERTa-v2 without its convolution."""

from collections.abc import Mapping
from typing import Any

from bert_jax.interop.families import family
from bert_jax.interop.families.bert import KEYS, with_defaults
from bert_jax.interop.families.family import Family, Key, layer, masked_lm


def _read(fields: dict[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
  """There is no position embedding: positions are as far as buckets reach."""
  reach = config.get("max_relative_positions", -1)
  return fields | {
    "relative_buckets": 2 * config.get("position_buckets", -1),
    "max_positions": reach if reach > 0 else fields["max_positions"],
  }


def _write(keys: dict[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
  return keys | {
    "position_buckets": config["relative_buckets"] // 2,
    "max_relative_positions": -1,
  }


_POOLED = {"pooler/dense": "pooler.dense"} | family.TOKENS
_LM, _LEGACY = "lm_predictions.lm_head", "cls.predictions"
DEBERTA = Family(
  class_name="DebertaV2",
  prefix="deberta.",
  keys=(
    *with_defaults(
      KEYS,
      vocab_size=128100,
      hidden_size=1536,
      num_hidden_layers=24,
      num_attention_heads=24,
      intermediate_size=6144,
      type_vocab_size=0,
      layer_norm_eps=1e-7,
    ),
    Key("head_dropout", "cls_dropout", None),
    Key("pooler_activation", "pooler_hidden_act", "gelu"),
  ),
  mechanics={"disentangled": True},
  fixed={
    "conv_kernel_size": 0,
    "pooler_dropout": 0,
  },
  required={
    "relative_attention": (True,),
    "position_biased_input": (False,),
    "share_att_key": (True,),
    "norm_rel_ebd": ("layer_norm",),
    "pos_att_type": (
      ["p2c", "c2p"],
      ["c2p", "p2c"],
      "p2c|c2p",
      "c2p|p2c",
    ),
  },
  encoder={
    "encoder/embeddings/word": "embeddings.word_embeddings",
    "encoder/embeddings/segment": "embeddings.token_type_embeddings",
    "encoder/embeddings/norm": "embeddings.LayerNorm",
    "encoder/embeddings/relative": "encoder.rel_embeddings",
    "encoder/embeddings/relative_norm": "encoder.LayerNorm",
  }
  | layer(
    "encoder.layer.{n}.",
    attention__query="attention.self.query_proj",
    attention__key="attention.self.key_proj",
    attention__value="attention.self.value_proj",
    attention__output="attention.output.dense",
    attention_norm="attention.output.LayerNorm",
    feed_forward__intermediate="intermediate.dense",
    feed_forward__output="output.dense",
    feed_forward_norm="output.LayerNorm",
  ),
  heads={
    "ForMaskedLM": masked_lm(
      f"{_LEGACY}.transform.dense", f"{_LEGACY}.transform.LayerNorm", _LEGACY
    ),
    "ForSequenceClassification": _POOLED,
    "ForMultipleChoice": _POOLED,
    "ForTokenClassification": family.TOKENS,
    "ForQuestionAnswering": family.ANSWERS,
    "Model": {},
  },
  copies={
    f"{_LEGACY}.decoder.weight": "deberta.embeddings.word_embeddings.weight",
    f"{_LEGACY}.decoder.bias": f"{_LEGACY}.bias",
    # The published files have the head by other names.
    f"{_LM}.bias": f"{_LEGACY}.bias",
    **{
      f"{_LM}.{name}.{leaf}": f"{_LEGACY}.transform.{name}.{leaf}"
      for name in ("dense", "LayerNorm")
      for leaf in ("weight", "bias")
    },
  },
  # The discriminator's head, and a position embedding without use.
  ignored=(
    r"mask_predictions\..*",
    r"(deberta\.)?embeddings\.position_embeddings\.weight",
  ),
  read=_read,
  write=_write,
)
