"""BERT and MiniLM, and the rows and keys that other families share."""

from collections.abc import Sequence
from typing import Any

from bert_jax.interop.families import family
from bert_jax.interop.families.family import Family, Key, layer, masked_lm

FIXED = {
  "position_embedding_type": "absolute",
  "is_decoder": False,
  "add_cross_attention": False,
}

KEYS = (
  Key("vocab_size", "vocab_size", 30522),
  Key("hidden_size", "hidden_size", 768),
  Key("num_layers", "num_hidden_layers", 12),
  Key("num_heads", "num_attention_heads", 12),
  Key("intermediate_size", "intermediate_size", 3072),
  Key("max_positions", "max_position_embeddings", 512),
  Key("num_segments", "type_vocab_size", 2),
  Key("activation", "hidden_act", "gelu"),
  Key("hidden_dropout", "hidden_dropout_prob", 0.1),
  Key("attention_dropout", "attention_probs_dropout_prob", 0.1),
  Key("layer_norm_epsilon", "layer_norm_eps", 1e-12),
  Key("initializer_range", "initializer_range", 0.02),
)

EMBEDDINGS = {
  "encoder/embeddings/word": "embeddings.word_embeddings",
  "encoder/embeddings/position": "embeddings.position_embeddings",
  "encoder/embeddings/segment": "embeddings.token_type_embeddings",
  "encoder/embeddings/norm": "embeddings.LayerNorm",
}
ENCODER = EMBEDDINGS | layer(
  "encoder.layer.{n}.",
  attention__query="attention.self.query",
  attention__key="attention.self.key",
  attention__value="attention.self.value",
  attention__output="attention.output.dense",
  attention_norm="attention.output.LayerNorm",
  feed_forward__intermediate="intermediate.dense",
  feed_forward__output="output.dense",
  feed_forward_norm="output.LayerNorm",
)
HEAD_DROPOUT = Key("head_dropout", "classifier_dropout", None)


def with_defaults(keys: Sequence[Key], **defaults: Any) -> tuple[Key, ...]:
  """The keys, some with other defaults."""
  return tuple(
    key._replace(default=defaults.get(key.name, key.default)) for key in keys
  )


_POOLER = {"pooler/dense": "bert.pooler.dense"}
_MASKED_LM = masked_lm(
  "cls.predictions.transform.dense",
  "cls.predictions.transform.LayerNorm",
  "cls.predictions",
)
_NEXT_SENTENCE = {"next_sentence": "cls.seq_relationship"}
BERT = Family(
  class_name="Bert",
  prefix="bert.",
  keys=(*KEYS, HEAD_DROPOUT),
  mechanics={},
  fixed=FIXED,
  encoder=ENCODER,
  heads={
    "ForPreTraining": _POOLER | _MASKED_LM | _NEXT_SENTENCE,
    "ForMaskedLM": _MASKED_LM,
    "ForNextSentencePrediction": _POOLER | _NEXT_SENTENCE,
    "ForSequenceClassification": _POOLER | family.TOKENS,
    "ForMultipleChoice": _POOLER | family.TOKENS,
    "ForTokenClassification": family.TOKENS,
    "ForQuestionAnswering": family.ANSWERS,
    "Model": _POOLER,
  },
  copies={
    "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
    "cls.predictions.decoder.bias": "cls.predictions.bias",
  },
)
