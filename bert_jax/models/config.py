"""What an encoder is made of, and the published sizes."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from bert_jax import settings


@dataclasses.dataclass(frozen=True)
class EncoderConfig:
  """The sizes and mechanics of a BERT encoder; the defaults are BERT-base.

  Attributes:
    vocab_size: rows of the word embedding.
    hidden_size: the width of a token's vector.
    num_layers: Transformer layers.
    num_heads: attention heads; must divide hidden_size.
    intermediate_size: the width inside a feed-forward block.
    max_positions: rows of the position embedding, the longest sequence.
    num_segments: rows of the segment embedding.
    activation: `gelu` (exact, with erf: the first release, Hugging Face) or
      `gelu_tanh` (Google's repository since 2019, keras-hub).
    hidden_dropout: the rate after embeddings and each block.
    attention_dropout: the rate on attention weights.
    layer_norm_epsilon: added to the variance.
    initializer_range: standard deviation of the truncated normal that
      kernels and embeddings start from.
    dtype: what activations are computed in, `float32` or `bfloat16`;
      parameters, softmax and LayerNorm statistics stay float32.
    attention: the attention backend, a name in `models.attention`.
  """

  vocab_size: int = 30522
  hidden_size: int = 768
  num_layers: int = 12
  num_heads: int = 12
  intermediate_size: int = 3072
  max_positions: int = 512
  num_segments: int = 2
  activation: str = "gelu"
  hidden_dropout: float = 0.1
  attention_dropout: float = 0.1
  layer_norm_epsilon: float = 1e-12
  initializer_range: float = 0.02
  dtype: str = "float32"
  attention: str = "xla"

  def __post_init__(self):
    for field in dataclasses.fields(self):
      value = getattr(self, field.name)
      if field.type is int and value < 1:
        raise ValueError(f"{field.name}: expected at least 1, got {value}")
    if self.hidden_size % self.num_heads:
      raise ValueError(
        f"num_heads: {self.num_heads} heads do not divide hidden_size"
        f" {self.hidden_size}"
      )
    for name, options in {
      "activation": ("gelu", "gelu_tanh"),
      "dtype": ("float32", "bfloat16"),
      "attention": ("xla",),
    }.items():
      if getattr(self, name) not in options:
        raise ValueError(
          f"{name}: expected one of {', '.join(options)},"
          f" got {getattr(self, name)!r}"
        )
    for name in ("hidden_dropout", "attention_dropout"):
      if not 0 <= getattr(self, name) < 1:
        raise ValueError(
          f"{name}: expected a rate in [0, 1), got {getattr(self, name)}"
        )


def _sizes(layers: int, width: int) -> dict[str, int]:
  return {
    "num_layers": layers,
    "hidden_size": width,
    "num_heads": width // 64,
    "intermediate_size": 4 * width,
  }


# The 24 small models of Turc et al. (2019, arXiv:1908.08962), by their names
# in that release, then the sizes that have names of their own.
PRESETS: Mapping[str, Mapping[str, Any]] = {
  **{
    f"bert_l{layers}_h{width}": _sizes(layers, width)
    for layers in (2, 4, 6, 8, 10, 12)
    for width in (128, 256, 512, 768)
  },
  "bert_tiny": _sizes(2, 128),
  "bert_mini": _sizes(4, 256),
  "bert_small": _sizes(4, 512),
  "bert_medium": _sizes(8, 512),
  "bert_base": _sizes(12, 768),
  "bert_base_cased": {**_sizes(12, 768), "vocab_size": 28996},
  "bert_base_multilingual": {**_sizes(12, 768), "vocab_size": 119547},
  "bert_base_chinese": {**_sizes(12, 768), "vocab_size": 21128},
  "bert_large": _sizes(24, 1024),
  "bert_large_cased": {**_sizes(24, 1024), "vocab_size": 28996},
}


def encoder_config(
  section: Mapping[str, Any], where: str = "config.model"
) -> EncoderConfig:
  """An `EncoderConfig` from a config's section.

  Args:
    section: fields of `EncoderConfig`, which override those of the preset
      that the key `preset` may name.
    where: the section's config key, for messages.

  Raises:
    UserError: an unknown preset or key, or a value that does not fit.
  """
  fields = dict(section)
  preset = fields.pop("preset", None)
  if preset is not None:
    known = settings.choice(f"{where}.preset", preset, PRESETS)
    fields = {**known, **fields}
  return settings.from_dict(EncoderConfig, fields, where)
