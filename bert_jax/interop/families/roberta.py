"""RoBERTa and XLM-R."""

from collections.abc import Mapping
from typing import Any

from bert_jax.interop.families import bert, family
from bert_jax.interop.families.family import Family, masked_lm


def heads(prefix: str) -> dict[str, dict[str, str]]:
  """The names of the heads' parameters, with the encoder's prefix."""
  pooler = {"pooler/dense": f"{prefix}pooler.dense"}
  return {
    "ForMaskedLM": masked_lm("lm_head.dense", "lm_head.layer_norm", "lm_head"),
    "ForSequenceClassification": family.CLASSIFIER,
    "ForMultipleChoice": pooler | family.TOKENS,
    "ForTokenClassification": family.TOKENS,
    "ForQuestionAnswering": family.ANSWERS,
    "Model": pooler,
  }


def copies(prefix: str) -> dict[str, str]:
  """The second copies of the masked-LM head's tied parameters."""
  return {
    "lm_head.decoder.weight": f"{prefix}embeddings.word_embeddings.weight",
    "lm_head.decoder.bias": "lm_head.bias",
  }


def _read(fields: dict[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
  """The rows of the position embedding up to that of padding go unused."""
  offset = config.get("pad_token_id", 1) + 1
  rows = fields["max_positions"]
  return family.with_exact_gelu(fields) | {
    "position_offset": offset,
    "max_positions": rows - offset,
  }


def _write(keys: dict[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
  offset = config["position_offset"]
  rows = config["max_positions"] + offset
  return keys | {"pad_token_id": offset - 1, "max_position_embeddings": rows}


def _family(class_name: str, vocab_size: int) -> Family:
  return Family(
    class_name=class_name,
    prefix="roberta.",
    keys=(
      *bert.with_defaults(bert.KEYS, vocab_size=vocab_size),
      bert.HEAD_DROPOUT,
    ),
    mechanics={},
    fixed=bert.FIXED,
    encoder=bert.ENCODER,
    heads=heads("roberta."),
    copies=copies("roberta."),
    read=_read,
    write=_write,
  )


ROBERTA = _family("Roberta", 50265)
XLM_ROBERTA = _family("XLMRoberta", 30522)
