"""ELECTRA: its discriminator, and its generator."""

from collections.abc import Mapping
from typing import Any

from bert_jax import settings
from bert_jax.interop.families import bert, family
from bert_jax.interop.families.family import Family, Key, masked_lm

# Values of `summary_type` and ours. The last position of Transformers is the
# last token of a row without padding.
_POOLING = {
  "first": "first",
  "mean": "mean",
  "cls_index": "last",
  "last": "last",
}


def _read(fields: dict[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
  """The width of embeddings, and the summary, which only choices have."""
  fields = family.with_exact_gelu(fields)
  # Embeddings of the encoder's width are not projected.
  if fields["embedding_size"] == fields["hidden_size"]:
    fields |= {"embedding_size": 0}
  if not _has_summary(config):
    return fields
  kind = str(config.get("summary_type", "first"))
  name = config.get("summary_activation", "gelu") or "linear"
  return fields | {
    "pooling": settings.choice("summary_type", kind, _POOLING),
    "pooler_activation": settings.choice(
      "summary_activation", str(name), family.ACTIVATIONS
    ),
    "pooler_projection": bool(config.get("summary_use_proj", True)),
  }


def _write(keys: dict[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
  width = keys["embedding_size"] or keys["hidden_size"]
  keys |= {"embedding_size": width}
  if not _has_summary(keys):
    return keys
  kinds = {ours: theirs for theirs, ours in _POOLING.items()}
  names = {ours: theirs for theirs, ours in family.ACTIVATIONS.items()}
  return keys | {
    "summary_type": kinds[fields["pooling"]],
    "summary_activation": names[fields["pooler_activation"]],
    "summary_use_proj": fields["pooler_projection"],
  }


def _has_summary(config: Mapping[str, Any]) -> bool:
  return "ElectraForMultipleChoice" in (config.get("architectures") or ())


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
  fixed=bert.FIXED,
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
