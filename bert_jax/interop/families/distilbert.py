"""DistilBERT."""

from bert_jax.interop.families import family
from bert_jax.interop.families.family import Family, Key, layer, masked_lm

_POOLED = {"pooler/dense": "pre_classifier", "classifier": "classifier"}
DISTILBERT = Family(
  class_name="DistilBert",
  prefix="distilbert.",
  keys=(
    Key("vocab_size", "vocab_size", 30522),
    Key("hidden_size", "dim", 768),
    Key("num_layers", "n_layers", 6),
    Key("num_heads", "n_heads", 12),
    Key("intermediate_size", "hidden_dim", 3072),
    Key("max_positions", "max_position_embeddings", 512),
    Key("activation", "activation", "gelu"),
    Key("hidden_dropout", "dropout", 0.1),
    Key("attention_dropout", "attention_dropout", 0.1),
    Key("head_dropout", "seq_classif_dropout", 0.2),
    Key("initializer_range", "initializer_range", 0.02),
  ),
  mechanics={"num_segments": 0, "pooler_activation": "relu"},
  fixed={},
  encoder={
    "encoder/embeddings/word": "embeddings.word_embeddings",
    "encoder/embeddings/position": "embeddings.position_embeddings",
    "encoder/embeddings/norm": "embeddings.LayerNorm",
  }
  | layer(
    "transformer.layer.{n}.",
    attention__query="attention.q_lin",
    attention__key="attention.k_lin",
    attention__value="attention.v_lin",
    attention__output="attention.out_lin",
    attention_norm="sa_layer_norm",
    feed_forward__intermediate="ffn.lin1",
    feed_forward__output="ffn.lin2",
    feed_forward_norm="output_layer_norm",
  ),
  heads={
    "ForMaskedLM": masked_lm(
      "vocab_transform", "vocab_layer_norm", "vocab_projector"
    ),
    "ForSequenceClassification": _POOLED,
    "ForMultipleChoice": _POOLED,
    "ForTokenClassification": family.TOKENS,
    "ForQuestionAnswering": family.ANSWERS,
    "Model": {},
  },
  copies={
    "vocab_projector.weight": "distilbert.embeddings.word_embeddings.weight"
  },
)
