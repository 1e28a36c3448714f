"""The published models by name, as fields of `EncoderConfig`."""

from collections.abc import Mapping
from typing import Any


def _sizes(layers: int, width: int, depth: int = 64) -> dict[str, int]:
  return {
    "num_layers": layers,
    "hidden_size": width,
    "num_heads": width // depth,
    "intermediate_size": 4 * width,
  }


_BASE, _LARGE = _sizes(12, 768), _sizes(24, 1024)

# Liu et al. (2019, arXiv:1907.11692); the position embedding starts with two
# unused rows.
_ROBERTA = {
  "family": "roberta",
  "vocab_size": 50265,
  "num_segments": 1,
  "position_offset": 2,
  "layer_norm_epsilon": 1e-5,
}
# Conneau et al. (2019, arXiv:1911.02116).
_XLM_ROBERTA = {**_ROBERTA, "family": "xlm-roberta", "vocab_size": 250002}

# Song et al. (2020, arXiv:2004.09297).
_MPNET = {
  "family": "mpnet",
  **_BASE,
  "vocab_size": 30527,
  "num_segments": 0,
  "position_offset": 2,
  "layer_norm_epsilon": 1e-5,
  "relative_buckets": 32,
}

# He et al. (2021, arXiv:2111.09543).
_DEBERTA = {
  "family": "deberta-v2",
  "vocab_size": 128100,
  "num_segments": 0,
  "layer_norm_epsilon": 1e-7,
  "relative_buckets": 512,
  "disentangled": True,
  "pooler_activation": "gelu",
}

# Sanh et al. (2019, arXiv:1910.01108).
_DISTILBERT = {
  "family": "distilbert",
  **_sizes(6, 768),
  "num_segments": 0,
  "pooler_activation": "relu",
}

# Clark et al. (2020, arXiv:2003.10555).
_ELECTRA = {"family": "electra", "pooler_activation": "gelu"}

# Lan et al. (2019, arXiv:1909.11942), version 2, without dropout.
_ALBERT = {
  "family": "albert",
  "vocab_size": 30000,
  "embedding_size": 128,
  "activation": "gelu_tanh",
  "shared_layers": True,
  "hidden_dropout": 0.0,
  "attention_dropout": 0.0,
}

# The switches of ModernBERT (Warner et al. 2024, arXiv:2412.13663).
_MODERN = {
  "family": "modernbert",
  "num_segments": 0,
  "hidden_dropout": 0.0,
  "attention_dropout": 0.0,
  "layer_norm_epsilon": 1e-5,
  "biases": False,
  "pre_norm": True,
  "gated": True,
  "rotary_base": 160000.0,
  "local_window": 128,
  "local_rotary_base": 10000.0,
  "global_every": 3,
  "pooler_activation": "gelu",
  "head_norm": True,
}
_MODERNBERT = {**_MODERN, "vocab_size": 50368, "max_positions": 8192}

PRESETS: Mapping[str, Mapping[str, Any]] = {
  # The 24 small models of Turc et al. (2019, arXiv:1908.08962), by their
  # names in that release; then the models with other names.
  **{
    f"bert_l{layers}_h{width}": _sizes(layers, width)
    for layers in (2, 4, 6, 8, 10, 12)
    for width in (128, 256, 512, 768)
  },
  "bert_tiny": _sizes(2, 128),
  "bert_mini": _sizes(4, 256),
  "bert_small": _sizes(4, 512),
  "bert_medium": _sizes(8, 512),
  "bert_base": _BASE,
  "bert_base_cased": {**_BASE, "vocab_size": 28996},
  "bert_base_multilingual": {**_BASE, "vocab_size": 119547},
  "bert_base_chinese": {**_BASE, "vocab_size": 21128},
  "bert_large": _LARGE,
  "bert_large_cased": {**_LARGE, "vocab_size": 28996},
  # Wang et al. (2020, arXiv:2002.10957).
  "minilm_l6_h384": _sizes(6, 384, depth=32),
  "minilm_l12_h384": _sizes(12, 384, depth=32),
  "roberta_base": {**_ROBERTA, **_BASE},
  "roberta_large": {**_ROBERTA, **_LARGE},
  "xlm_roberta_base": {**_XLM_ROBERTA, **_BASE},
  "xlm_roberta_large": {**_XLM_ROBERTA, **_LARGE},
  "mpnet_base": _MPNET,
  "deberta_v3_xsmall": {**_DEBERTA, **_sizes(12, 384)},
  "deberta_v3_small": {**_DEBERTA, **_sizes(6, 768)},
  "deberta_v3_base": {**_DEBERTA, **_BASE},
  "deberta_v3_large": {**_DEBERTA, **_LARGE},
  "distilbert_base": _DISTILBERT,
  "distilbert_base_cased": {**_DISTILBERT, "vocab_size": 28996},
  "distilbert_base_multilingual": {**_DISTILBERT, "vocab_size": 119547},
  "electra_small": {**_ELECTRA, **_sizes(12, 256), "embedding_size": 128},
  "electra_base": {**_ELECTRA, **_BASE},
  "electra_large": {**_ELECTRA, **_LARGE},
  "albert_base": {**_ALBERT, **_BASE},
  "albert_large": {**_ALBERT, **_LARGE},
  "albert_xlarge": {**_ALBERT, **_sizes(24, 2048, depth=128)},
  "albert_xxlarge": {**_ALBERT, **_sizes(12, 4096)},
  "modernbert_base": {
    **_MODERNBERT,
    **_sizes(22, 768),
    "intermediate_size": 1152,
  },
  "modernbert_large": {
    **_MODERNBERT,
    **_sizes(28, 1024),
    "intermediate_size": 2624,
  },
  # Of this package, for pretraining from scratch: the vocabulary and depth of
  # BERT-base and about its parameters per layer, with the switches of
  # ModernBERT.
  "modern_base": {
    **_MODERN,
    **_BASE,
    "intermediate_size": 2048,
    "max_positions": 1024,
  },
}
