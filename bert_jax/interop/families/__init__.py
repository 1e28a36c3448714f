"""The families of Hugging Face's library, one file each.

Module names are those of `transformers.models.FAMILY.modeling_FAMILY`, the
defaults of keys those of its configuration classes.
"""

from collections.abc import Mapping

from bert_jax.interop.families.albert import ALBERT
from bert_jax.interop.families.bert import BERT
from bert_jax.interop.families.deberta import DEBERTA
from bert_jax.interop.families.distilbert import DISTILBERT
from bert_jax.interop.families.electra import ELECTRA
from bert_jax.interop.families.family import Family
from bert_jax.interop.families.modernbert import MODERNBERT
from bert_jax.interop.families.mpnet import MPNET
from bert_jax.interop.families.roberta import ROBERTA, XLM_ROBERTA

FAMILIES: Mapping[str, Family] = {
  "bert": BERT,
  "roberta": ROBERTA,
  "xlm-roberta": XLM_ROBERTA,
  "distilbert": DISTILBERT,
  "electra": ELECTRA,
  "albert": ALBERT,
  "modernbert": MODERNBERT,
  "mpnet": MPNET,
  "deberta-v2": DEBERTA,
}
"""Each by its `model_type` and `EncoderConfig.family`."""
