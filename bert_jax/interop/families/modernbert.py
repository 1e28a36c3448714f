"""ModernBERT."""

from collections.abc import Mapping
from typing import Any

from bert_jax.interop.families.family import Family, Key, layer, masked_lm
from bert_jax.interop.name_table import Tensor


def _read(fields: dict[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
  """The activation of heads, and the rotary bases.

  Transformers 5 has a section for these.
  """
  if fields["pooler_activation"] != fields["activation"]:
    fields = fields | {"head_activation": fields["pooler_activation"]}
  sections = config.get("rope_parameters") or {}
  for field, name in (
    ("rotary_base", "full_attention"),
    ("local_rotary_base", "sliding_attention"),
  ):
    base = (sections.get(name) or {}).get("rope_theta", fields[field])
    fields = fields | {field: base}
  if fields["local_rotary_base"] is None:
    fields |= {"local_rotary_base": fields["rotary_base"]}
  return fields


_QKV, _GATED = "layers.{n}.attn.Wqkv", "layers.{n}.mlp.Wi"
_POOLED = {
  "pooler/dense": "head.dense",
  "pooler/norm": "head.norm",
  "classifier": "classifier",
}
_TOKENS = {
  "transform/dense": "head.dense",
  "transform/norm": "head.norm",
  "classifier": "classifier",
}
MODERNBERT = Family(
  class_name="ModernBert",
  prefix="model.",
  keys=(
    Key("vocab_size", "vocab_size", 50368),
    Key("hidden_size", "hidden_size", 768),
    Key("num_layers", "num_hidden_layers", 22),
    Key("num_heads", "num_attention_heads", 12),
    Key("intermediate_size", "intermediate_size", 1152),
    Key("max_positions", "max_position_embeddings", 8192),
    Key("hidden_dropout", "mlp_dropout", 0.0),
    Key("attention_dropout", "attention_dropout", 0.0),
    Key("head_dropout", "classifier_dropout", 0.0),
    Key("layer_norm_epsilon", "norm_eps", 1e-5),
    Key("initializer_range", "initializer_range", 0.02),
    Key("rotary_base", "global_rope_theta", 160000.0),
    Key("local_rotary_base", "local_rope_theta", 10000.0),
    Key("local_window", "local_attention", 128),
    Key("global_every", "global_attn_every_n_layers", 3),
    Key("pooling", "classifier_pooling", "cls"),
    Key("activation", "hidden_activation", "gelu"),
    Key("pooler_activation", "classifier_activation", "gelu"),
  ),
  mechanics={
    "num_segments": 0,
    "biases": False,
    "pre_norm": True,
    "gated": True,
    "head_norm": True,
  },
  fixed={
    "norm_bias": False,
    "attention_bias": False,
    "mlp_bias": False,
    "classifier_bias": False,
    "decoder_bias": True,
  },
  encoder={
    "encoder/embeddings/word": "embeddings.tok_embeddings",
    "encoder/embeddings/norm": "embeddings.norm",
    "encoder/layer_{n}/attention/query": Tensor(_QKV, part=0, parts=3),
    "encoder/layer_{n}/attention/key": Tensor(_QKV, part=1, parts=3),
    "encoder/layer_{n}/attention/value": Tensor(_QKV, part=2, parts=3),
    "encoder/layer_{n}/feed_forward/intermediate": Tensor(_GATED, parts=2),
    "encoder/layer_{n}/feed_forward/gate": Tensor(_GATED, part=1, parts=2),
    "encoder/final_norm": "final_norm",
  }
  | layer(
    "layers.{n}.",
    attention_norm="attn_norm",
    attention__output="attn.Wo",
    feed_forward_norm="mlp_norm",
    feed_forward__output="mlp.Wo",
  ),
  heads={
    "ForMaskedLM": masked_lm("head.dense", "head.norm", "decoder"),
    "ForSequenceClassification": _POOLED,
    "ForMultipleChoice": _POOLED,
    "ForTokenClassification": _TOKENS,
    "ForQuestionAnswering": _TOKENS,
    "Model": {},
  },
  copies={"decoder.weight": "model.embeddings.tok_embeddings.weight"},
  read=_read,
)
