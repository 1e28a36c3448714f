"""Small random models of Transformers, one for each family and head."""

import pathlib

import torch
import transformers

from bert_jax.interop.families import FAMILIES
from bert_jax.interop.huggingface_config import architecture, has_heads
from bert_jax.tasks import TASKS

LABELS = {0: "neither", 1: "same", 2: "other"}
PROBLEMS = {
  "multi_label": "multi_label_classification",
  "regression": "regression",
}
VOCABULARY = 67
_PLAIN = {
  "num_hidden_layers": 2,
  "num_attention_heads": 3,
  "hidden_size": 24,
  "intermediate_size": 40,
  "max_position_embeddings": 40,
  "hidden_dropout_prob": 0.0,
  "attention_probs_dropout_prob": 0.0,
}
# Odd shapes, and what is special to each family, at work in a few tokens.
_CONFIGS = {
  "bert": _PLAIN,
  "roberta": {**_PLAIN, "type_vocab_size": 1, "layer_norm_eps": 1e-5},
  "xlm-roberta": {**_PLAIN, "type_vocab_size": 1, "layer_norm_eps": 1e-5},
  "distilbert": {
    "n_layers": 2,
    "n_heads": 3,
    "dim": 24,
    "hidden_dim": 40,
    "max_position_embeddings": 40,
    "dropout": 0.0,
    "attention_dropout": 0.0,
    "qa_dropout": 0.0,
    "seq_classif_dropout": 0.0,
  },
  "electra": {**_PLAIN, "embedding_size": 10, "summary_last_dropout": 0.0},
  "albert": {
    **_PLAIN,
    "num_hidden_layers": 3,
    "embedding_size": 10,
    "classifier_dropout_prob": 0.0,
  },
  "modernbert": {
    "num_hidden_layers": 5,
    "num_attention_heads": 3,
    "hidden_size": 24,
    "intermediate_size": 40,
    "max_position_embeddings": 40,
    "local_attention": 6,
    "pad_token_id": 0,
    "reference_compile": False,
  },
  "mpnet": {**_PLAIN, "layer_norm_eps": 1e-5},
  "deberta-v2": {
    **_PLAIN,
    "relative_attention": True,
    "position_buckets": 6,
    "position_biased_input": False,
    "share_att_key": True,
    "norm_rel_ebd": "layer_norm",
    "pos_att_type": ["p2c", "c2p"],
  },
}
# Where two published models of a family differ in how they are built.
_VARIANTS = {
  "bert": {
    "tanh gelu": {"hidden_act": "gelu_new"},
    "untied, silu": {"hidden_act": "silu", "tie_word_embeddings": False},
  },
  "roberta": {"relu": {"hidden_act": "relu"}},
  "distilbert": {"relu": {"activation": "relu"}},
  "electra": {
    "base": {"embedding_size": 24},
    "relu, mean": {
      "hidden_act": "relu",
      "summary_type": "mean",
      "summary_activation": "tanh",
      "tie_word_embeddings": False,
    },
    "no projection": {"summary_use_proj": False, "summary_type": "last"},
  },
  "albert": {
    "groups": {
      "hidden_act": "gelu_fast",
      "num_hidden_layers": 6,
      "num_hidden_groups": 3,
      "inner_group_num": 2,
    }
  },
  "mpnet": {"relu": {"hidden_act": "relu"}},
  "deberta-v2": {
    "segments": {"type_vocab_size": 2},
    "relu": {"hidden_act": "relu", "pooler_hidden_act": "tanh"},
  },
  "modernbert": {
    "mean pooling": {"classifier_pooling": "mean"},
    "silu": {"hidden_activation": "silu", "classifier_activation": "relu"},
  },
}


# The heads that matter to a variant; by default all.
_HEADS_OF = {
  "untied, silu": ("masked_lm", "pretraining", "embedding"),
  "relu": ("masked_lm", "classification"),
  "relu, mean": ("masked_lm", "replaced_tokens", "multiple_choice"),
  "no projection": ("multiple_choice",),
  "groups": ("pretraining",),
  "silu": ("masked_lm", "classification", "tagging"),
}


def variants(family: str) -> dict[str, dict]:
  """Configurations of a family, by what is to be added to its name."""
  return {"": {}, **_VARIANTS.get(family, {})}


def make_peer(
  family: str, task: str, changes: dict
) -> transformers.PreTrainedModel:
  """A model with this head, its parameters far from their initial values."""
  known = transformers.AutoConfig.for_model(family)
  config = type(known)(vocab_size=VOCABULARY, **{**_CONFIGS[family], **changes})
  name = architecture(family, TASKS[task])
  config.architectures = [name]
  config._attn_implementation = "eager"
  config.tie_word_embeddings = changes.get("tie_word_embeddings", True)
  labels = {"classification": 3, "tagging": 3, "multi_label": 3}.get(task, 2)
  config.num_labels = labels
  config.problem_type = PROBLEMS.get(task)
  if labels == 3:
    config.id2label = LABELS
    config.label2id = {name: id for id, name in LABELS.items()}
  torch.manual_seed(len(family) + len(task))
  peer = getattr(transformers, name)(config).eval()
  with torch.no_grad():
    for parameter in peer.parameters():
      parameter += 0.2 * torch.randn_like(parameter)
  return peer


def cases() -> list[tuple[str, str, str, dict]]:
  """Family, task, variant and the variant's configuration, all of them."""
  return [
    (name, task.name, variant, changes)
    for name, family in FAMILIES.items()
    for task in TASKS.values()
    if has_heads(family, task)
    for variant, changes in variants(name).items()
    if task.name in _HEADS_OF.get(variant, TASKS)
  ]


def reopened(
  folder: pathlib.Path, peer: transformers.PreTrainedModel
) -> transformers.PreTrainedModel:
  """A model of the peer's class, from a folder."""
  return type(peer).from_pretrained(folder, attn_implementation="eager").eval()
