"""What an encoder is made of."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from bert_jax import settings
from bert_jax.models.presets import PRESETS

# Fields that say only how a model is run, not which it is.
HOW_IT_IS_RUN = (
  "attention",
  "attention_dropout_broadcast",
  "dtype",
  "head_dropout",
  "remat",
)

_MAY_BE_ZERO = {
  "num_segments",
  "embedding_size",
  "position_offset",
  "local_window",
}
_MOST_LAYERS = 1000
_OPTIONS = {
  "activation": ("gelu", "gelu_tanh"),
  "dtype": ("float32", "bfloat16"),
  "attention": ("auto", "xla", "cudnn", "splash", "short"),
  "attention_dropout_broadcast": ("none", "rows", "queries"),
  "pooling": ("first", "mean"),
  "remat": ("none", "minimal", "full"),
  "pooler_activation": ("tanh", "gelu", "relu"),
}


@dataclasses.dataclass(frozen=True)
class EncoderConfig:
  """The sizes and mechanics of an encoder; the defaults are BERT-base.

  One encoder serves every family: what they do in other ways than BERT are
  the switches from `family` on.

  Attributes:
    vocab_size: rows of the word embedding; raised to a vocab_multiple.
    hidden_size: the width of a token's vector.
    num_layers: Transformer layers.
    num_heads: attention heads; must divide hidden_size.
    intermediate_size: the width inside a feed-forward block.
    max_positions: the longest sequence.
    num_segments: rows of the segment embedding; 0 for none.
    activation: `gelu` (exact, with erf: the first release, Hugging Face) or
      `gelu_tanh` (Google's repository since 2019, keras-hub).
    hidden_dropout: the rate after embeddings and each block.
    attention_dropout: the rate on attention weights.
    attention_dropout_broadcast: what has the same dropout mask of attention
      weights. `none`: every weight is dropped by itself, as BERT has it;
      `rows`: all rows and heads have one mask, as Transformers' Flax models
      have it; `queries`: all queries of a row and head lose the same keys,
      which is dropout of whole value vectors, and needs the fewest random
      bits. The last can be done by every attention backend, the others by
      `xla` and `short` alone.
    head_dropout: the rate before the logits of heads for fine-tuning; None is
      hidden_dropout.
    layer_dropouts: for each layer, the lowest first, the rate after its
      blocks in place of hidden_dropout; empty is hidden_dropout for all.
    layer_norm_epsilon: added to the variance.
    initializer_range: standard deviation of the truncated normal that
      kernels and embeddings start from.
    dtype: what activations are computed in, `float32` or `bfloat16`;
      parameters, softmax and LayerNorm statistics stay float32.
    attention: the attention backend: `xla` (plain jax.numpy, everywhere),
      `cudnn` (its fused kernels, on NVIDIA GPUs, in bfloat16), `splash` and
      `short` (Pallas kernels, on TPUs: jax's for rows of any length, and ours
      for up to 512 tokens; on CPUs they are interpreted, for tests), or
      `auto`, the fastest that can do what is asked: see
      `models.attention.choice`.
    family: whose names the parameters bear in other libraries' files, a key
      of `interop.families.FAMILIES`; it changes nothing that is computed.
    embedding_size: the width of the embeddings where a projection takes them
      to hidden_size (ALBERT, ELECTRA); 0 for none.
    position_offset: rows of the position embedding before that of position 0
      (RoBERTa: 2).
    shared_layers: whether all layers are one (ALBERT).
    biases: whether dense layers and norms have biases; what comes last, the
      logits, always has one (ModernBERT: False).
    pre_norm: whether a block's input is normalised, and not the sum after it;
      the first attention, whose input is normalised already, is left so.
    gated: whether the feed-forward block multiplies its activation with a
      second projection (GeGLU: Shazeer 2020, arXiv:2002.05202).
    rotary_base: above 0, queries and keys are rotated by position (RoPE: Su
      et al. 2021, arXiv:2104.09864) in place of a position embedding; this
      is the base of the wave lengths.
    local_window: above 0, tokens of local layers see only those at most half
      of it away.
    local_rotary_base: the rotary base of local layers.
    global_every: with a local_window, layers 0, N, 2N ... are not local.
    pooling: what heads for whole sequences look at, the `first` token or the
      `mean` of all.
    pooler_activation: `tanh`, `gelu` (ELECTRA) or `relu` (DistilBERT).
    head_norm: whether every head begins with a dense layer, the activation
      and a norm (ModernBERT).
    remat: what the backward pass computes anew, for memory: `none`;
      `minimal`, all of a layer but its matrix products, without those of
      attention's weights; `full`, all of a layer but its input.
    vocab_multiple: of what vocab_size is a multiple, so that the word
      embedding divides over devices and fills their tiles (128, say); rows
      beyond the vocabulary stand for no token.
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
  attention_dropout_broadcast: str = "none"
  head_dropout: float | None = None
  layer_dropouts: tuple[float, ...] = ()
  layer_norm_epsilon: float = 1e-12
  initializer_range: float = 0.02
  dtype: str = "float32"
  attention: str = "auto"
  family: str = "bert"
  embedding_size: int = 0
  position_offset: int = 0
  shared_layers: bool = False
  biases: bool = True
  pre_norm: bool = False
  gated: bool = False
  rotary_base: float = 0.0
  local_window: int = 0
  local_rotary_base: float = 0.0
  global_every: int = 1
  pooling: str = "first"
  pooler_activation: str = "tanh"
  head_norm: bool = False
  remat: str = "none"
  vocab_multiple: int = 1

  def __post_init__(self):
    for field in dataclasses.fields(self):
      value, least = getattr(self, field.name), field.name not in _MAY_BE_ZERO
      if field.type is int and value < least:
        raise ValueError(
          f"{field.name}: expected at least {int(least)}, got {value}"
        )
    if self.num_layers > _MOST_LAYERS:
      raise ValueError(
        f"num_layers: expected at most {_MOST_LAYERS}, got {self.num_layers}"
      )
    for name, options in _OPTIONS.items():
      if getattr(self, name) not in options:
        raise ValueError(
          f"{name}: expected one of {', '.join(options)},"
          f" got {getattr(self, name)!r}"
        )
    for name in ("hidden_dropout", "attention_dropout", "head_dropout"):
      if not 0 <= (getattr(self, name) or 0) < 1:
        raise ValueError(
          f"{name}: expected a rate in [0, 1), got {getattr(self, name)}"
        )
    for rate in self.layer_dropouts:
      if not 0 <= rate < 1:
        raise ValueError(
          f"layer_dropouts: expected rates in [0, 1), got {rate}"
        )
    self._check_attention()
    self._check_together()
    rows = -(-self.vocab_size // self.vocab_multiple) * self.vocab_multiple
    object.__setattr__(self, "vocab_size", rows)

  def _check_attention(self):
    drops_weights = (
      self.attention_dropout and self.attention_dropout_broadcast != "queries"
    )
    if drops_weights and self.attention in ("cudnn", "splash"):
      raise ValueError(
        f"attention: {self.attention} has no dropout of attention weights; set"
        " attention_dropout to 0, or attention_dropout_broadcast to queries"
      )
    if self.attention == "cudnn" and self.dtype == "float32":
      raise ValueError("attention: cudnn needs the dtype bfloat16, got float32")

  def _check_together(self):
    if self.hidden_size % self.num_heads:
      raise ValueError(
        f"num_heads: {self.num_heads} heads do not divide hidden_size"
        f" {self.hidden_size}"
      )
    if self.rotary_base and self.hidden_size // self.num_heads % 2:
      raise ValueError(
        "rotary_base: needs heads of an even width, got"
        f" {self.hidden_size // self.num_heads}"
      )
    if self.layer_dropouts and len(self.layer_dropouts) != self.num_layers:
      raise ValueError(
        f"layer_dropouts: {len(self.layer_dropouts)} rates for"
        f" {self.num_layers} layers"
      )
    if self.shared_layers and (
      self.pre_norm or self.local_window or self.layer_dropouts
    ):
      raise ValueError(
        "shared_layers: with pre_norm, local_window or layer_dropouts, layers"
        " differ"
      )
    if bool(self.rotary_base and self.local_window) != bool(
      self.local_rotary_base
    ):
      raise ValueError(
        "local_rotary_base: goes with both rotary_base and local_window"
      )


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
